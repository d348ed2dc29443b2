"""URL rules."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters import url
from filters.url import BlockListError

RULES = url.rules()


@pytest.mark.parametrize(
    ("address", "host", "domain"),
    [
        ("http://www.Example.co.uk:80/a", "www.example.co.uk", "example.co.uk"),
        ("https://user:pw@shop.example.org./x", "shop.example.org", "example.org"),
        ("http://xn--bcher-kva.example/", "bücher.example", "bücher.example"),
        ("http://8.8.4.4/x", "8.8.4.4", "8.8.4.4"),
        ("example.org/page", "example.org", "example.org"),
        ("file:notes.html", "", ""),
        ("http://[bad", "", ""),
        ("", "", ""),
    ],
)
def test_host_and_domain(address, host, domain):
    measured = RULES.measure(address)
    assert (measured["url.host"], measured["url.domain"]) == (host, domain)


@pytest.mark.parametrize(
    ("address", "blocked"),
    [
        ("http://spam-block.example/a", 1),
        ("http://deep.down.spam-block.example/", 1),
        ("http://notspam-block.example/", 0),
        ("http://example.org/spam-block.example", 0),
    ],
)
def test_a_listed_domain_blocks_its_subdomains_only(address, blocked):
    assert RULES.measure(address)["url.blocked"] == blocked


@pytest.mark.parametrize(
    ("signal", "inside", "outside"),
    [
        ("url.blocked", "http://a.test/", "http://a.spam-block.example/"),
        ("url.banned_words", "http://essex.test/scunthorpe", "http://a.test/free/porno/1"),
        ("url.banned_substrings", "http://a.test/online/casino", "http://myonlinecasino1.test/"),
        ("url.soft_words", "http://a.test/casino", "http://a.test/casino/bonus"),
    ],
)
def test_bounds(signal, inside, outside):
    bound = next(s.default for s in url.SIGNALS if s.name == signal)
    assert bound.admits(RULES.measure(inside)[signal])
    assert not bound.admits(RULES.measure(outside)[signal])
    assert RULES.evidence(inside, signal) in ("", "casino")
    assert RULES.evidence(outside, signal)


def test_soft_words_are_counted_once_each():
    assert RULES.measure("http://a.test/casino/casino")["url.soft_words"] == 1


def test_percent_escapes_are_read():
    assert RULES.measure("http://a.test/p%6Frno")["url.banned_words"] == 1


@given(st.text())
def test_no_address_raises(address):
    assert set(RULES.measure(address)) == {signal.name for signal in url.SIGNALS}


LISTS = {
    "plain": b"# comment\nbad.example\n\n*.worse.example # why\n",
    "hosts": b"127.0.0.1 localhost\n0.0.0.0 bad.example\n0.0.0.0 worse.example\n",
    "gzip": gzip.compress(b"bad.example\nworse.example\n"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_the_user(kind, tmp_path):
    path = tmp_path / "list"
    path.write_bytes(LISTS[kind])
    rules = url.rules((str(path),))
    assert rules.measure("http://www.worse.example/")["url.blocked"] == 1
    assert rules.blocking("a.bad.example") == "bad.example"
    assert rules.measure("http://good.example/")["url.blocked"] == 0


def test_a_compiled_list_gives_the_same(tmp_path):
    source, target = tmp_path / "list.txt", tmp_path / "list.npy"
    source.write_bytes(LISTS["plain"])
    assert url.compile_blocklist(str(source), str(target)) == 2
    assert url.rules((str(target),)).blocking("x.bad.example") == "bad.example"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"# nothing\n", "holds no domain; it needs one a line"),
        ("bad.gz", b"\x1f\x8bnot gzip", "is damaged gzip"),
        ("bad.npy", b"not numpy", "is no compiled block list"),
    ],
)
def test_unusable_lists_are_named(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BlockListError, match=f"{name}.*{message}"):
        url.load_blocklist(str(path))
    with pytest.raises(BlockListError, match="cannot read the block list"):
        url.load_blocklist(str(tmp_path / "none"))


def test_a_pickled_list_is_refused(tmp_path):
    path = tmp_path / "list.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BlockListError, match="is no compiled block list"):
        url.load_blocklist(str(path))
    np.save(path, np.zeros(3, dtype=np.float32))
    with pytest.raises(BlockListError, match="holds float32, not hashes"):
        url.load_blocklist(str(path))
