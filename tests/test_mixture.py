"""Mixtures: shares exact to one window, in all and at every prefix, and repeats within bounds."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.mixture import (
    Component,
    Mixture,
    MixtureError,
    Plan,
    natural,
    plan,
    share_out,
)
from tokenizer.schedule import Schedule

COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def mixture(*components: Component, **more) -> Mixture:
    return Mixture("m", "", 16, components, **more)


def component(name: str, share=None, repeats=1, **more) -> Component:
    sources = more.pop("sources", (name,))
    return Component(name, sources, share and Fraction(share), Fraction(repeats), **more)


# --- schedule -----------------------------------------------------------------------------------


@given(COUNTS)
def test_at_every_prefix_each_is_within_one_window_of_its_share(counts):
    schedule = Schedule(counts)
    total = sum(counts)
    for step in range(1, total + 1):
        schedule.next()
        assert sum(schedule.taken) == step
        for count, taken in zip(counts, schedule.taken, strict=True):
            assert abs(Fraction(count * step, total) - taken) < 1
    assert schedule.taken == counts
    with pytest.raises(StopIteration):
        schedule.next()


@given(COUNTS, st.data())
def test_a_schedule_goes_on_from_any_state(counts, data):
    whole = Schedule(counts)
    order = [whole.next() for _ in range(sum(counts))]
    place = data.draw(st.integers(0, sum(counts)))
    first = Schedule(counts)
    begun = [first.next() for _ in range(place)]
    again = Schedule(counts, first.taken)
    assert begun + [again.next() for _ in range(sum(counts) - place)] == order


@pytest.mark.parametrize("taken", [[1], [3, 0], [-1, 0]])
def test_a_state_of_another_plan_is_refused(taken):
    with pytest.raises(ValueError, match="do not fit a plan of"):
        Schedule([2, 2], taken)


# --- shares -------------------------------------------------------------------------------------


@given(st.lists(st.fractions(Fraction(1, 100), 100), min_size=1, max_size=8), st.integers(0, 5000))
def test_shares_are_exact_to_one_window(weights, total):
    counts = share_out(weights, total)
    assert sum(counts) == total
    for weight, count in zip(weights, counts, strict=True):
        assert abs(weight * total / sum(weights) - count) < 1


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(1, 20), st.integers(1, 4)),
             min_size=1, max_size=5)
)  # fmt: skip
def test_without_a_total_the_bounds_are_reached_and_kept(rows):
    parts = [component(f"c{n}", share, repeats) for n, (_, share, repeats) in enumerate(rows)]
    windows = {f"c{n}": available for n, (available, _, _) in enumerate(rows)}
    found = plan(mixture(*parts), windows)
    assert all(part.windows <= part.available * part.max_repeats for part in found.parts)
    with pytest.raises(MixtureError, match=f"ask for at most {found.windows} windows"):
        plan(mixture(*parts), windows, found.windows + len(rows) + 1)


def test_a_bound_is_met_just_so_and_broken_by_one_more():
    parts = mixture(component("a", 1, repeats=2), component("b", 1))
    assert [p.windows for p in plan(parts, {"a": 50, "b": 100}, 200).parts] == [100, 100]
    with pytest.raises(MixtureError) as error:
        plan(parts, {"a": 50, "b": 100}, 202)
    assert str(error.value) == (
        "202 windows of the mixture 'm' are 101 of 'a', which has 50 and may repeat them 2 times; "
        "ask for at most 200 windows (3200 tokens), or raise max_repeats"
    )


def test_without_shares_each_is_as_large_as_it_is():
    found = plan(
        mixture(component("a"), component("b", sources=("b*",))), {"a": 7, "b1": 2, "b2": 1}
    )
    assert [(p.name, p.sources, p.windows) for p in found.parts] == [
        ("a", ("a",), 7),
        ("b", ("b1", "b2"), 3),
    ]
    assert natural("n", {"b": 2, "a": 1, "none": 0}, 8).windows == 3


# --- components ---------------------------------------------------------------------------------


def test_the_first_component_that_takes_a_source_has_it():
    found = mixture(
        component("code", sources=("code*", "stack")), component("rest", sources=("*",))
    ).assign(["web", "code-py", "stack"])
    assert found == {"code": ("code-py", "stack"), "rest": ("web",)}


def test_a_source_that_nobody_takes_is_told_unless_it_is_ignored():
    with pytest.raises(
        MixtureError, match="no component of the mixture 'm' takes the source 'web'"
    ):
        mixture(component("code")).assign(["code", "web"])
    assert mixture(component("code"), ignore=("w*",)).assign(["code", "web"]) == {"code": ("code",)}


def test_an_absent_component_is_told_unless_it_is_optional():
    with pytest.raises(MixtureError, match=r"needs 'math' \(math\), which these shards lack"):
        plan(mixture(component("web", 3), component("math", 1)), {"web": 10})
    parts = mixture(component("web", 2), component("code", 1), component("math", 5, optional=True))
    found = plan(parts, {"web": 20, "code": 20})
    assert [(p.name, p.windows) for p in found.parts] == [("web", 20), ("code", 10)]
    assert found.absent == ("math",)
    assert any("math" in line and "absent" in line for line in found.lines())


def test_a_plan_prints_shares_and_repeats():
    lines = plan(
        mixture(component("a", 3, repeats=2), component("b", 1)), {"a": 30, "b": 20}
    ).lines()
    assert lines[1].split() == ["a", "60", "960", "75.0%", "2.00", "a"]
    assert lines[2].split() == ["b", "20", "320", "25.0%", "1.00", "b"]


def test_a_plan_comes_back_from_json():
    found = plan(mixture(component("a", 3, repeats=2), component("b", 1)), {"a": 30, "b": 20})
    assert Plan.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    for damaged in ({}, {**found.to_dict(), "parts": [{}]}, {**found.to_dict(), "parts": 3}):
        with pytest.raises(MixtureError, match="this is no plan of a mixture"):
            Plan.from_dict(damaged)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: component("a", -1), "the share of 'a' is -1; it must be above 0"),
        (lambda: component("a", repeats=0), "max_repeats of 'a' is 0; it must be above 0"),
        (lambda: component("a", sources=()), "'a' names no source"),
        (lambda: mixture(component("a"), component("a")), "two components are called 'a'"),
        (
            lambda: mixture(component("a", 1), component("b")),
            "give every component a share, or none",
        ),
        (mixture, "the mixture has no component"),
        (lambda: mixture(component("a"), long_tokens=1), "long_tokens is 1"),
    ],
)
def test_what_makes_no_mixture(make, message):
    with pytest.raises(ValueError, match=message):
        make()
