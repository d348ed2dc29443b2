"""The reader: every window once an epoch, shared by hosts, the same again from any state."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shards_here import write_shards

from tokenizer.mixture import Component, Mixture, plan
from tokenizer.permutation import Permutation
from tokenizer.reader import StateError, WindowReader
from tokenizer.shard_set import ShardSet

MIX = Mixture(
    "m", "", 16,
    (
        Component("web", ("web",), Fraction(1)),
        Component("code", ("code",), Fraction(1), Fraction(5)),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> ShardSet:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(
        folder, {"web-00000": range(1, 60), "web-00001": range(5, 40), "code-00000": [9] * 9}
    )
    return ShardSet.open(str(folder))


def windows_of(batches) -> list[bytes]:
    return [row.tobytes() for batch in batches for row in batch["tokens"]]


def all_windows(shards: ShardSet) -> Counter:
    return Counter(
        row.astype(np.int32).tobytes() for shard in shards.shards for row in shard.tokens
    )


# --- permutation --------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.text(max_size=5))
def test_a_permutation_has_everything_once(size, key):
    order = Permutation(size, key)
    assert sorted(order[n] for n in range(size)) == list(range(size))


def test_another_key_is_another_order():
    orders = {tuple(Permutation(100, str(key))[n] for n in range(100)) for key in range(20)}
    assert len(orders) == 20
    assert tuple(range(100)) not in orders


def test_places_that_are_not_there():
    for place in (-1, 5):
        with pytest.raises(IndexError, match=f"place {place} of 5"):
            Permutation(5, "")[place]


def test_first_places_are_spread_evenly():
    firsts = Counter(Permutation(10, str(key))[0] for key in range(5000))
    assert min(firsts.values()) > 400
    assert max(firsts.values()) < 600


# --- stream -------------------------------------------------------------------------------------


def test_every_window_comes_once(shards):
    found = windows_of(WindowReader(shards, batch=1))
    assert Counter(found) == all_windows(shards)


def test_the_seed_chooses_the_order(shards):
    orders = {tuple(windows_of(WindowReader(shards, seed=seed))) for seed in range(4)}
    assert len(orders) == 4
    assert windows_of(WindowReader(shards, seed=3)) == windows_of(WindowReader(shards, seed=3))


def test_segments_and_positions_follow_the_pieces(shards):
    for batch in WindowReader(shards, batch=4):
        for tokens, segments, positions in zip(*batch.values(), strict=True):
            assert tokens.dtype == segments.dtype == positions.dtype == np.int32
            assert ((tokens == 0) == (segments == 0)).all()
            filled = int((segments > 0).sum())
            steps = np.diff(segments[:filled])
            assert set(steps.tolist()) <= {0, 1}
            assert positions[0] == 0
            expected = np.where(steps == 1, 0, positions[: filled - 1] + 1)
            assert (positions[1:filled] == expected).all()
            assert (positions[filled:] == 0).all()


@pytest.mark.parametrize("hosts", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_hosts_share_one_stream(shards, hosts, batch):
    alone = windows_of(WindowReader(shards, seed=7))
    apart = [
        windows_of(WindowReader(shards, seed=7, batch=batch, host=host, hosts=hosts))
        for host in range(hosts)
    ]
    joined = [window for turn in zip(*apart, strict=True) for window in turn]
    assert joined == alone[: len(joined)]
    reader = WindowReader(shards, batch=batch, hosts=hosts)
    assert len(alone) - len(joined) == reader.dropped < hosts * batch
    assert len(reader) == len(apart[0]) // batch


def test_the_last_windows_come_where_they_are_asked_for(shards):
    readers = [
        WindowReader(shards, batch=4, host=host, hosts=3, drop_last=False) for host in range(3)
    ]
    found = [list(reader) for reader in readers]
    assert Counter(w for batches in found for w in windows_of(batches)) == all_windows(shards)
    assert [len(batches) for batches in found] == [len(reader) for reader in readers]
    assert all(reader.dropped == 0 for reader in readers)


def test_a_mixture_is_kept_at_every_prefix_and_repeats_whole_epochs(shards):
    mixed = plan(MIX, shards.windows(), 40)
    code = {
        row.astype(np.int32).tobytes()
        for s in shards.shards
        if s.source == "code"
        for row in s.tokens
    }
    stream = windows_of(WindowReader(shards, mixed, seed=1))
    for end in range(1, len(stream) + 1):
        assert abs(sum(w in code for w in stream[:end]) - end / 2) < 1
    seen = Counter(w for w in stream if w in code)
    assert max(seen.values()) - min(seen.values()) <= 1


# --- state --------------------------------------------------------------------------------------


@given(st.integers(0, 30), st.integers(1, 3), st.integers(1, 3))
def test_a_stream_goes_on_as_it_would_have(shards, stop, batch, hosts):
    def reader():
        mixed = plan(MIX, shards.windows(), 60)
        return WindowReader(shards, mixed, seed=5, batch=batch, host=hosts - 1, hosts=hosts)

    whole = [b["tokens"].tobytes() for b in reader()]
    first = reader()
    begun = [b["tokens"].tobytes() for b, _ in zip(first, range(stop), strict=False)]
    state = json.loads(json.dumps(first.get_state()))
    again = reader()
    again.set_state(state)
    rest = [b["tokens"].tobytes() for b in again]
    # zip asks the stream for one batch more than it gives on.
    taken = sum(state["taken"]) // (batch * hosts)
    assert begun == whole[: len(begun)]
    assert rest == whole[taken:]


def test_a_state_holds_for_other_hosts_and_batches(shards):
    alone = windows_of(WindowReader(shards, seed=2))
    first = WindowReader(shards, seed=2, batch=4)
    next(iter(first))
    readers = [WindowReader(shards, seed=2, batch=1, host=host, hosts=2) for host in range(2)]
    for reader in readers:
        reader.set_state(first.get_state())
    turns = zip(*(windows_of(reader) for reader in readers), strict=True)
    joined = [window for turn in turns for window in turn]
    assert joined == alone[4 : 4 + len(joined)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "no state of a reader"),
        ({"taken": None}, "no state of a reader"),
        ({"stream": "x"}, "belongs to another stream: other shards, another seed"),
        ({"taken": [10**9, 0]}, "a damaged state"),
        ({"taken": ["a", "b"]}, "a damaged state"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(shards, change, message):
    reader = WindowReader(shards)
    with pytest.raises(StateError, match=message):
        reader.set_state({**reader.get_state(), **change})


def test_a_state_of_another_seed_is_refused(shards):
    with pytest.raises(StateError, match="another seed"):
        WindowReader(shards, seed=1).set_state(WindowReader(shards, seed=2).get_state())


# --- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "a batch of 0; it must be at least 1"),
        ({"host": 2, "hosts": 2}, "host 2 of 2; hosts count from 0"),
        ({"host": -1}, "host -1 of 1"),
    ],
)
def test_options_out_of_bounds(shards, options, message):
    with pytest.raises(ValueError, match=message):
        WindowReader(shards, **options)


def test_a_plan_of_other_shards_is_refused(shards):
    with pytest.raises(ValueError, match="the plan counts on 9 windows of 'web'"):
        WindowReader(shards, plan(MIX, {"web": 9, "code": 9}))
    longer = Mixture("long", "", 32, MIX.components)
    with pytest.raises(ValueError, match="pack with --sequence-length 32"):
        WindowReader(shards, plan(longer, shards.windows()))
