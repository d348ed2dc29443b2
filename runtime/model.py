"""A quantized model that is ready to run: logits, embeddings, generation, likelihoods.

    model = Model.load("m.cider")
    for piece in model.generate("The tide", tokens=64, temperature=0):
        print(piece.text, end="")

Whatever is computed for a text does not depend, to the last bit, on what else is in a batch, on
the number of threads, or on what was kept of an earlier call. What is drawn depends besides on the
seed and on the number of the prompt in its batch: equal prompts get different texts.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from runtime.adapter_files import read_adapter
from runtime.adapters import ADAPTER_BITS, Identity, LoadedAdapter, identity, load_adapter
from runtime.build import NoLibrary
from runtime.cache import BLOCK, Sequence, shared
from runtime.engine import Engine
from runtime.file import Contents, read
from runtime.lock import Lock
from runtime.native import NativeEngine
from runtime.plain import PlainEngine
from runtime.sampling import MAX_TOKENS, Sampling, choose
from runtime.shape import matrices
from runtime.streaming import TextStream
from tokenizer.overlap import Scored, Window, overlapping
from tokenizer.special import EOS_ID

CONTEXT = 4096
WINDOW = 512
"""Tokens of a window when texts are scored."""
SCORED_TOKENS = 4096
"""Tokens that are scored at a time: their caches are held together."""
KEPT = 8
"""Sequences whose caches are kept for texts that begin alike."""
MAX_THREADS = 256
NUMPY = "numpy"

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Piece:
    """Text that a model has added to the prompt of a number; ``end`` says why it is the last:
    ``eos``, ``stop`` (a stop string) or ``length``."""

    prompt: int
    text: str
    end: str | None = None


class Model:
    """A model's file, mapped, and an engine for it. Threads may share it; they take turns."""

    def __init__(
        self, contents: Contents, *, threads: int | None = None, context: int = CONTEXT,
        cache_bits: int = 16, kernels: str | None = None, keep: int = KEPT,
    ) -> None:  # fmt: skip
        """As ``load``."""
        threads = _processors() if threads is None else threads
        if not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"{threads} threads; there can be 1 to {MAX_THREADS}")
        self.contents, self.tokenizer, self.shape = contents, contents.tokenizer, contents.shape
        self._options = {"context": context, "cache_bits": cache_bits}
        self._threads, self._kernels, self._keep = threads, kernels, keep
        self._lock = Lock()
        self._kept: list[tuple[Identity, Sequence]] = []
        self._adapter: LoadedAdapter | None = None
        self._engine, self._process = self._new_engine(), os.getpid()

    @classmethod
    def load(
        cls, path: str, *, threads: int | None = None, context: int = CONTEXT,
        cache_bits: int = 16, kernels: str | None = None, keep: int = KEPT, verify: bool = True,
    ) -> Model:  # fmt: skip
        """Map a model's file and make it ready.

        Args:
          threads: default: as many as there are processors for this process.
          context: tokens of the longest text.
          cache_bits: of keys and values: 16 (half precision) or 8 (with a scale each).
          kernels: a set by name, or ``numpy``; default: the best for this processor.
          keep: sequences whose caches are kept for later prompts that begin alike.
          verify: compare the digests of all weights, see ``runtime.file.read``.

        Raises:
          CiderFileError: the file is none of ours or damaged.
          NoLibrary: ``kernels`` was asked for and cannot be had.
          OSError, ValueError: it cannot be opened; an option is out of bounds.
        """
        return cls(
            read(path, verify=verify), threads=threads, context=context, cache_bits=cache_bits,
            kernels=kernels, keep=keep,
        )  # fmt: skip

    @property
    def context(self) -> int:
        """Tokens of the longest text."""
        return self._options["context"]

    @property
    def kernels(self) -> str:
        """What the numbers are computed with: a set of kernels, or ``numpy``."""
        return self._engine.name

    def adapter(self, folder: str, *, bits: int = ADAPTER_BITS) -> LoadedAdapter:
        """Read an adapter of this model, ready for ``use`` and ``generate``.

        Args:
          bits: of its factors, 8 or 4: in 4 it costs a token half as much, and is less exact.

        Raises:
          AdapterError: there is none, it is damaged, or it was trained on another base.
        """
        found = read_adapter(folder, self.contents.digest, matrices(self.shape))
        return load_adapter(found, self.shape, bits=bits)

    def use(self, adapter: LoadedAdapter | None) -> None:
        """Compute with an adapter from now on, or with none. The base stays as it is, and texts
        that are being continued keep the one that they began with.

        Raises:
          AdapterError: it was trained on another base.
        """
        self._check(adapter)
        with self._lock:
            self._adapter = adapter

    def logits(self, ids: Listed[int]) -> F32:
        """Logits of what follows each of some ids, from the beginning: (ids, vocabulary).

        Raises:
          CiderFileError: they are not finite, as with weights that are absurdly large. All that
            computes raises it.
        """
        with self._lock:
            return self._ready().logits([(self._new(), list(ids))], every=True)

    def embeddings(self, texts: str | Listed[str]) -> F32:
        """Means over the tokens of what the last norm gives: (texts, width). No token, all 0."""
        texts = _several(texts)
        found = np.zeros((len(texts), self.shape.width), np.float32)
        with self._lock:
            engine = self._ready()
            for number, text in enumerate(texts):
                ids = self._encode(text)
                if ids:
                    hidden = engine.hidden([(self._new(), ids)])
                    found[number] = hidden.mean(0, dtype=np.float64)
        return found

    def score(self, texts: str | Listed[str], *, window: int = WINDOW) -> list[Scored]:
        """How unlikely each text is, in nats by token; the first token of a text is given.

        A text longer than a window is cut in pieces that overlap by half a window, and of each
        piece but the first only the later half counts, as when the model was trained.

        Args:
          window: tokens, from 2 to the context.
        """
        return self.score_ids([self._encode(text) for text in _several(texts)], window=window)

    def score_ids(self, texts: Listed[list[int]], *, window: int = WINDOW) -> list[Scored]:
        """``score`` for texts that are ids already."""
        if not 2 <= window <= self.context:
            raise ValueError(f"windows of {window} tokens; they have 2 to {self.context}")
        nats = [np.zeros(max(0, len(ids) - 1), np.float32) for ids in texts]
        first = [np.zeros(max(0, len(ids) - 1), np.bool_) for ids in texts]
        parts = [
            _Part(number, own, ids[own.start : own.end])
            for number, ids in enumerate(texts)
            for own in overlapping(len(ids), window)
        ]
        for group in _groups(parts):
            targets = [part.targets() for part in group]
            with self._lock:
                found = self._ready().nats([(self._new(), part.ids) for part in group], targets)
            place = 0
            for part in group:
                start, end, counted = part.window
                to = slice(counted, end - 1)
                cut = slice(place + counted - start, place + end - start - 1)
                nats[part.text][to], first[part.text][to] = found[0][cut], found[1][cut]
                place += end - start
        return [Scored(a, b) for a, b in zip(nats, first, strict=True)]

    def generate(
        self, prompts: str | Listed[str], *, tokens: int = 128, stop: str | Listed[str] = (),
        sampling: Sampling | None = None,
        adapters: Listed[LoadedAdapter | None] | None = None,
        streams: Listed[int] | None = None,
    ) -> Iterator[Piece]:  # fmt: skip
        """Go on with one or several texts, all of them at a time; yields text as it comes.

        Args:
          tokens: at most so many for each prompt; also the context ends a text.
          stop: texts that end a continuation and do not belong to it.
          adapters: one for each prompt, None for the base alone; default: the one in use.
          streams: numbers of the prompts, which what is drawn depends on; default: from 0.

        Raises:
          ValueError: a prompt has no token or does not fit the context, or an option is out of
            bounds. All of it before the first piece.
          AdapterError: an adapter was trained on another base.
        """
        prompts, stops = _several(prompts), _several(stop)
        if not 1 <= tokens <= MAX_TOKENS:
            raise ValueError(f"{tokens} tokens to add; there can be 1 to {MAX_TOKENS}")
        own = [self._adapter] * len(prompts) if adapters is None else list(adapters)
        if len(own) != len(prompts):
            raise ValueError(f"{len(own)} adapters for {len(prompts)} prompts; give one for each")
        for adapter in own:
            self._check(adapter)
        drawn = list(range(len(prompts)) if streams is None else streams)
        if len(drawn) != len(prompts):
            raise ValueError(f"{len(drawn)} streams for {len(prompts)} prompts; give one for each")
        texts = []
        for number, prompt in enumerate(prompts):
            ids = self._encode(prompt)
            if not 1 <= len(ids) < self.context:
                raise ValueError(
                    f"a prompt of {len(ids)} tokens; with this context it has 1 to "
                    f"{self.context - 1}"
                )
            texts.append(_Text(number, ids, TextStream(self.tokenizer, stops), own[number]))
        how = sampling or Sampling()
        return self._generate(texts, tokens, how, [how.stream(number) for number in drawn])

    def complete(
        self, prompts: str | Listed[str], *, tokens: int = 128, stop: str | Listed[str] = (),
        sampling: Sampling | None = None,
        adapters: Listed[LoadedAdapter | None] | None = None,
    ) -> list[str]:  # fmt: skip
        """What ``generate`` adds to each prompt, as a whole."""
        prompts = _several(prompts)
        found = [""] * len(prompts)
        pieces = self.generate(
            prompts, tokens=tokens, stop=stop, sampling=sampling, adapters=adapters
        )
        for piece in pieces:
            found[piece.prompt] += piece.text
        return found

    def _generate(
        self, texts: list[_Text], tokens: int, how: Sampling, randoms: list[np.random.Generator]
    ) -> Iterator[Piece]:
        sequences = self._begin_all(texts)
        going = [(s, text.ids[len(s) :], text) for s, text in zip(sequences, texts, strict=True)]
        unfinished = {text.number: sequence for sequence, _, text in going}
        try:
            while going:
                with self._lock:
                    logits = self._ready().logits([(sequence, new) for sequence, new, _ in going])
                left = []
                for row, (sequence, _, text) in zip(logits, going, strict=True):
                    number = choose(row, text.seen, how, randoms[text.number])
                    piece = text.take(number, tokens, self.context)
                    if piece.end:
                        self._remember(unfinished.pop(text.number))
                    else:
                        left.append((sequence, [number], text))
                    if piece.text or piece.end:
                        yield piece
                going = left
        except GeneratorExit:
            # Who asked has enough. What was read serves the next.
            for sequence in unfinished.values():
                self._remember(sequence)
            raise

    def _begin_all(self, texts: list[_Text]) -> list[Sequence]:
        """A sequence for each prompt. Those that others begin with alike are read here, and the
        others have what they share with them."""
        found = [self._begin(text.ids, text.adapter) for text in texts]
        leads = _leads(texts, [len(sequence) for sequence in found])
        needed = {lead for lead, _ in leads.values()}
        waiting = dict.fromkeys(range(len(texts)))
        while waiting and leads:
            # Those whose leads are read.
            now = [n for n in waiting if n not in leads or leads[n][0] not in waiting]
            for number in now:
                del waiting[number]
            for number in now:
                if number in leads:
                    lead, common = leads[number]
                    found[number] = found[lead].beginning(min(common, len(found[lead])))
            new = [
                (found[n], rest) for n in now
                if n in needed and (rest := texts[n].ids[len(found[n]) : -1])
            ]  # fmt: skip
            if new:
                with self._lock:
                    self._ready().logits(new)
        return found

    def _begin(self, ids: list[int], adapter: LoadedAdapter | None) -> Sequence:
        """A sequence that has as much of a prompt's beginning as was kept of its adapter. The
        last token is always computed: its logits are wanted."""
        with self._lock:
            own = identity(adapter)
            alike = [kept for its, kept in self._kept if its == own]
            best = max(alike, key=lambda kept: shared(kept.ids, ids), default=None)
            if best is None:
                return Sequence(self.shape, self._options["cache_bits"], adapter=adapter)
            found = best.beginning(min(shared(best.ids, ids), len(ids) - 1))
            return replace(found, adapter=adapter)

    def _remember(self, sequence: Sequence) -> None:
        """Keep a sequence that no one goes on with; it takes the place of its own beginning. Of its
        adapter the identity alone is kept: whoever loaded the factors bounds their memory."""
        if not self._keep:
            return
        with self._lock:
            own = identity(sequence.adapter)
            others = [
                (its, kept) for its, kept in self._kept
                if its != own or shared(kept.ids, sequence.ids) < len(kept)
            ]  # fmt: skip
            self._kept = [*others, (own, replace(sequence, adapter=None))][-self._keep :]

    def _new(self) -> Sequence:
        return Sequence(self.shape, self._options["cache_bits"], adapter=self._adapter)

    def _check(self, adapter: LoadedAdapter | None) -> None:
        if adapter is not None:
            adapter.check(self.contents.digest)

    def _encode(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text).tolist()
        return found

    def _ready(self) -> Engine:
        """The engine. A process that was forked from another has none of its threads."""
        if self._process != os.getpid():
            self._engine, self._process = self._new_engine(), os.getpid()
        return self._engine

    def _new_engine(self) -> Engine:
        if self._kernels == NUMPY:
            return PlainEngine(self.contents, **self._options)
        try:
            return NativeEngine(
                self.contents, threads=self._threads, kernels=self._kernels, **self._options
            )
        except NoLibrary as error:
            if self._kernels is not None:
                raise
            print(f"cidermill: {error}; numpy computes instead, many times slower", file=sys.stderr)
            return PlainEngine(self.contents, **self._options)


