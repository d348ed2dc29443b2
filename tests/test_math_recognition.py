from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters import math_recognition as mr
from filters.math_domains import default_domains, judge, parse_domains, read_domains
from filters.math_symbols import count_symbols, symbol_list
from filters.math_tags import find_tags, may_hold_tag, tag_strings


def signals(text: str = "", html: str = "", domain: str = "") -> dict[str, object]:
    return dict(mr.measure(text, html, domain))


def test_the_lists_have_the_sizes_apple_published() -> None:
    symbols = symbol_list()
    assert len(tag_strings()) == len(set(tag_strings())) == 40
    assert len(symbols) == len(set(symbols)) == 350
    assert sum(symbol.startswith("\\") for symbol in symbols) == 199


@pytest.mark.parametrize("tag", tag_strings())
def test_every_tag_is_found(tag: str) -> None:
    page = f"<html><body><p>before {tag} after</p></body></html>"
    assert tag in find_tags(page)
    assert tag in find_tags(page.upper())


@pytest.mark.parametrize(
    "page",
    [
        "",
        '<div class="text context">texts</div><textarea data-text="1"></textarea>',
        "<script src='ajax.js'></script><a aria-expanded='false'>vertex</a>",
        "<script>Math.floor(x)</script><p>maths</p><p>Texas</p>",
        "<mat><h1>The lathe</h1></mat>",
    ],
)
def test_plain_markup_has_no_tag(page: str) -> None:
    assert find_tags(page) == []
    assert not may_hold_tag(page.encode())


def test_anchors_let_no_tag_slip_at_either_end_of_the_page() -> None:
    for tag in tag_strings():
        assert tag in find_tags(tag)
        assert tag in find_tags("ü" + tag)


@pytest.mark.parametrize("symbol", symbol_list())
def test_every_symbol_is_counted(symbol: str) -> None:
    assert count_symbols(f"so {symbol} holds, {symbol}") == {symbol: 2}
    assert count_symbols(symbol) == {symbol: 1}


@pytest.mark.parametrize("symbol", [s for s in symbol_list() if s[-1].isascii() and s[-1] != "}"])
def test_a_longer_command_is_another_command(symbol: str) -> None:
    assert count_symbols(f"{symbol}zz x") == {}


def test_commands_match_whole() -> None:
    assert count_symbols(r"\integral \inftyx \item \text \begin{itemize}") == {}
    assert count_symbols(r"\infty") == {r"\infty": 1}
    assert count_symbols(r"x\in A") == {r"\in": 1}
    assert count_symbols(r"\int_0^1 \frac12 \frac{a}{b}") == {r"\int": 1, r"\frac": 2}
    assert count_symbols(r"\begin{align*} x \end{align*}") == {r"\begin{align}": 1}
    assert count_symbols(r"\begin{aligned}") == {}


def test_an_escaped_backslash_starts_no_command() -> None:
    assert count_symbols(r"a \\alpha b") == {}
    assert count_symbols(r"a \\\alpha b") == {r"\alpha": 1}


@pytest.mark.parametrize(
    "text",
    [
        r"Open C:\text\log.txt now",
        r"C:\right\max\int",
        r"saved to D:\in\to",
        r"copy to \\server\log\max",
        r"%APPDATA%\log\min.ini",
        r"HKEY_LOCAL_MACHINE\Software\max",
        r"run ..\sup\deg.exe",
    ],
)
def test_windows_paths_are_not_latex(text: str) -> None:
    assert count_symbols(text) == {}


def test_formulas_after_a_colon_are_not_paths() -> None:
    assert sum(count_symbols(r"$f:\Omega\to\mathbb{R}$").values()) == 3
    assert sum(count_symbols(r"let f:\mathbb{R}\to\mathbb{R} be").values()) == 3
    assert count_symbols(r"see C:\log. Then $\alpha$") == {r"\alpha": 1}


@pytest.mark.parametrize(
    "text",
    [
        r'printf("one\tan two\neg");',
        r"x = 'name\to'",
        r'names = ["\nu", f"\beta{x}"]',
        r'echo "done\right"',
    ],
)
def test_escapes_of_string_literals_are_not_latex(text: str) -> None:
    assert count_symbols(text) == {}


def test_latex_beside_code_and_in_raw_strings_counts() -> None:
    assert count_symbols(r'title(r"$\beta$")') == {r"\beta": 1}
    assert count_symbols(r'he wrote "\nu is small"') == {r"\nu": 1}
    assert count_symbols(r'f("\n") where \tau = 1') == {r"\tau": 1}


def test_greek_prose_is_no_mathematics() -> None:
    assert count_symbols("Η γλώσσα είναι η πατρίδα μας, και η θάλασσα") == {}
    assert count_symbols("δια") == {}


def test_lone_greek_letters_are_symbols() -> None:
    assert count_symbols("where α > 0, 2π and Δx") == {"α": 1, "π": 1, "Δ": 1}
    assert count_symbols("α β γ") == {"α": 1, "β": 1, "γ": 1}


