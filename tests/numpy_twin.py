"""The model and its training step once more, in plain numpy and 64 bits, written from the formulas.

A few operations that know their derivatives, and the model spelled out with them: the whole score
matrix, the whole softmax, no chunks, no parts. Slow, and nothing shared with ``trainer`` but the
names of the parameters.
"""

from __future__ import annotations

import numpy as np


class T:
    """An array that remembers what it came from."""

    def __init__(self, data, parents=()):
        self.data, self.parents, self.grad = np.asarray(data, np.float64), parents, None

    def __add__(self, other):
        other = other if isinstance(other, T) else T(other)
        return T(self.data + other.data, [(self, lambda g: g), (other, lambda g: g)])

    def __mul__(self, other):
        other = other if isinstance(other, T) else T(other)
        return T(
            self.data * other.data,
            [(self, lambda g: g * other.data), (other, lambda g: g * self.data)],
        )

    def __matmul__(self, other):
        return T(
            self.data @ other.data,
            [
                (self, lambda g: g @ np.swapaxes(other.data, -1, -2)),
                (other, lambda g: np.swapaxes(self.data, -1, -2) @ g),
            ],
        )

    def power(self, n):
        return T(self.data**n, [(self, lambda g: g * n * self.data ** (n - 1))])

    def exp(self):
        out = np.exp(self.data)
        return T(out, [(self, lambda g: g * out)])

    def log(self):
        return T(np.log(self.data), [(self, lambda g: g / self.data)])

    def sum(self, axis):
        return T(
            self.data.sum(axis, keepdims=True),
            [(self, lambda g: np.broadcast_to(g, self.data.shape))],
        )

    def view(self, *shape):
        return T(self.data.reshape(shape), [(self, lambda g: g.reshape(self.data.shape))])

    def swap(self, a, b):
        return T(np.swapaxes(self.data, a, b), [(self, lambda g: np.swapaxes(g, a, b))])

    def at(self, index):
        def back(g):
            found = np.zeros_like(self.data)
            np.add.at(found, index, g)
            return found

        return T(self.data[index], [(self, back)])

    def backward(self):
        order, seen = [], set()

        def visit(node):
            if id(node) not in seen:
                seen.add(id(node))
                for parent, _ in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        self.grad = np.ones_like(self.data)
        for node in reversed(order):
            for parent, back in node.parents:
                g = back(node.grad)
                while g.ndim > parent.data.ndim:
                    g = g.sum(0)
                for axis, size in enumerate(parent.data.shape):
                    if size == 1 and g.shape[axis] != 1:
                        g = g.sum(axis, keepdims=True)
                parent.grad = g if parent.grad is None else parent.grad + g


def rms(x, scale, eps):
    return x * ((x * x).sum(-1) * (1 / x.data.shape[-1]) + eps).power(-0.5) * scale


def rope(x, positions, base):
    half = x.data.shape[-1] // 2
    turn = positions[:, None, :, None] * base ** (-np.arange(half) / half)
    a, b = x.at(np.s_[..., :half]), x.at(np.s_[..., half:])
    left = a * np.cos(turn) + b * -np.sin(turn)
    right = b * np.cos(turn) + a * np.sin(turn)
    # Both halves side by side, as products so that no new operation is needed.
    wide = np.eye(half, 2 * half), np.eye(half, 2 * half, half)
    return left @ T(wide[0]) + right @ T(wide[1])


def logits(params, shape, batch):
    """Logits: (rows, tokens, vocabulary)."""
    tokens, segments, positions = (batch[k] for k in ("tokens", "segments", "positions"))
    rows, length = tokens.shape
    eps = shape.norm_eps
    x = params["embedding"].at(tokens)
    allowed = np.tril(np.ones((length, length), bool)) & (
        segments[:, :, None] == segments[:, None, :]
    )
    for n, layer in enumerate(shape.layers):
        own = {k.split(".")[2]: v for k, v in params.items() if k.startswith(f"layers.{n}.")}
        h = rms(x, own["attention_norm"], eps)

        def heads(name, count, h=h, own=own):
            return (h @ own[name]).view(rows, length, count, shape.head).swap(1, 2)

        q = rope(rms(heads("q", layer.heads), own["q_norm"], eps), positions, shape.rope_base)
        k = rope(rms(heads("k", layer.kv_heads), own["k_norm"], eps), positions, shape.rope_base)
        group = np.repeat(np.arange(layer.kv_heads), layer.heads // layer.kv_heads)
        k, v = k.at(np.s_[:, group]), heads("v", layer.kv_heads).at(np.s_[:, group])
        scores = (q @ k.swap(2, 3)) * shape.head**-0.5
        weights = scores.exp() * allowed[:, None]
        mixed = (weights * weights.sum(-1).power(-1)) @ v
        x = x + mixed.swap(1, 2).view(rows, length, -1) @ own["o"]
        h = rms(x, own["ffn_norm"], eps)
        gate = h @ own["gate"]
        sigmoid = ((gate * -1).exp() + 1).power(-1)
        x = x + (gate * sigmoid * (h @ own["up"])) @ own["down"]
    return rms(x, params["norm"], eps) @ params["embedding"].swap(0, 1)


def loss(params, shape, batch, z_loss=1e-6, teacher_share=0.0):
    """The objective and the plain cross-entropy, both a token."""
    tokens, segments = batch["tokens"], batch["segments"]
    found = logits(params, shape, batch)
    logsum = found.exp().sum(-1).log()
    where = np.nonzero((segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0))
    right = found.at((*where, tokens[:, 1:][where])).view(-1, 1)
    logsum = logsum.at(where)
    wanted = right
    if teacher_share:
        taught = found.at((*where, batch["teacher"][where])).view(-1, 1)
        wanted = right * (1 - teacher_share) + taught * teacher_share
    count = len(where[0])
    objective = (logsum + wanted * -1 + logsum * logsum * z_loss).sum(0) * (1 / count)
    return objective, float((logsum.data - right.data).mean())


def afm_step(params, state, grads, step, rate, decay, factor, scale_of):
    """AFM's optimizer, one line a formula. ``step`` counts from 1."""
    norm = np.sqrt(sum((g * g).sum() for g in grads.values()))
    if norm >= 100:
        return norm
    for name, raw in grads.items():
        g = raw * min(1, 1 / norm)
        v = state.setdefault(f"v {name}", np.zeros_like(g))
        m = state.setdefault(f"m {name}", np.zeros_like(g))
        v[...] = 0.95 * v + 0.05 * (g**2 + 1e-30)
        u = g / np.sqrt(v / (1 - 0.95**step))
        u = u / max(1, np.sqrt((u**2).mean()))
        m[...] = 0.95 * m + 0.05 * u
        params[name] -= factor * (rate * scale_of(name) * m + decay * params[name])
    return norm


def adamw_step(params, state, grads, step, rate, decay, factor):
    """AdamW, betas 0.9 and 0.95, gradients clipped at a norm of 1, norms without decay."""
    norm = np.sqrt(sum((g * g).sum() for g in grads.values()))
    for name, raw in grads.items():
        g = raw * min(1, 1 / norm)
        v = state.setdefault(f"v {name}", np.zeros_like(g))
        m = state.setdefault(f"m {name}", np.zeros_like(g))
        m[...] = 0.9 * m + 0.1 * g
        v[...] = 0.95 * v + 0.05 * g * g
        u = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8)
        own = 0 if name.endswith("norm") else decay
        params[name] -= factor * rate * (u + own * params[name])
    return norm