@dataclass
class _Text:
    """A prompt that is being continued: ``ids`` are its own, ``seen`` those and what was added."""

    number: int
    ids: list[int]
    stream: TextStream
    adapter: LoadedAdapter | None
    added: int = 0
    seen: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.seen = list(self.ids)

    def take(self, number: int, tokens: int, context: int) -> Piece:
        """What one more id gives."""
        if number == EOS_ID:
            return Piece(self.number, self.stream.end(), "eos")
        self.added += 1
        self.seen.append(number)
        text = self.stream.add(number)
        if self.stream.stopped:
            return Piece(self.number, text, "stop")
        if self.added == tokens or len(self.seen) >= context:
            return Piece(self.number, text + self.stream.end(), "length")
        return Piece(self.number, text)


@dataclass(frozen=True)
class _Part:
    """A window of a text: its number, and the ids in it."""

    text: int
    window: Window
    ids: list[int]

    def targets(self) -> list[int]:
        """The id behind each, where its prediction counts, else -1: it is not computed."""
        skip = self.window.counted - self.window.start
        return [-1] * skip + self.ids[skip + 1 :] + [-1]


def _groups(parts: list[_Part]) -> Iterator[list[_Part]]:
    group: list[_Part] = []
    tokens = 0
    for part in parts:
        if group and tokens + len(part.ids) > SCORED_TOKENS:
            yield group
            group, tokens = [], 0
        group.append(part)
        tokens += len(part.ids)
    if group:
        yield group


