"""Text from ids as they come: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from tokenizer.model import Tokenizer
from tokenizer.model_proto import Kind


class TextStream:
    """Turns ids into text. Bytes that are no UTF-8 become U+FFFD.

    Args:
      stops: texts at which the stream ends; they are not given out. Of several the one that is
        complete first counts, so that nothing waits for a longer one that began before it; of
        those that one id completes, the one that begins first.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        if "" in stops:
            raise ValueError("an empty stop string would end every text at once")
        self._tokenizer, self._stops = tokenizer, stops
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def add(self, number: int) -> str:
        """What can be given out after one more id."""
        return self._give(self._decoder.decode(self._bytes(number)), last=False)

    def end(self) -> str:
        """What is left when no id follows."""
        return self._give(self._decoder.decode(b"", final=True), last=True)

    def _bytes(self, number: int) -> bytes:
        piece, kind = self._tokenizer.pieces[number], self._tokenizer.kinds[number]
        if kind is Kind.BYTE:
            return bytes([int(piece[3:5], 16)])
        return b"" if kind in (Kind.CONTROL, Kind.UNKNOWN) else piece.encode()

    def _give(self, text: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        held = self._held + text
        places = [place for place in map(held.find, self._stops) if place >= 0]
        if places:
            self.stopped, self._held = True, ""
            return held[: min(places)]
        keep = 0 if last else max((_begun(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of a text could be the beginning of a stop string."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
