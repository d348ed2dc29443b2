"""Whether one line of text looks like a line of a program, in any of the common languages."""

from __future__ import annotations

import re

MAX_LINE = 400
"""Characters of the longest line that is judged; minified code and paragraphs are longer."""

_NAME = r"[A-Za-z_$][\w$]{0,60}"
_PATH = rf"{_NAME}(?:(?:\.|::|->|\\){_NAME}){{0,8}}"

# Words that begin a statement, and what must follow them. Most also begin English sentences
# ("for", "import", "return"), so more than the word is asked for.
_STATEMENTS = (
    ("if for while switch catch foreach elseif elsif guard", r"\s?\(.{0,300}[{;),&|]$"),
    ("if elif while with for except class lambda", r"\b[^.?!]{1,200}[\w)\]\"'}]:$"),
    ("try else finally default do except begin", r":?$"),
    ("async", r"\s+(?:def|function|fn|with|for)\s"),
    ("def", r"\s+[\w.]+\s*(?:[(:=?!]|$)"),
    ("fn func fun function sub", r"\s+[^\s.,]{1,60}?\s?[({<]|\s?\("),
    (
        "class struct enum trait impl interface object protocol extension namespace union module",
        r"\s.{1,200}[{:(]$",
    ),
    ("class module", r"\s+[A-Z]\w+(?:\s<\s[\w:]+)?$"),
    ("end endif endfor endfunction fi done esac then pass break continue next", r"[;,]?$"),
    ("from", r"\s+[.\w]+\s+import\s+[\w*(]"),
    ("import", r"\s+(?:[{*(\"'<]|static\s|\w+\s+from\s+[\"'])"),
    ("import", rf"\s+(?:{_PATH}(?:\.\*|\._|\.\{{.*)?(?:\s+as\s+\w+)?(?:,\s*{_PATH})*;?$)"),
    ("package use using mod namespace", r"\s+[\w.:\\*{}, ]{1,120};$"),
    ("package", rf"\s+{_PATH}$"),
    ("require require_relative include source load", r"\s*\(?\s*[\"']"),
    ("return throw raise yield await delete goto assert defer", r"\b.{0,200}[()\[\]{}_=\"']$"),
    ("return", rf"\s+(?:{_PATH}|-?\d+)$"),
    ("echo print printf puts cd mkdir rm cp mv ls curl wget make", r"\s+[\"'$./~-]"),
    ("python python3 pip pip3 npm yarn git docker cargo go conda brew apt", r"\s+-"),
    (
        "sudo apt pip pip3 npm git docker cargo conda brew yarn go",
        r"(?:-get)?\s+(?:install|add|clone|run|build|update|init|push|pull|commit|checkout|apt)\b",
    ),
    (
        "public private protected internal override static final abstract export extern inline "
        "virtual pub const unsafe open implicit sealed fileprivate cdef cpdef typedef volatile "
        "lazy",
        r"\b.{1,250}[;{(=)}\]]$",
    ),
    ("export", r"\s+(?:\*|default|type|const)\s|\s+\w+="),
    ("my our local", r"\s[$@%(]"),
    ("let var const val", rf"\s+(?:mut\s+)?{_NAME}(?:\s*:[^=]{{1,60}})?\s*=\s*\S"),
    ("let var val", rf"\s+{_NAME}\s?:\s*\S"),
    ("case", r"\s+.{1,80}(?::|->|=>)"),
    ("SELECT select", r"\s.{1,200}\b(?:FROM|from)\s+\w"),
    (
        "INSERT CREATE ALTER DROP DELETE",
        r"\s+(?:OR REPLACE\s+)?(?:INTO|FROM|TABLE|VIEW|INDEX|FUNCTION)\s",
    ),
    ("WHERE HAVING JOIN ON AND SET", r"\s+[\w.\"`]+\s*[=<>]"),
    ("GROUP ORDER", r"\s+BY\s"),
    ("In", r"\s?\[\d*\]:"),
)