def _leads(texts: Listed[_Text], kept: Listed[int]) -> dict[int, tuple[int, int]]:
    """By the number of a prompt another one that it begins as, and how many tokens they share.

    Neighbours in the order of their ids share the most. It is falling, so that a text comes before
    what it begins with; and those that share no less with the lead of their neighbour have it too,
    so that they need not wait for each other.

    Args:
      kept: tokens of each that need not be read in any case.
    """

    def place(number: int) -> tuple[str, list[int]]:
        return repr(identity(texts[number].adapter)), texts[number].ids

    found: dict[int, tuple[int, int]] = {}
    order = sorted(range(len(texts)), key=place, reverse=True)
    for before, number in itertools.pairwise(order):
        if identity(texts[before].adapter) != identity(texts[number].adapter):
            continue
        ids, lead = texts[number].ids, before
        common = min(shared(texts[before].ids, ids), len(ids) - 1)
        while lead in found and found[lead][1] >= common:
            lead = found[lead][0]
        # Less than a block is not worth a call of its own.
        if common - kept[number] >= BLOCK:
            found[number] = lead, common
    return found


def _several(texts: str | Listed[str]) -> list[str]:
    """A text alone is one text, and not one for each of its characters."""
    return [texts] if isinstance(texts, str) else list(texts)


def _processors() -> int:
    """Processors that this process may use."""
    try:
        return min(MAX_THREADS, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every system
        return min(MAX_THREADS, os.cpu_count() or 1)
