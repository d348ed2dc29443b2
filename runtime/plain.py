"""The engine in numpy, for machines without a compiler: slow, and the same numbers to the last bit.

Every operation is that of ``kernels/body.h``, in its order: sums over a vector are kept in 16 lanes
that are joined by halves, scores add up even and odd numbers of a head apart, values are added one
key after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.cache import BLOCK, Sequence, part_bytes
from runtime.engine import F32, Engine, Step, Steps
from runtime.file import Contents
from runtime.layout import Packed, integers, row
from runtime.shape import LINEAR, ROWS, Layer

I32 = NDArray[np.int32]
ONE = np.float32(1)
EXACT = 1024
"""Columns whose products add up below 2**24, so that f32 holds the sum: 128 * 127 * 1024."""
SCORED = 48
"""Tokens whose logits are held at a time when they are only scored."""


class PlainEngine(Engine):
    """``Engine`` in numpy. Weights are held as f32, four bytes each."""

    def __init__(self, contents: Contents, *, context: int, cache_bits: int) -> None:
        super().__init__(contents, context=context, cache_bits=cache_bits)
        self._weights = {
            name: integers(packed).astype(np.float32).T.copy()
            for name, packed in contents.matrices.items()
        }

    @property
    def name(self) -> str:
        return "numpy"

    def _forward(self, steps: Steps, job: Step) -> None:
        # What overflows reaches the outputs, where it is seen.
        with np.errstate(all="ignore"):
            self._compute(steps, job)

    def _compute(self, steps: Steps, job: Step) -> None:
        shape, eps = self.contents.shape, np.float32(self.contents.shape.norm_eps)
        embedding = self.contents.matrices["embedding"]
        x = np.stack([row(embedding, int(number)) for number in job.ids])
        place = 0
        for number, layer in enumerate(shape.layers):
            own = f"layers.{number}"
            h = self._norm(x, f"{own}.attention_norm")
            values = quantize(h)
            q, k, v = (self._multiply(f"{own}.{name}", values) for name in LINEAR[:3])
            adapt(steps, values, {f"{own}.q": q, f"{own}.k": k, f"{own}.v": v})
            mixed = self._attention(steps, job, own, layer, place, (q, k, v))
            values = quantize(mixed)
            x = x + self._multiply(f"{own}.o", values)
            adapt(steps, values, {f"{own}.o": x})
            h = self._norm(x, f"{own}.ffn_norm")
            values = quantize(h)
            gate, up = (self._multiply(f"{own}.{name}", values) for name in ("gate", "up"))
            adapt(steps, values, {f"{own}.gate": gate, f"{own}.up": up})
            gate = gate / (ONE + exponential(np.float32(0) - gate)) * up
            values = quantize(gate)
            x = x + self._multiply(f"{own}.down", values)
            adapt(steps, values, {f"{own}.down": x})
            place += layer.kv_heads * 2 * part_bytes(shape.head, self.cache_bits)
        last = norm(x, self.contents.vectors["norm"], eps)
        if job.hidden is not None:
            job.hidden[:] = last
        if len(job.output_rows):
            job.logits[:] = self._multiply("embedding", quantize(last[job.output_rows]))
        if job.targets is not None and job.nats is not None and job.first is not None:
            wanted = np.flatnonzero(job.targets >= 0)
            for some in (wanted[at : at + SCORED] for at in range(0, len(wanted), SCORED)):
                rows = self._multiply("embedding", quantize(last[some]))
                for t, logits in zip(some.tolist(), rows, strict=True):
                    found = nats(logits[: shape.vocabulary], int(job.targets[t]))
                    job.nats[t], job.first[t] = found

    def _norm(self, x: F32, name: str) -> F32:
        return norm(x, self.contents.vectors[name], np.float32(self.contents.shape.norm_eps))

    def _multiply(self, name: str, x: tuple[F32, F32]) -> F32:
        return multiply(self.contents.matrices[name], self._weights[name], *x)

    def _attention(
        self, steps: Steps, job: Step, own: str, layer: Layer, place: int,
        projected: tuple[F32, F32, F32],
    ) -> F32:  # fmt: skip
        head, tokens = self.contents.shape.head, len(job.ids)
        q, k, v = (found.reshape(tokens, -1, head) for found in projected)
        q = self._turn(q, f"{own}.q_norm", job.positions, self.query_factor)
        k = self._turn(k, f"{own}.k_norm", job.positions, ONE)
        mixed, begun = [], 0
        for sequence, ids in steps:
            cut = slice(begun, begun + len(ids))
            begun += len(ids)
            positions = job.positions[cut]
            view = _View(sequence, place, layer, head)
            for t, position in zip(range(cut.start, cut.stop), positions.tolist(), strict=True):
                view.put(position, k[t], v[t])
            mixed.append(attend(q[cut], view, positions))
        return np.concatenate(mixed).reshape(tokens, -1)

    def _turn(self, x: F32, name: str, positions: I32, factor: np.float32) -> F32:
        """(tokens, heads, head), normed, turned by its positions, and times a factor."""
        x = self._norm(x, name)
        half = x.shape[-1] // 2
        cos, sin = (table[positions][:, None] for table in (self.cos, self.sin))
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([(a * cos - b * sin) * factor, (b * cos + a * sin) * factor], -1)


class _View:
    """Keys and values of one layer in a sequence's cache."""

    def __init__(self, sequence: Sequence, place: int, layer: Layer, head: int) -> None:
        self.sequence, self.place, self.layer, self.head = sequence, place, layer, head
        self.part = part_bytes(head, sequence.bits)

    def _parts(self, block: int, kv: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        start = self.place + kv * 2 * self.part
        content = self.sequence.blocks[block]
        middle = start + self.part
        return content[start:middle], content[middle : middle + self.part]

    def _keys(self, part: NDArray[np.uint8]) -> NDArray[Any]:
        """A block's keys as they lie: (sixteens, head, 16)."""
        dtype = np.float16 if self.sequence.bits == 16 else np.int8
        return part.view(dtype)[: self.head * BLOCK].reshape(-1, self.head, ROWS)

    def _values(self, part: NDArray[np.uint8]) -> NDArray[Any]:
        dtype = np.float16 if self.sequence.bits == 16 else np.int8
        return part.view(dtype)[: self.head * BLOCK].reshape(BLOCK, self.head)

    def _scales(self, part: NDArray[np.uint8]) -> F32:
        return part[self.head * BLOCK :].view(np.float32)

    def put(self, position: int, keys: F32, values: F32) -> None:
        """Write a token's keys and values, each (kv_heads, head)."""
        block, slot = divmod(position, BLOCK)
        for kv in range(self.layer.kv_heads):
            key, value = self._parts(block, kv)
            codes: Any = (keys[kv], values[kv])
            if self.sequence.bits == 8:
                codes, scales = quantize(np.stack(codes))
                self._scales(key)[slot], self._scales(value)[slot] = scales
            self._keys(key)[slot // ROWS, :, slot % ROWS] = codes[0]
            self._values(value)[slot] = codes[1]

    def get(self, kv: int, count: int) -> tuple[F32, F32]:
        """The first ``count`` keys and values of a head, rounded up to 16: (keys, head)."""
        found: tuple[list[F32], list[F32]] = ([], [])
        for block in range(-(-count // BLOCK)):
            key, value = self._parts(block, kv)
            keys = self._keys(key).transpose(0, 2, 1).reshape(BLOCK, self.head).astype(np.float32)
            values = self._values(value).astype(np.float32)
            if self.sequence.bits == 8:
                keys = keys * self._scales(key)[:, None]
                values = values * self._scales(value)[:, None]
            found[0].append(keys)
            found[1].append(values)
        end = -(-count // ROWS) * ROWS
        return np.concatenate(found[0])[:end], np.concatenate(found[1])[:end]


def attend(q: F32, view: _View, positions: I32) -> F32:
    """Queries (tokens, heads, head) of one sequence over its cache: the same shape."""
    tokens, heads, head = q.shape
    each = heads // view.layer.kv_heads
    mixed = np.zeros_like(q)
    count = int(positions[-1]) + 1
    for kv in range(view.layer.kv_heads):
        keys, values = view.get(kv, count)
        queries = q[:, kv * each : (kv + 1) * each]
        even = np.zeros((tokens, each, len(keys)), np.float32)
        odd = np.zeros_like(even)
        for d in range(0, head, 2):
            even += keys[:, d] * queries[..., d : d + 1]
            odd += keys[:, d + 1] * queries[..., d + 1 : d + 2]
        unseen = np.arange(len(keys)) > positions[:, None, None]
        scores = np.where(unseen, np.float32(-3e38), even + odd)
        weights = exponential(scores - np.fmax.reduce(scores, -1, keepdims=True))
        weights = np.where(unseen, np.float32(0), weights)
        weights = weights * (ONE / (lane_sums(weights) + overflow(scores)))[..., None]
        out = mixed[:, kv * each : (kv + 1) * each]
        for j in range(count):
            # What is not seen yet adds nothing, not even where it is no number.
            np.add(out, values[j] * weights[..., j : j + 1], out=out, where=~unseen[..., j : j + 1])
    return mixed


def adapt(steps: Steps, x: tuple[F32, F32], outputs: dict[str, F32]) -> None:
    """Add to outputs of maps of one input, in place, what the adapters of their sequences add.

    Args:
      x: the input as ``quantize`` gives it.
      outputs: (tokens, rows) by the map's name, or what they were added to.
    """
    first, begun = next(iter(outputs)), 0
    for sequence, ids in steps:
        cut = slice(begun, begun + len(ids))
        begun += len(ids)
        adapter = sequence.adapter
        if adapter is None or first not in adapter.inner:
            continue
        inner = adapter.inner[first]
        weights = integers(inner.packed).astype(np.float32).T
        low = multiply(inner.packed, weights, x[0][cut], x[1][cut])
        if inner.ranks is not None:
            low *= inner.ranks
        for name, y in outputs.items():
            if name in adapter.outer:
                b = adapter.outer[name]
                values, scales = quantize(low[:, b.first : b.first + b.rank])
                found = values @ b.integers().astype(np.float32).T  # below 2**24: exact
                y[cut] += found * np.repeat(b.scales, ROWS) * scales[:, None]


def multiply(packed: Packed, weights: F32, values: F32, scales: F32) -> F32:
    """Quantized vectors (vectors, columns) times a matrix: (vectors, padded rows).

    Args:
      weights: the whole numbers of the matrix as f32, (columns, padded rows).
    """
    acc = np.zeros((len(values), weights.shape[1]), np.int64)
    for at in range(0, packed.columns, EXACT):
        acc += (values[:, at : at + EXACT] @ weights[at : at + EXACT]).astype(np.int64)
    found = acc.astype(np.float32)
    if packed.bits == 8:
        plain: F32 = found * packed.affine * scales[:, None]
        return plain
    scale, offset = (np.repeat(packed.affine[:, part], ROWS) for part in (0, 1))
    sums = values.sum(1, dtype=np.float64).astype(np.float32)
    shifted: F32 = (found * scale + offset * sums[:, None]) * scales[:, None]
    return shifted


def quantize(x: F32) -> tuple[F32, F32]:
    """Vectors (vectors, n) as whole numbers from -127 to 127, in f32, and a scale for each."""
    most = np.fmax.reduce(np.abs(x), -1)
    some = most > np.float32(1e-30)
    with np.errstate(all="ignore"):
        odd = overflow(x)
        factor = np.where(some, np.float32(127) / most, np.float32(0))
        values = x * factor[:, None]
    values = np.where(values > -127, values, np.float32(-127))
    values = np.rint(np.where(values < 127, values, np.float32(127)))
    return values, np.where(some, most / np.float32(127), np.float32(0)) + odd


def norm(x: F32, scale: F32, eps: np.float32) -> F32:
    """RMSNorm over the last dimension."""
    mean = lane_sums(x * x) / np.float32(x.shape[-1])
    inverse = ONE / np.sqrt(mean + eps) + (mean - mean)  # squares that overflow leave no number
    found: F32 = x * inverse[..., None] * scale
    return found


def overflow(x: F32) -> F32:
    """Over the last dimension: 0 where all numbers are finite, else not a number."""
    found: F32 = (x - x).sum(-1)
    return found


def lane_sums(x: F32) -> F32:
    """Sums over the last dimension, a multiple of 16."""
    parts = x.reshape(*x.shape[:-1], -1, 16)
    acc = np.zeros_like(parts[..., 0, :])
    for number in range(parts.shape[-2]):
        acc = acc + parts[..., number, :]
    for half in (8, 4, 2, 1):
        acc = acc[..., :half] + acc[..., half : 2 * half]
    found: F32 = acc[..., 0]
    return found


_POLYNOMIAL = (
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
    5.0000001201e-1,
)  # fmt: skip


def exponential(x: F32) -> F32:
    """exp as in Moshier's Cephes (expf), from -87 to 88."""
    x = np.where(x > -87, x, np.float32(-87))
    x = np.where(x < 88, x, np.float32(88))
    n = np.rint(x * np.float32(1.44269504))
    r = x - n * np.float32(0.693359375)
    r = r - n * np.float32(-2.12194440e-4)
    p = np.full_like(r, _POLYNOMIAL[0])
    for factor in _POLYNOMIAL[1:]:
        p = p * r + np.float32(factor)
    p = p * (r * r) + r + ONE
    found: F32 = p * ((n.astype(np.int32) + 127) << 23).view(np.float32)
    return found


def nats(logits: F32, target: int) -> tuple[np.float32, bool]:
    """-log softmax(logits)[target], and whether none is greater and none before is equal."""
    filled = np.full(-(-len(logits) // 16) * 16, np.float32(-3e38))
    filled[: len(logits)] = logits
    most, lost = np.fmax.reduce(filled), float(overflow(filled))
    total = float(lane_sums(exponential(filled - most)))
    found = np.log(np.float64(total)) + (float(most) - float(logits[target]))
    return np.float32(found + lost), bool(lost == 0) and int(np.argmax(logits)) == target
