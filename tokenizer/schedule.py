"""The order in which the components of a mixture come, window by window.

At every prefix each component is within one window of its share (Tijdeman, "The chairman assignment
problem", Discrete Mathematics 32, 1980, theorem 1), so that a run that is stopped early has seen
the mixture as well.
"""

from __future__ import annotations

from collections.abc import Sequence


class Schedule:
    """The order of a plan's components, window by window.

    ``taken`` is how many windows of each have been given out: the whole state.
    """

    def __init__(self, counts: Sequence[int], taken: Sequence[int] | None = None) -> None:
        """Begin, or go on from a state. Raises ``ValueError`` for a state of another plan."""
        self._counts = list(counts)
        self._total = sum(counts)
        self.taken = [0] * len(counts) if taken is None else list(taken)
        if len(self.taken) != len(self._counts) or not all(
            0 <= had <= count for had, count in zip(self.taken, self._counts, strict=True)
        ):
            raise ValueError(f"{self.taken} windows taken do not fit a plan of {self._counts}")

    def next(self) -> int:
        """The component of the next window, by its number.

        Of the components that are far enough behind their share, the one that must be served
        soonest. In whole numbers: with k components and D = 2k - 2, component i of n_i windows of N
        may come at step t where D (n_i t - N x_i) >= N, and is due when D (n_i t - N x_i) reaches
        N (D - 1).

        Raises:
          StopIteration: all windows have been given out.
        """
        step = sum(self.taken) + 1
        if step > self._total:
            raise StopIteration
        scale = max(1, 2 * len(self._counts) - 2)
        best, best_slack, best_count = -1, 0, 1
        for number, count in enumerate(self._counts):
            behind = scale * (count * step - self._total * self.taken[number])
            if behind < self._total:
                continue
            slack = self._total * (scale - 1) - behind
            if best < 0 or slack * best_count < best_slack * count:
                best, best_slack, best_count = number, slack, count
        self.taken[best] += 1
        return best
