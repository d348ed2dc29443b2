"""Mathematical symbols in a text: LaTeX commands and environments, and Unicode characters.

Three things that look like symbols are not counted: Greek letters of Greek prose, the parts of a
Windows path (``C:\\right\\log``), and escape sequences in string literals (``"a\\tb"``).
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import NamedTuple

# A backslash is escaped, and starts no command, after an odd number of others ("\\alpha").
_COMMAND = re.compile(r"\\(?:\\|(?:begin\{([a-z]+)\*?\}|([A-Za-z]+)))")

# Drive, share, environment variable, registry hive, home, or dot, then parts without TeX syntax.
# Inside a formula ("$f:\Omega\to\Omega$") the letter before the colon is no drive.
_WINDOWS_PATH = re.compile(
    r"(?:(?<![\w$\\{}^(])[A-Za-z]:|(?<![\w\\&}])\\\\[\w.-]{2,64}|%\w{1,64}%|\bHKEY_\w{1,32}"
    r"|(?<![\w\\])(?:~|\.\.?))"
    r"\\[^\s\"'<>|*?${}^\\]++(?:\\[^\s\"'<>|*?${}^\\]++)*+\\?+(?![{}^$\\])"
)

# One of these stands in every Windows path; looking for them first spares most formulas a scan.
_PATH_HINTS = (":\\", "\\\\", "%\\", "HKEY_", "~\\", ".\\")

# A literal in code: the quote follows an opening bracket, an operator or a statement word. An
# "r" prefix is left out, for raw strings hold no escapes.
_STRING_LITERAL = re.compile(
    r"(?:[(=,\[+{:]|\b(?:return|echo|print|case))[ \t]{0,8}[bfuBFUL]?"
    r"(?:\"(?:[^\"\\\n]|\\[^\n]){0,1000}\"|'(?:[^'\\\n]|\\[^\n]){0,1000}')"
)
_ESCAPE_LETTERS = frozenset("abefnrtuvxNU")

# A lone Greek letter is a symbol. A letter of a Greek word, or a one-letter word beside one (an
# article, say), is prose.
_GREEK = "[\u0370-\u03ff\u1f00-\u1fff]"
_LONE_GREEK = re.compile(f"(?<!{_GREEK})(?<!{_GREEK}{{2}} ){_GREEK}(?!{_GREEK})(?! {_GREEK}{{2}})")


class _Lists(NamedTuple):
    commands: frozenset[str]
    environments: frozenset[str]
    characters: tuple[str, ...]
    symbol: re.Pattern[str]


@cache
def _lists() -> _Lists:
    data = json.loads(resources.files("filters").joinpath("data/math_symbols.json").read_bytes())
    characters = tuple(row["character"] for row in data["unicode"])
    return _Lists(
        commands=frozenset(data["commands"]),
        environments=frozenset(data["environments"]),
        characters=characters,
        symbol=re.compile("[" + "".join(map(re.escape, characters)) + "]"),
    )


def symbol_list() -> tuple[str, ...]:
    """The 350 symbols as they stand in a text: 199 commands and environments, 151 characters.

    The list is this project's own: Apple's foundation models (2024 report, section 3.1) used 350
    Unicode and LaTeX symbols it did not publish. Its commands are those of formulas; commands of
    layout, such as those for bold type or items, are left out.
    """
    lists = _lists()
    commands = sorted(f"\\{name}" for name in lists.commands)
    environments = sorted(f"\\begin{{{name}}}" for name in lists.environments)
    return (*commands, *environments, *lists.characters)


def count_symbols(text: str) -> dict[str, int]:
    """How often each listed symbol stands in ``text``, in order of first appearance.

    Commands match whole: ``\\infty`` is not ``\\in``, and ``\\integral`` is nothing. The starred
    form of an environment counts as the environment. LaTeX comes before Unicode in the order.
    """
    counts: dict[str, int] = {}
    for symbol in _commands(text) if "\\" in text else ():
        counts[symbol] = counts.get(symbol, 0) + 1
    if not text.isascii():
        for match in _lists().symbol.finditer(text):
            symbol = match[0]
            if "\u0370" <= symbol <= "\u03ff" and not _LONE_GREEK.match(text, match.start()):
                continue
            counts[symbol] = counts.get(symbol, 0) + 1
    return counts


def _commands(text: str) -> list[str]:
    lists = _lists()
    found: list[tuple[int, str]] = []
    escapes = False
    for match in _COMMAND.finditer(text):
        environment, command = match.groups()
        if environment in lists.environments:
            found.append((match.start(), f"\\begin{{{environment}}}"))
        elif command in lists.commands:
            found.append((match.start(), f"\\{command}"))
            escapes = escapes or command[0] in _ESCAPE_LETTERS
    if not found:
        return []
    paths: set[int] = set()
    if any(hint in text for hint in _PATH_HINTS):
        paths = _inside(_WINDOWS_PATH, text, [start for start, _ in found])
    literals: set[int] = set()
    if escapes and ('"' in text or "'" in text):
        suspects = [start for start, symbol in found if symbol[1] in _ESCAPE_LETTERS]
        literals = _inside(_STRING_LITERAL, text, suspects)
    return [symbol for start, symbol in found if start not in paths and start not in literals]


def _inside(pattern: re.Pattern[str], text: str, starts: list[int]) -> set[int]:
    """The positions of the sorted ``starts`` that lie inside a match of ``pattern``."""
    inside: set[int] = set()
    index = 0
    for match in pattern.finditer(text):
        while index < len(starts) and starts[index] < match.start():
            index += 1
        while index < len(starts) and starts[index] < match.end():
            inside.add(starts[index])
            index += 1
        if index == len(starts):
            break
    return inside
