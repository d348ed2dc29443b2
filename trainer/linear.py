"""A linear map whose gradients are the products that XLA's CPU backend computes fast.

The gradient of a weight contracts over tokens. Autodiff writes it in whichever orientation falls
out; on CPU the one with fewer rows in the result is the faster, so that one is computed, and
transposed where need be.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

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
        return jnp.dot(x.T, g)
    # Without the barrier the compiler turns the product around again.
    return jax.lax.optimization_barrier(jnp.dot(g.T, x)).T
