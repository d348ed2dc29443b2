"""A cheap guess at the programming language of code: the author's own mark, else a vote."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Classes by which pages mark a block: "language-py", "lang-js", "brush: sql", "highlight-python3",
# "highlight-source-shell" (GitHub), "sourceCode haskell" is left out (no prefix of its own).
_MARK = re.compile(
    r"(?:class|data-lang(?:uage)?)=[\"']?[^\"'>]{0,80}?"
    r"(?:\blang(?:uage)?-|\bbrush: ?|\bhighlight-(?:source-|text-)?|(?<=data-lang=\")"
    r"|(?<=data-language=\"))([A-Za-z+#]{1,20})"
)

_NAMES = {
    "bash": "shell",
    "c": "c",
    "c++": "c++",
    "cpp": "c++",
    "cs": "c#",
    "csharp": "c#",
    "css": "css",
    "go": "go",
    "golang": "go",
    "html": "html",
    "java": "java",
    "javascript": "javascript",
    "js": "javascript",
    "jsx": "javascript",
    "kotlin": "kotlin",
    "kt": "kotlin",
    "matlab": "matlab",
    "php": "php",
    "py": "python",
    "pycon": "python",
    "python": "python",
    "r": "r",
    "rb": "ruby",
    "rs": "rust",
    "ruby": "ruby",
    "rust": "rust",
    "scala": "scala",
    "sh": "shell",
    "shell": "shell",
    "sql": "sql",
    "swift": "swift",
    "ts": "typescript",
    "tsx": "typescript",
    "typescript": "typescript",
    "xml": "html",
    "zsh": "shell",
}

# Lines that few other languages have. A line gives one vote, to the first language that fits.
_VOTES = {
    "python": r"(?:async )?def \w+\(.*:$|from [\w.]+ import |elif .*:$|>>> |except\b.*:$|self\.\w"
    r"|(?:if|for|while|class|with|try|else)\b[^{]*:$|import \w+(?: as \w+)?$",
    "rust": r"(?:pub(?:\(\w+\))? )?(?:fn|mod|impl|trait)\b|let mut |use [\w:]+::"
    r"|#!?\[\w|match .*\{$",
    "go": r"func (?:\(\w+ \*?\w+\) )?\w+\(|\w+(?:, \w+)* := |if err != nil|package \w+$|type \w+ "
    r"(?:struct|interface) \{",
    "swift": r"(?:public |private |internal |open |static |override )*func \w+.*\{$|guard .*else \{"
    r"|(?:public |private )?extension \w+|@objc|if let "
    r"|(?:private |public |static )*(?:let|var) \w+(?:: [\[\w\]?:. ]+)? = [^;]*[^;,]$"
    r"|import (?:Foundation|UIKit|SwiftUI)",
    "kotlin": r"(?:\w+ )*fun (?:<.*> )?[\w.]+\(|data class |companion object|when \(.*\{$",
    "scala": r"(?:\w+ )*(?:case class|object|trait) \w+|(?:override )?def \w+.*=(?: \{)?$"
    r"|import [\w.]+\.(?:_|\{.*\})$|implicit ",
    "java": r"import (?:static )?[\w.]+(?:\.\*)?;|package [\w.]+;|@Override"
    r"|(?:public|private|protected) (?:static |final |abstract |synchronized )*[\w<>\[\], ]+"
    r"[({=;]|System\.out\.",
    "typescript": r"(?:export )?(?:interface|type) \w+.*[={]$|(?:export )?(?:const|let) \w+: "
    r"|\w+\??: (?:string|number|boolean)\b|import type ",
    "php": r"<\?php|\$\w+\s?=|\$this->|(?:public |private |protected |static )*function \w+\(.*\$"
    r"|use [\w\\]+;|namespace [\w\\]+;",
    "javascript": r"(?:var|const|let) [\w{}, ]+ ?= |(?:async )?function\b|module\.exports"
    r"|import .* from ['\"]|.*=> \{$|console\.log|document\.|export default",
    "c++": r"template ?<|std::|namespace \w*|#include <\w+>|using namespace|class \w+.*\{$"
    r"|.*\bstd::|virtual |\w+::~?\w+\(",
    "c": r"#(?:include|define|ifdef|ifndef|endif|if)\b|(?:static |const |unsigned |extern )*"
    r"(?:int|char|void|struct \w+|size_t|uint\d+_t|long|float|double) \*?\w+[\[(;= ]"
    r"|typedef |\w+->",
    "ruby": r"(?:def [\w.?!]+(?:\(.*\))?$|end$|require ['\"]|.* do(?: \|.*\|)?$|module \w+$"
    r"|class \w+(?: < [\w:]+)?$|attr_\w+ |@\w+ = )",
    "shell": r"#!/\S*sh\b|\$ \S|(?:fi|done|esac)$|if \[\[? |then$|echo |export \w+=|sudo |\w+=\$"
    r"|(?:apt-get|pip|npm|git|cd|mkdir) ",
    "sql": r"(?i:select\b.*\bfrom\b|insert into|create (?:table|view|index)|update \w+ set|"
    r"alter table|delete from)",
    "html": r"</?[A-Za-z][\w:.-]*(?:\s[^<>]*)?/?>|<!",
    "r": r"library\(|[\w.]+ ?<- |.*%>%",
    "matlab": r"function (?:\[.*\] ?= ?|\w+ ?= ?)\w+\(|%%? |end;$|disp\(|clc|zeros\(",
}
_VOTE = re.compile("|".join(f"(?P<v{i}>{pattern})" for i, pattern in enumerate(_VOTES.values())))
_LANGUAGES = tuple(_VOTES)


def marked_language(openings: Iterable[str]) -> str | None:
    """The language that most blocks are marked with, if any is.

    Each opening is the markup about one block's start tag, for the mark stands on the block or on
    an element around it.
    """
    names = (_marked(opening) for opening in openings)
    return _most_frequent(name for name in names if name)


def _marked(opening: str) -> str | None:
    # The last mark is the nearest to the block.
    marks = [mark.lower() for mark in _MARK.findall(opening)]
    return next((_NAMES[mark] for mark in reversed(marks) if mark in _NAMES), None)


def voted_language(lines: Iterable[str]) -> str | None:
    """The language of which most of these lines of code are typical, if any line is of one."""
    matches = (_VOTE.match(line.strip()) for line in lines)
    return _most_frequent(_LANGUAGES[m.lastindex - 1] for m in matches if m and m.lastindex)


def _most_frequent(names: Iterable[str]) -> str | None:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return max(sorted(counts), key=counts.__getitem__) if counts else None
