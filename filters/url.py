"""URL rules: blocked domains, and words in the address that tell what a page sells.

The meanings are RefinedWeb's (Penedo et al. 2023, appendix G.1) as datatrove implements them: one
hard word or substring is enough, of soft words it takes two. The shipped lists are short and ours;
real block lists (UT1, hosts files) are named in the recipe.
"""

from __future__ import annotations

import functools
import gzip
import importlib.resources
import io
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from filters.document import Value
from filters.hashing import hash64
from filters.signal import Bound, Signal

MAX_LIST_BYTES = 2 << 30

SIGNALS: tuple[Signal, ...] = (
    Signal("url.host", "str", "host", "host name in lower case, punycode decoded", "RFC 3986"),
    Signal(
        "url.domain",
        "str",
        "domain",
        "registrable domain by the public suffix list; the address of an IP host",
        "public suffix list, the snapshot in tldextract",
    ),
    Signal(
        "url.blocked",
        "int",
        "flag",
        "1 where the host or a parent domain stands in a block list",
        "RefinedWeb, appendix G.1; UT1-style lists",
        Bound(max=0),
    ),
    Signal(
        "url.banned_words",
        "int",
        "words",
        "words of the address that stand in the hard list",
        "RefinedWeb, appendix G.1; datatrove banned_words",
        Bound(max=0),
    ),
    Signal(
        "url.banned_substrings",
        "int",
        "substrings",
        "hard substrings found anywhere in host and path",
        "datatrove banned_subwords",
        Bound(max=0),
    ),
    Signal(
        "url.soft_words",
        "int",
        "words",
        "different words of the address that stand in the soft list; two are needed to drop",
        "RefinedWeb, appendix G.1; datatrove soft_word_threshold 2",
        Bound(max=1),
    ),
)

_WORD = re.compile(r"[^\W_]+")


class BlockListError(ValueError):
    """A block list that cannot be used; the message names the file and the remedy."""


@functools.cache
def _suffixes() -> Any:
    import tldextract

    # No URL to fetch the list from and no cache: the bundled snapshot, on every machine.
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True)


@functools.lru_cache(maxsize=65536)
def host(url: str) -> str:
    """The host of a URL in lower case without port, or the empty string."""
    if url.startswith("file:"):
        return ""
    try:
        name = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return ""
    name = name.rstrip(".").lower()
    if "xn--" in name:
        try:
            return name.encode("ascii").decode("idna")
        except UnicodeError:
            return name
    return name


@functools.lru_cache(maxsize=65536)
def domain(name: str) -> str:
    """The registrable domain of a host: ``example.co.uk`` of ``www.example.co.uk``."""
    if not name:
        return ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        found = _suffixes()(name).top_domain_under_public_suffix
        return str(found) or name
    return name


@dataclass(frozen=True)
class UrlRules:
    """Block lists ready for use. ``blocked`` are sorted 64-bit hashes of domains, which may be
    memory-mapped; ``shipped`` are the domains of our own list."""

    shipped: frozenset[str]
    hard: frozenset[str]
    soft: frozenset[str]
    substrings: re.Pattern[str]
    blocked: tuple[NDArray[np.uint64], ...] = field(default=())

    def measure(self, url: str) -> dict[str, Value]:
        """Every signal of one URL; never raises."""
        name = host(url)
        words = _words(url)
        return {
            "url.host": name,
            "url.domain": domain(name),
            "url.blocked": int(self.blocking(name) != ""),
            "url.banned_words": sum(word in self.hard for word in words),
            "url.banned_substrings": len(set(self.substrings.findall(_searched(url)))),
            "url.soft_words": len(self.soft.intersection(words)),
        }

    def blocking(self, name: str) -> str:
        """The listed domain that blocks a host: itself or a parent; empty where none does."""
        labels = name.split(".")
        for start in range(len(labels)):
            parent = ".".join(labels[start:])
            if parent in self.shipped or any(_contains(part, parent) for part in self.blocked):
                return parent
        return ""

    def evidence(self, url: str, signal: str) -> str:
        """What a signal saw in a URL: the listed domain or the words."""
        if signal == "url.blocked":
            return self.blocking(host(url))
        words = _words(url)
        found: Iterable[str] = ()
        if signal == "url.banned_words":
            found = self.hard.intersection(words)
        elif signal == "url.soft_words":
            found = self.soft.intersection(words)
        elif signal == "url.banned_substrings":
            found = set(self.substrings.findall(_searched(url)))
        return ", ".join(sorted(found))


