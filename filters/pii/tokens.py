"""Access tokens that their issuer marks with a fixed beginning.

Each shape is the one that the issuer documents, or that its own secret scanning looks for. Most
marks end in a separator, so a page is searched for a separator with a long run after it, and
only there for the mark before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_W = r"[A-Za-z0-9_\-]"

SHAPES: dict[str, str] = {
    # Code hosting and package registries
    "ghp_": r"[A-Za-z0-9]{36,}",
    "gho_": r"[A-Za-z0-9]{36,}",
    "ghu_": r"[A-Za-z0-9]{36,}",
    "ghs_": r"[A-Za-z0-9]{36,}",
    "ghr_": r"[A-Za-z0-9]{36,}",
    "github_pat_": r"[A-Za-z0-9_]{50,}",
    "glpat-": rf"{_W}{{20,}}",
    "gldt-": rf"{_W}{{20,}}",
    "glrt-": rf"{_W}{{20,}}",
    "npm_": r"[A-Za-z0-9]{36}",
    "pypi-": rf"AgE{_W}{{50,}}",
    "rubygems_": r"[a-f0-9]{48}",
    "CLOJARS_": r"[a-f0-9]{60}",
    "dckr_pat_": rf"{_W}{{27,}}",
    "dckr_oat_": rf"{_W}{{27,}}",
    "SWMTKN-1-": r"[a-z0-9]{40,}-[a-z0-9]{20,}",
    # Clouds and infrastructure
    "AKIA": r"[A-Z0-9]{16}(?![A-Za-z0-9])",
    "ASIA": r"[A-Z0-9]{16}(?![A-Za-z0-9])",
    "amzn.mws.": r"[0-9a-z]{8}(?:-[0-9a-z]{4}){3}-[0-9a-z]{12}",
    "AIza": rf"{_W}{{35}}",
    "ya29.": rf"{_W}{{20,}}",
    "GOCSPX-": rf"{_W}{{28}}",
    "LTAI": r"[A-Za-z0-9]{12,20}(?![A-Za-z0-9])",
    "dop_v1_": r"[a-f0-9]{64}",
    "hvs.": rf"{_W}{{24,}}",
    "nfp_": r"[A-Za-z0-9]{36}",
    "vcp_": r"[A-Za-z0-9]{50,}",
    "sbp_": r"(?:v0_)?[a-f0-9]{40}",
    "pscale_pw_": r"[A-Za-z0-9_\-.]{32,}",
    "pscale_tkn_": r"[A-Za-z0-9_\-.]{32,}",
    "pscale_oauth_": r"[A-Za-z0-9_\-.]{32,}",
    "glsa_": r"[A-Za-z0-9]{32}_[a-f0-9]{8}",
    "glc_": r"eyJ[A-Za-z0-9+/=]{40,}",
    "AKCp": r"[A-Za-z0-9]{69,}",
    "NRAK-": r"[A-Z0-9]{27}",
    "PMAK-": r"[a-f0-9]{24}-[a-f0-9]{34}",
    "sntrys_": r"[A-Za-z0-9+/=_\-]{40,}",
    "sntryu_": r"[a-f0-9]{64}",
    "squ_": r"[a-f0-9]{40}",
    "sqp_": r"[a-f0-9]{40}",
    "AGE-SECRET-KEY-": r"1[A-Z0-9]{58}",
    # Messaging and work tools
    "xoxb-": r"[A-Za-z0-9\-]{20,}",
    "xoxp-": r"[A-Za-z0-9\-]{20,}",
    "xoxa-": r"[A-Za-z0-9\-]{20,}",
    "xoxr-": r"[A-Za-z0-9\-]{20,}",
    "xoxe-": r"[A-Za-z0-9\-]{20,}",
    "xoxs-": r"[A-Za-z0-9\-]{20,}",
    "xapp-": r"[A-Za-z0-9\-]{20,}",
    "hooks.slack.com/services/": r"[A-Z0-9]+/[A-Z0-9]+/[A-Za-z0-9]{16,}",
    "/api/webhooks/": rf"[0-9]{{17,20}}/{_W}{{60,}}",
    "lin_api_": r"[A-Za-z0-9]{40}",
    "ntn_": r"[A-Za-z0-9]{40,}",
    "figd_": rf"{_W}{{40}}",
    "ATATT3": rf"{_W}{{60,}}=?[A-Z0-9]*",
    "SG.": rf"{_W}{{16,}}\.{_W}{{16,}}",
    "xkeysib-": r"[a-f0-9]{64}-[A-Za-z0-9]{16}",
    # Payment and commerce
    "sk_live_": r"[A-Za-z0-9]{16,}",
    "sk_test_": r"[A-Za-z0-9]{16,}",
    "rk_live_": r"[A-Za-z0-9]{16,}",
    "rk_test_": r"[A-Za-z0-9]{16,}",
    "whsec_": r"[A-Za-z0-9]{32,}",
    "shpat_": r"[a-fA-F0-9]{32}",
    "shpss_": r"[a-fA-F0-9]{32}",
    "sq0atp-": rf"{_W}{{22}}",
    "sq0csp-": rf"{_W}{{43}}",
    "access_token$production$": r"[a-z0-9]{16}\$[a-f0-9]{32}",
    "EAACEd": r"[A-Za-z0-9]{30,}",
    # Models
    "sk-": rf"(?:proj-|svcacct-|admin-)?{_W}*T3BlbkFJ{_W}+",
    "sk-ant-": rf"{_W}{{32,}}",
    "hf_": r"[A-Za-z]{34}(?![A-Za-z0-9])",
    "gsk_": r"[A-Za-z0-9]{48,}",
    "pplx-": r"[A-Za-z0-9]{48}",
    "xai-": r"[A-Za-z0-9]{70,}",
    "tgp_v1_": rf"{_W}{{40,}}",
    "dapi": r"[a-f0-9]{32}(?![A-Za-z0-9])",
    # JSON web tokens
    "eyJ": rf"{_W}{{8,}}\.{_W}{{8,}}\.{_W}{{8,}}",
}
"""The mark that a token starts with, and what follows it."""

_SHAPE_OF = {mark.encode(): re.compile(re.escape(mark) + shape) for mark, shape in SHAPES.items()}
# Every shape whose mark ends in one of these has ten characters or more without a space after it.
_SEPARATORS = "_-.$/"
_SEPARATED = {
    re.compile(re.escape(separator.encode()) + rb"(?=[!-~]{10})"): tuple(
        mark for mark in sorted(_SHAPE_OF) if mark.endswith(separator.encode())
    )
    for separator in _SEPARATORS
}
_LONGEST = max(map(len, _SHAPE_OF))
# The other marks, each with the character of it that fewest pages hold: looking for one byte is
# ten times faster than for several.
_RAREST = b"KJzL3EXSp"
_PLAIN = tuple(
    (mark, min(mark, key=lambda byte: _RAREST.find(byte) % 256))
    for mark in sorted(_SHAPE_OF)
    if chr(mark[-1]) not in _SEPARATORS
)


def find_tokens(text: str, raw: bytes) -> Iterator[tuple[int, int]]:
    """The spans of tokens in ``text``; ``raw`` is the text with one byte a character."""
    for separator, marks in _SEPARATED.items():
        for hit in separator.finditer(raw):
            low = max(0, hit.start() - _LONGEST)
            if raw.endswith(marks, low, hit.end()):
                for mark in marks:
                    if raw.endswith(mark, low, hit.end()):
                        yield from _token(text, hit.end() - len(mark), mark)
    for mark, rarest in _PLAIN:
        at = raw.find(mark) if rarest in raw else -1
        while at != -1:
            yield from _token(text, at, mark)
            at = raw.find(mark, at + 1)


def _token(text: str, start: int, mark: bytes) -> Iterator[tuple[int, int]]:
    match = _SHAPE_OF[mark].match(text, start)
    inside = mark[:1].isalnum() and text[max(0, start - 1) : start].isalnum()
    if match is not None and not inside:
        yield match.span()
