"""A stage over a batch: each document fails alone, also where several are measured together."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

import filters.batch
from filters.batch import Batch, StageFailure, Together, apply
from filters.cap import TimeCapExceeded
from filters.document import Document, Edit


def a_batch(*texts: str) -> Batch:
    documents = [Document(str(number), "", "", text) for number, text in enumerate(texts)]
    return Batch("input", 0, 0, len(texts), documents)


class Lengths:
    """Measures the lengths of texts, and remembers which texts came together."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, documents) -> None:
        self.calls.append([document.text for document in documents])
        if any("bad" in document.text for document in documents):
            raise ValueError("bad")
        if len(documents) > 1 and any("slow" in document.text for document in documents):
            raise TimeCapExceeded("as the cap has it")
        for document in documents:
            document.signals["length"] = len(document.text)


def lengths(batch: Batch) -> list[object]:
    return [document.signals.get("length") for document in batch.documents]


@given(st.lists(st.text("ab", max_size=9)), st.integers(1, 20))
def test_every_document_is_measured_once_in_order_and_calls_are_bounded(texts, most):
    measure = Lengths()
    batch = apply(a_batch(*texts), "lengths", Together(measure, most), 60)
    assert lengths(batch) == [len(text) for text in texts]
    assert [text for call in measure.calls for text in call] == texts
    sizes = [sum(map(len, call)) for call in measure.calls]
    assert all(
        size <= most or len(call) == 1 for call, size in zip(measure.calls, sizes, strict=True)
    )
    # No call could have had the first document of the next as well.
    following = measure.calls[1:]
    assert all(size + len(call[0]) > most for size, call in zip(sizes, following, strict=False))


def test_documents_of_exactly_the_bound_come_together_and_of_one_more_do_not():
    measure = Lengths()
    apply(a_batch("aaaa", "bb", "c"), "lengths", Together(measure, 6), 60)
    assert measure.calls == [["aaaa", "bb"], ["c"]]


def test_of_a_group_only_the_document_that_fails_is_dead():
    measure = Lengths()
    batch = apply(a_batch("one", "bad", "two"), "lengths", Together(measure, 99), 60)
    assert lengths(batch) == [3, None, 3]
    assert [(letter.record, letter.error) for letter in batch.letters] == [("1", "ValueError")]
    assert measure.calls == [["one", "bad", "two"], ["one"], ["bad"], ["two"]]


def test_a_group_that_takes_too_long_is_measured_one_by_one_and_so_are_those_after_it(monkeypatch):
    measure, caps = Lengths(), []

    def time_cap(seconds: float) -> contextlib.nullcontext[None]:
        caps.append(seconds)
        return contextlib.nullcontext()

    monkeypatch.setattr(filters.batch, "time_cap", time_cap)
    batch = apply(a_batch("one", "slow", "next", "last"), "lengths", Together(measure, 8), 60)
    assert caps == [15, 60, 60, 60, 60]
    assert lengths(batch) == [3, 4, 4, 4]
    assert batch.dead == set()
    assert measure.calls == [["one", "slow"], ["one"], ["slow"], ["next"], ["last"]]


@pytest.mark.parametrize("together", [False, True])
def test_what_a_failing_document_took_is_free_before_the_next_and_at_the_end(together):
    taken = []

    class Big:
        pass

    def fail(documents) -> None:
        if len(documents) == 1:
            assert [one() for one in taken] == [None] * len(taken)
        big = Big()
        taken.append(weakref.ref(big))
        raise MemoryError

    def alone(document: Document) -> list[Edit]:
        fail([document])
        return []

    gc.disable()
    try:
        batch = apply(a_batch("one", "two"), "x", Together(fail, 99) if together else alone, 60)
        assert [one() for one in taken] == [None] * (2 + together)
    finally:
        gc.enable()
    assert batch.dead == {"0", "1"}


def test_rejected_and_dead_documents_are_left_out():
    measure = Lengths()
    batch = a_batch("one", "two", "three")
    batch.rejected["0"] = "rule"
    batch.dead.add("2")
    apply(batch, "lengths", Together(measure, 99), 60)
    assert measure.calls == [["two"]]


def test_one_document_that_fails_alone_is_not_tried_twice():
    measure = Lengths()
    batch = apply(a_batch("bad"), "lengths", Together(measure, 99), 60)
    assert batch.dead == {"0"}
    assert measure.calls == [["bad"]]


def test_a_stage_that_does_not_work_ends_the_run():
    def broken(_documents) -> None:
        raise StageFailure("no model")

    for function in (Together(broken, 99), Together(broken, 1)):
        with pytest.raises(StageFailure, match="no model"):
            apply(a_batch("one", "two"), "broken", function, 60)


def test_a_plain_function_has_one_document_at_a_time_and_its_edits_are_kept():
    edit, seen = Edit("stage", "rule", 0, 1), []

    def function(document: Document) -> list[Edit]:
        seen.append(document.text)
        if document.text == "bad":
            raise KeyError("x")
        return [edit] if document.text == "edited" else []

    batch = a_batch("edited", "bad", "", "", "kept")
    for _ in range(2):
        apply(batch, "stage", function, 60)
    assert batch.edits == {"0": [edit, edit]}
    assert batch.dead == {"1"}
    # Also texts that are empty yet, as all are before they are extracted.
    assert seen == ["edited", "bad", "", "", "kept", "edited", "", "", "kept"]
    assert batch.seconds["stage"] > 0


def test_a_function_for_several_takes_one_as_well():
    document = Document("0", "", "", "four")
    assert Together(Lengths(), 9)(document) == []
    assert document.signals == {"length": 4}