def test_symbols_with_a_tag() -> None:
    tag = "<script src='mathjax.js'></script>"
    padding = "word " * 1000
    assert signals(padding + "∈", tag)["math.is_math"] is True
    assert signals(padding, tag)["math.is_math"] is False
    assert signals(padding + "∈", "<p>")["math.is_math"] is False


def test_distinct_symbols_without_a_tag() -> None:
    enough = "∈ ∉ ∪ ∩ ∅ ∀ ∃ ∞"[: 2 * mr.MIN_DISTINCT]
    assert signals(enough)["math.is_math"] is True
    assert signals(enough)["math.distinct_symbols"] == mr.MIN_DISTINCT
    assert signals(enough[2:] + enough[2])["math.is_math"] is False


def test_density_without_a_tag() -> None:
    symbols = "∈∉∪∩"
    length = int(1000 * len(symbols) / mr.MIN_DENSITY)
    assert signals(symbols.ljust(length, "a"))["math.is_math"] is True
    assert signals(symbols.ljust(length + 1, "a"))["math.is_math"] is False
    assert signals(symbols.ljust(length, "a"))["math.symbol_density"] == mr.MIN_DENSITY


def test_the_domain_decides_over_the_page() -> None:
    tag, text = "<math>", "∈ ∉ ∪ ∩ ∅"
    assert signals("", "", "mathoverflow.net")["math.is_math"] is True
    assert signals(text, tag, "tex.stackexchange.com")["math.is_math"] is False
    assert signals(text, tag, "cooking.stackexchange.com")["math.is_math"] is True
    assert signals(text, tag, "tex.stackexchange.com")["math.domain"] == "reject"


def test_domains_cover_subdomains_and_the_longest_wins() -> None:
    verdicts = parse_domains("accept a.org\nreject bad.a.org # mirror\n", "list")
    assert judge("a.org", verdicts) == "accept"
    assert judge("WWW.A.org.", verdicts) == "accept"
    assert judge("x.bad.a.org", verdicts) == "reject"
    assert judge("ba.org", verdicts) == "unknown"
    assert judge("org", verdicts) == "unknown"
    assert judge("", verdicts) == "unknown"


def test_a_file_extends_the_list(tmp_path: Path) -> None:
    path = tmp_path / "domains.txt"
    path.write_text("reject mathoverflow.net\naccept example.org\n", "utf-8")
    verdicts = read_domains(path)
    assert judge("mathoverflow.net", verdicts) == "reject"
    assert judge("math.example.org", verdicts) == "accept"
    assert judge("planetmath.org", verdicts) == "accept"
    assert judge("mathoverflow.net", default_domains()) == "accept"
    assert mr.measure("", "", "example.org", verdicts)["math.is_math"] is True


@pytest.mark.parametrize("line", ["allow a.org", "a.org", "accept a.org b.org"])
def test_a_malformed_line_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=r"mine, line 2: .*write 'accept example\.org'"):
        parse_domains(f"# list\n{line}\n", "mine")


def test_two_verdicts_on_a_domain_are_refused() -> None:
    with pytest.raises(ValueError, match="both accepted and rejected"):
        parse_domains("accept a.org\nreject A.org", "mine")


def test_evidence_names_the_first_tag_and_symbols() -> None:
    html = "<script src='MathJax.js'></script>"
    text = r"\frac{1}{2} + \int \sum \frac{3}{4} ∈"
    assert mr.evidence(text, html) == r"mathjax, \frac, \int, \sum"
    assert mr.evidence(text, "", limit=1) == r"\frac"
    assert mr.evidence("nothing", "<p>") == ""


def test_the_signals_are_those_declared() -> None:
    measured = mr.measure("α", "<math>", "a.org")
    kinds = {"int": int, "float": float, "bool": bool, "str": str}
    assert list(measured) == [signal.name for signal in mr.SIGNALS]
    for signal in mr.SIGNALS:
        assert type(measured[signal.name]) is kinds[signal.kind]
        assert signal.stage == "math"


@pytest.mark.parametrize(
    "text",
    [
        "\x00",
        "\ud800",
        "\\" * 1_000_000,
        "('" * 500_000,
        "\\alpha" * 150_000,
        "C:\\a\\" * 200_000,
        "\\\\aa" * 250_000,
        '=("\\nu' * 100_000,
        "αβ " * 300_000,
    ],
    ids=lambda text: repr(text[:6]),
)
def test_awkward_texts_are_measured_in_time(text: str) -> None:
    signals(text, text, text[:300])


@given(st.text(), st.text(), st.text())
def test_any_page_is_measured(text: str, html: str, domain: str) -> None:
    measured = mr.measure(text, html, domain)
    counts = count_symbols(text)
    assert measured["math.symbols"] == sum(counts.values())
    assert set(counts) <= set(symbol_list())
    mr.evidence(text, html)


_LATEX_SOUP = st.text(st.sampled_from('\\abefintux{}$:".=( αβμ∈\n'), max_size=60)


@given(_LATEX_SOUP)
def test_symbols_are_counted_no_more_often_than_they_stand_there(text: str) -> None:
    for symbol, count in count_symbols(text).items():
        assert count <= text.replace("*}", "}").count(symbol)