def _searched(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.lower()
    return unquote(f"{parts.netloc}{parts.path}?{parts.query}").lower()


def _words(url: str) -> list[str]:
    return _WORD.findall(_searched(url))


def _contains(hashes: NDArray[np.uint64], name: str) -> bool:
    value = np.uint64(hash64(name))
    place = int(np.searchsorted(hashes, value))
    return place < len(hashes) and bool(hashes[place] == value)


def _shipped(name: str) -> list[str]:
    text = (importlib.resources.files("filters") / "data" / name).read_text("utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


@functools.cache
def rules(files: tuple[str, ...] = ()) -> UrlRules:
    """The shipped lists together with block lists in files, loaded once per process."""
    substrings = sorted(_shipped("url_substrings.txt"), key=lambda word: (-len(word), word))
    return UrlRules(
        shipped=frozenset(_shipped("url_domains.txt")),
        hard=frozenset(_shipped("url_hard_words.txt")),
        soft=frozenset(_shipped("url_soft_words.txt")),
        substrings=re.compile("|".join(map(re.escape, substrings))),
        blocked=tuple(load_blocklist(path) for path in files),
    )


def load_blocklist(path: str) -> NDArray[np.uint64]:
    """A block list as sorted hashes of its domains.

    A ``.npy`` file that ``compile_blocklist`` wrote is memory-mapped. A text file, plain or gzip,
    has one domain a line, or is a hosts file (``0.0.0.0 domain``); ``#`` begins a comment.

    Raises:
      BlockListError: the file cannot be read, or holds no domain.
    """
    if path.endswith(".npy"):
        try:
            hashes: NDArray[np.uint64] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BlockListError(f"{path} is no compiled block list: {error}") from None
        if hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise BlockListError(f"{path} holds {hashes.dtype}, not hashes of domains (uint64)")
        return hashes
    try:
        with open(path, "rb") as handle:
            content = handle.read(MAX_LIST_BYTES)
    except OSError as error:
        raise BlockListError(f"cannot read the block list {path}: {error.strerror}") from None
    return hash_domains(parse_blocklist(content, path))


def parse_blocklist(content: bytes, name: str) -> list[str]:
    """The domains in a list's bytes."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_LIST_BYTES)
        except (OSError, EOFError) as error:
            raise BlockListError(f"{name} is damaged gzip: {error}") from None
    found = []
    for line in content.decode("utf-8", "replace").splitlines():
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        entry = fields[1] if len(fields) > 1 and _is_address(fields[0]) else fields[0]
        entry = entry.lower().strip(".").removeprefix("*.")
        if "." in entry and entry != "0.0.0.0":
            found.append(entry)
    if not found:
        raise BlockListError(f"{name} holds no domain; it needs one a line")
    return found


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def hash_domains(domains: Iterable[str]) -> NDArray[np.uint64]:
    """Sorted distinct hashes of domains; two domains share one with probability 2**-64."""
    return np.unique(np.array([hash64(name) for name in domains], dtype=np.uint64))


def compile_blocklist(source: str, target: str) -> int:
    """Compile a text list into a ``.npy`` file that loads at once; returns its size."""
    hashes = load_blocklist(source)
    np.save(target, hashes, allow_pickle=False)
    return len(hashes)
