"""The decoded bytes ahead of a record parser, with where in the raw input they came from."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from pipelines.sources.compression import Block

_COMPACT_BYTES = 1 << 20
_OVERLAP = 4096
"""Bytes kept while searching, so that a record start across two blocks is found."""


class Window:
    """A growing buffer over decoded blocks that stops at damage.

    ``data[position:]`` are the bytes not yet consumed. Once a block reports damage, ``damage``
    holds it and no more bytes are taken until ``pass_damage``: a record must not be stitched
    together across lost bytes. ``base`` is where an uncompressed input begins in its file.
    """

    def __init__(self, blocks: Iterator[Block], base: int = 0) -> None:
        self._blocks = blocks
        self._base = base
        self._members: deque[tuple[int, int]] = deque()
        self._compressed = True
        self.data = bytearray()
        self.position = 0
        self.damage: Block | None = None
        self.ended = False

    def more(self) -> bool:
        """Append the next block; false at damage and at the end of the input."""
        if self.damage is not None or self.ended:
            return False
        if self.position > _COMPACT_BYTES:
            self._compact()
        block = next(self._blocks, None)
        if block is None:
            self.ended = True
            return False
        self._compressed = block.compressed
        if block.starts_member or not self._members:
            self._members.append((self._base + len(self.data), block.offset))
        self.data += block.data
        if block.error:
            self.damage = block
        return True

    def need(self, size: int) -> bool:
        """Have ``size`` bytes ahead, if the input holds them before any damage."""
        while len(self.data) - self.position < size:
            if not self.more():
                return False
        return True

    def pass_damage(self) -> Block:
        """Give up what stands before the damage and go on behind it."""
        damage = self.damage
        if damage is None:
            raise ValueError("there is no damage to pass; check `damage` first")
        self.position = len(self.data)
        self.damage = None
        return damage

    def offset_of(self, position: int) -> int:
        """The raw offset of a position in ``data``: that of its member if compressed."""
        absolute = self._base + position
        while len(self._members) > 1 and self._members[1][0] <= absolute:
            self._members.popleft()
        if not self._compressed:
            return absolute
        return self._members[0][1] if self._members else 0

    def starts_member(self, position: int) -> bool:
        """Whether a reader that starts in the raw input can begin at this position."""
        if not self._compressed:
            return True
        absolute = self._base + position
        return any(start == absolute for start, _ in self._members)

    def member_start_after(self, position: int, end: int, prefix: bytes) -> int:
        """Where the first member with ``prefix`` begins in ``data`` after ``position``, or -1."""
        for absolute, _ in self._members:
            start = absolute - self._base
            if position < start < end and self.data.startswith(prefix, start):
                return start
        return -1

    def seek(self, pattern: re.Pattern[bytes], position: int, prefix: bytes) -> bool:
        """Move to the next record start behind this one, not before ``position``.

        False at damage or the end of the input.

        A record starts where ``pattern`` matches (at its group 1) or where a member begins with
        ``prefix``. On false, everything before the damage or the end has been consumed.
        """
        here = self._base + self.position
        while True:
            found = pattern.search(self.data, position)
            start = found.start(1) if found else -1
            # A damaged record at the start of its member must not be found again.
            behind = max(position - 1, here - self._base)
            member = self.member_start_after(behind, len(self.data), prefix)
            if member >= 0 and (start < 0 or member < start):
                start = member
            if start >= 0:
                self.position = start
                return True
            self.position = max(position, len(self.data) - _OVERLAP)
            if not self.more():
                self.position = len(self.data)
                return False
            position = self.position

    def _compact(self) -> None:
        del self.data[: self.position]
        self._base += self.position
        self.position = 0
