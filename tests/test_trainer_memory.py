"""What has been freed goes back to the system, and a run sees to it."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from training_here import training, write_text_shards

from trainer import loop
from trainer.memory import give_back

PIECE = 1 << 16
"""Bytes that glibc takes from its heap and not from the system; it gives back heaps' ends alone."""


def resident() -> int:
    with open("/proc/self/statm") as handle:
        return int(handle.read().split()[1]) * 4096


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library has no malloc_trim"
)
def test_what_lies_freed_between_what_is_kept_is_given_back():
    held = [np.ones(PIECE, np.uint8) for _ in range(1600)]
    kept = held[::16]
    del held
    before = resident()
    give_back()
    assert before - resident() > 1000 * PIECE
    assert all(own[0] == 1 for own in kept)


def test_a_run_gives_back_what_compiling_and_each_validation_left(tmp_path, monkeypatch):
    called: list[int] = []
    run = training(tmp_path / "run", write_text_shards(tmp_path / "shards"))
    monkeypatch.setattr(loop, "give_back", lambda: called.append(run._place.step))
    run.run()
    # Of 12 steps the first compiles; behind the 6th and the last are validations, then the final.
    assert called == [0, 6, 12, 12]
