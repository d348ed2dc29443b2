"""A linear map whose gradients are the products that XLA's CPU backend computes fast.

The gradient of a weight contracts over tokens, the first dimension of both factors. The fast
product contracts over the last of the first, so the narrower factor is transposed beforehand; that
costs little beside what it saves.
"""

from __future__ import annotations

import jax

Array = jax.Array


@jax.custom_vjp
def linear(x: Array, weight: Array) -> Array:
    """``x`` (..., in) times ``weight`` (in, out)."""
    return x @ weight


def _forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ weight, (x, weight)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, weight = saved
    return g @ weight.T, product_over_tokens(x, g)


linear.defvjp(_forward, _backward)


def product_over_tokens(x: Array, g: Array) -> Array:
    """``x`` (..., a) and ``g`` (..., b) to (a, b), summed over everything before."""
    x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    if x.shape[-1] <= g.shape[-1]:
        return _turned(x) @ g
    # Without the barrier the compiler turns the product around again.
    return jax.lax.optimization_barrier(_turned(g) @ x).T


def _turned(x: Array) -> Array:
    """The transpose as an array of its own: the barrier keeps it out of the product."""
    return jax.lax.optimization_barrier(x.T)