# Beginnings that are no word: directives, prompts, decorators, comments, tags, closing brackets.
_SIGNS = (
    r"#\s?(?:include|define|ifdef|ifndef|endif|if|elif|undef|pragma)\b(?:\s*[<\"A-Z_(!d]|$)",
    r"#!\s?/|#!?\[\w",
    rf"@{_PATH}(?:\(.{{0,200}})?$",
    r">>>\s\S|[$]\s[\w./]+(?:\s|$)",
    r"/\*|\*/|//|<!--|--\[\[",
    r"</?[A-Za-z][\w:.-]{0,40}(?:\s[^<>]{0,300})?/?>(?:$|\s*<|[^<]{0,300}</)",
    r"<\?(?:php|xml|=)|<!DOCTYPE",
    r"[})\]]{1,6}[;,)]{0,4}$",
    r"\}\s*(?:else|catch|finally|while|from)\b",
    r"\}\)?[.,;]",
    r"[\"'][\w.$/-]{1,60}[\"']\s?(?::|=>)\s?[\w\"'\[{(-]",
    rf"\.{_NAME}[({{!]",
    r":\w+\s=>\s",
    rf"[*&@!]{_PATH}(?:\(|\s?=)",
)

# Assignments, calls, members, entries of a literal; each has one of the characters of _MARK.
_EXPRESSIONS = (
    rf"{_PATH}(?:\[[^\]]{{0,60}}\]){{0,3}}\s?(?:[-+*/%&|^.:?~]|<<|>>|\|\||&&|\?\?)?=(?![=>])"
    r"\s?[^=\s]",
    rf"{_PATH}\s?(?:<-|:=)\s?\S",
    rf"{_NAME}[\w<>\[\],:.&*]{{0,60}}\s[*&]{{0,2}}{_NAME}(?:\[[^\]]{{0,40}}\])?\s?=\s?\S",
    rf"{_NAME}:\s[\w\[\]., |<>?]{{1,60}}\s=\s\S",
    rf"{_PATH}[!?]?\([^()]{{0,300}}(?:\(.{{0,300}}\)[^()]{{0,100}})?\)"
    r"(?:[;,{:?]|\s?(?:\{|=>|->).{0,80})?$",
    rf"{_NAME}(?:\.|::|->)[\w.:>-]{{1,80}}\(",
    rf"{_PATH}\($",
    rf"{_NAME}:\s.{{1,120}},$",
)


def _by_word() -> dict[str, re.Pattern[str]]:
    patterns: dict[str, list[str]] = {}
    for words, rest in _STATEMENTS:
        for word in words.split():
            patterns.setdefault(word, []).append(rest)
    return {word: re.compile("|".join(rests)) for word, rests in patterns.items()}


_AFTER_WORD = _by_word()
_SIGN = re.compile("|".join(_SIGNS))
_EXPRESSION = re.compile("|".join(_EXPRESSIONS))
_WORD = re.compile(r"\$?[A-Za-z_]\w*")
_MARK = re.compile(r"[=(:<]")
_LATEX = re.compile(r"\\(?:[a-zA-Z]{2,}[{ _^]|\[|\(|\\$)|\$[^$]{1,80}\$")
_ENDS = ("{", "};", "});", "})", ");", "*/", "},", "->", "=>", "&&", "||", " \\")
_BEFORE_SEMICOLON = re.compile(r"[(){}\[\]=<>]|->|::|\w\.\w|_|^[\w.]+(?:\+\+|--)?;$|^\w+ \*?\w+;$")


def is_code_line(line: str) -> bool:
    """Whether ``line``, by itself, looks like code: a statement, a call, a comment, a tag.

    Comments in prose and lone values do not, so a source file rarely reaches a share of 1.
    Formulas in LaTeX are not code. Surrounding white space does not matter.
    """
    line = line.strip()
    if not line or len(line) > MAX_LINE:
        return False
    if "\\" in line and _LATEX.search(line):
        return False
    if line.endswith(_ENDS):
        return True
    if line[-1] == ";" and _BEFORE_SEMICOLON.search(line):
        return True
    word = _WORD.match(line)
    if word is None:
        return _SIGN.match(line) is not None
    after = _AFTER_WORD.get(word[0])
    if after is not None and after.match(line, word.end()):
        return True
    return _MARK.search(line) is not None and _EXPRESSION.match(line) is not None
