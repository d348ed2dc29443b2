"""Secrets: tokens that their issuer marks, private keys, and values assigned to a secret's name.

Shapes are those that the issuers document for their tokens. An assigned value has no
shape, so it must look drawn at random and stand after a name such as ``password``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from filters.pii.recognizers import Match
from filters.pii.tokens import find_tokens

TOKEN_SCORE = 1.0
ASSIGNED_SCORE = 0.7

# Between the lines of a key stand line ends, or what a program writes around them.
_GLUE = r"(?:[\s\"',+]|\\[nr]){0,40}"
_KEY_BLOCK = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rf"(?:{_GLUE}[A-Za-z\-]{{3,20}}: [^\n]{{0,100}}\n){{0,5}}"
    rf"(?:{_GLUE}[A-Za-z0-9+/=]{{16,}})+"
    rf"(?:{_GLUE}[A-Za-z0-9+/=]{{1,15}})?(?:{_GLUE}=[A-Za-z0-9+/]{{4}})?"
    rf"(?:{_GLUE}-----END (?:[A-Z0-9]+ ){{0,3}}PRIVATE KEY(?: BLOCK)?-----)?"
)
_URL_PASSWORD = re.compile(r"://[^\s:/@\"'<>{}$]{0,64}:([^\s:/@\"'<>{}$*]{3,128})@")
_BEARER = re.compile(r"[Bb]earer[ \t]+([A-Za-z0-9_\-.~+/]{20,}=*)")

# Stems of the names that secrets are given, in small letters, and what must be around each.
_STEMS = (b"pass", b"pwd", b"identified by", b"secret", b"token", b"key")
_PASSWORD = re.compile(rb"pass(?:w|phrase|code)|pwd|identified by")
_KEY = re.compile(rb"(?:api|access|auth|private|client|encryption|account)[_\- ]?$")
_ASSIGNMENT = re.compile(
    r"[\w\-]{0,32}[\"'`]?\]?"
    r"(?:[ \t]{0,3}(?::=|=>|==?|:)[ \t]{0,3}|[ \t](?:is|was)[ \t]|[ \t](?=[\"'`]))"
    r"(?:[bru]?([\"'`])(?P<quoted>[^\"'`\n]{6,256})\1|(?P<bare>[^\s\"'`,;<>(){}\[\]]{8,256}))"
)
# In prose, "with password X": X must hold all four kinds of character.
_SPOKEN = re.compile(r"(?:word|code|phrase)?[ \t](?P<bare>[^\s\"'`,;<>(){}\[\]/\\|]{8,64})")
_PATH = re.compile(r"[~.]{0,2}[/\\]|[A-Za-z]:[/\\]")
_DUMMY = re.compile(
    r"(.)\1{3}|x{3}|\*{2}|\.\.\.|example|changeme|change_me|placeholder|your|insert|dummy|sample|"
    r"redacted|password|secret|<|>|\$\{|\{\{|%\(|^\$|^%|::|->|^\w+\.\w+\.\w+$|^[A-Za-z_.]+$|://",
    re.IGNORECASE,
)


def secrets(text: str) -> Iterator[Match]:
    """Every secret in ``text``; spans may overlap where one lies inside another."""
    # All names and marks are ASCII: a byte a character keeps the positions, and bytes are
    # searched several times faster than text with wide characters.
    raw = text.encode("latin-1", "replace")
    yield from _key_blocks(text)
    for start, end in find_tokens(text, raw):
        yield start, end, TOKEN_SCORE
    yield from _url_passwords(text)
    yield from _bearers(text)
    yield from _assignments(text, raw.lower())


def _key_blocks(text: str) -> Iterator[Match]:
    if "PRIVATE KEY" in text:
        for match in _KEY_BLOCK.finditer(text):
            yield *match.span(), TOKEN_SCORE


def _url_passwords(text: str) -> Iterator[Match]:
    if "@" not in text:
        return
    at = text.find("://")
    while at != -1:
        match = _URL_PASSWORD.match(text, at)
        if match is not None and _DUMMY.search(match[1]) is None:
            yield *match.span(1), TOKEN_SCORE
        at = text.find("://", at + 1)


def _bearers(text: str) -> Iterator[Match]:
    if "earer" in text:
        for match in _BEARER.finditer(text):
            if _is_random(match[1], 20):
                yield *match.span(1), ASSIGNED_SCORE


def _assignments(text: str, lower: bytes) -> Iterator[Match]:
    for stem in _STEMS:
        at = lower.find(stem)
        while at != -1:
            password = _PASSWORD.match(lower, at) is not None
            if password or (stem != b"pass" and _names_secret(lower, at, stem)):
                span = _assigned(text, at, at + len(stem), password)
                if span is not None:
                    yield *_trimmed(text, *span), ASSIGNED_SCORE
            at = lower.find(stem, at + 1)


def _names_secret(lower: bytes, at: int, stem: bytes) -> bool:
    return stem != b"key" or _KEY.search(lower, max(0, at - 12), at) is not None


def _assigned(text: str, start: int, end: int, password: bool) -> tuple[int, int] | None:
    """The span of the secret given to the name that holds ``start`` to ``end``, if any."""
    match = _ASSIGNMENT.match(text, end)
    if match is not None:
        group = "bare" if match["quoted"] is None else "quoted"
        called = text[match.end() : match.end() + 1] in ("(", "[")
        right = _is_secret(match[group], password) and (group == "quoted" or not called)
        return match.span(group) if right else None
    match = _SPOKEN.match(text, end) if password else None
    if match is None:
        return None
    low, high = _trimmed(text, *match.span("bare"))
    option = text.endswith("--", 0, start)
    right = _is_secret(text[low:high], True) if option else _mixes_all(text[low:high])
    return (low, high) if right else None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the full stop of the sentence that it ends."""
    return start, end - 1 if text[end - 1] == "." else end


def _is_secret(value: str, password: bool) -> bool:
    if _DUMMY.search(value) is not None or _PATH.match(value) is not None:
        return False
    present = _kinds(value)
    if not password:
        return _is_random(value, 12 if sum(present) >= 3 else 16)
    return sum(present) >= 3 or (len(value) >= 8 and present[2] and sum(present) >= 2)


def _mixes_all(value: str) -> bool:
    # Hyphens, dots and colons join words ("SHA256-based") and are no sign of a password.
    return all(_kinds(value)) and not set("!@#$%^&*?+=~").isdisjoint(value)


def _kinds(value: str) -> tuple[bool, bool, bool, bool]:
    """Whether there are small letters, capitals, digits, and anything else."""
    return (
        any(map(str.islower, value)),
        any(map(str.isupper, value)),
        any(map(str.isdigit, value)),
        not value.isalnum(),
    )


def _is_random(value: str, shortest: int) -> bool:
    """Whether ``value`` has letters and digits and 3 bits of entropy a character.

    English words stay near or below 3 bits over 16 characters; random base64 has about 3.8.
    """
    if len(value) < shortest or " " in value:
        return False
    if not any(map(str.isdigit, value)) or not any(map(str.isalpha, value)):
        return False
    counts = Counter(value).values()
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
    return bits >= 3.0
