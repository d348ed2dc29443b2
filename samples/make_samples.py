"""Write the sample crawl and the table of what must happen to each of its records.

    python samples/make_samples.py [FOLDER]

The texts in pages/ were written for this purpose and are dedicated to the public domain (CC0). The
same texts give the same bytes; a test holds the committed files to that.
"""

from __future__ import annotations

import json
import random
import sys
import zlib
from dataclasses import dataclass
from html import escape
from pathlib import Path

import brotli

sys.path.insert(0, str(Path(__file__).resolve().parent))

from warc_writer import chunked, gzip_member, record, response

HERE = Path(__file__).resolve().parent
BENCHMARK = HERE.parent / "filters" / "data" / "demo_benchmark.jsonl"
HEAD = "record\turl\tkind\texpected\trule\tnote\n"


@dataclass(frozen=True)
class Sample:
    """One record: its bytes (uncompressed), and what must happen to it."""

    name: str
    url: str
    kind: str
    expected: str
    rule: str
    data: bytes
    note: str = ""


def texts(name: str) -> dict[str, list[str]]:
    """The sections of a file in pages/: head fields and paragraphs by name."""
    found: dict[str, list[str]] = {}
    content = (HERE / "pages" / f"{name}.txt").read_text("utf-8")
    for section in content.removeprefix("# ").split("\n# "):
        head, *paragraphs = section.strip().split("\n")
        key, *fields = head.split(" | ")
        found[key] = [" | ".join(fields), *paragraphs]
    return found


def page(title: str, body: str, *, lang: str = "en", head: str = "") -> str:
    """A page as sites have them: a menu, the text, a footer."""
    return f"""<!DOCTYPE html>
<html lang="{lang}"><head><title>{escape(title)}</title>{head}</head><body>
<header><nav><ul><li><a href="/">Home</a></li><li><a href="/about">About</a></li>
<li><a href="/archive">Archive</a></li></ul></nav></header>
<main><article><h1>{escape(title)}</h1>
{body}
</article></main>
<footer><p><a href="/imprint">Imprint</a> | <a href="/feed">Feed</a></p></footer>
</body></html>
"""


def prose(paragraphs: list[str]) -> str:
    """Paragraphs as markup."""
    return "\n".join(f"<p>{escape(text, quote=False)}</p>" for text in paragraphs)


def article(section: list[str], **options: str) -> bytes:
    """A page of plain prose."""
    return page(section[0], prose(section[1:]), **options).encode()


def items() -> dict[str, str]:
    """The invented benchmark that ships with the package, by item id."""
    lines = BENCHMARK.read_text("utf-8").splitlines()
    return {row["id"]: row["text"] for row in map(json.loads, lines)}


# --- prose --------------------------------------------------------------------------------------


def articles() -> list[Sample]:
    """Plain articles, some of them behind transfer and content encodings."""
    pairs = {"tides", "glass", "ink", "clay"}
    encodings = {
        "pressing": (gzip_member, ("Content-Encoding: gzip",)),
        "yeast": (brotli.compress, ("Content-Encoding: br",)),
        "bread": (zlib.compress, ("Content-Encoding: deflate",)),
        "river": (chunked, ("Transfer-Encoding: chunked",)),
        "stars": (
            lambda body: chunked(gzip_member(body)),
            ("Content-Encoding: gzip", "Transfer-Encoding: chunked"),
        ),
    }
    found = []
    for name, section in texts("english").items():
        url = f"http://orchard.example.org/articles/{name}"
        encode, headers = encodings.get(name, (lambda body: body, ()))
        data = response(url, encode(article(section)), headers=headers)
        expected, rule, note = "keep", "", ", ".join(headers)
        if name in pairs:
            expected, rule, note = "pair", "dedup.exact", f"copy-{name}"
        found.append(Sample(f"article-{name}", url, "article", expected, rule, data, note))
    return found


NEAR = {
    "hedges": ("fifteen years", "twelve years"),
    "maps": ("most atlases", "few atlases"),
    "compost": ("a slow fire", "a fire"),
}


def near(name: str) -> list[str]:
    """An article with a few words changed."""
    old, new = NEAR[name]
    return [text.replace(old, new) for text in texts("english")[name]]


def copies() -> list[Sample]:
    """Copies of articles on other hosts: exact ones, and ones with a few words changed.

    Of exact copies the one with the smaller id is kept, so the table says ``pair`` and names the
    other: exactly one of the two is kept. Near copies are shorter, and the longer text is kept.
    """
    source = texts("english")
    found = []
    for name in ("tides", "glass", "ink", "clay"):
        url = f"http://mirror.example.net/{name}.html"
        data = response(url, article(source[name]))
        found.append(
            Sample(f"copy-{name}", url, "article", "pair", "dedup.exact", data, f"article-{name}")
        )
    for name in NEAR:
        url = f"http://borrowed.example.com/posts/{name}"
        data = response(url, article(near(name)))
        found.append(
            Sample(f"near-{name}", url, "near duplicate", "drop", "dedup.jaccard", data,
                   f"article-{name} with words changed")
        )  # fmt: skip
    return found


UNDECLARED = {
    "ja": "declared in a meta tag only",
    "zh": "declared nowhere",
    "it": "told by the byte order mark",
}


def languages() -> list[Sample]:
    """Articles in ten languages, in the charsets of old and new."""
    found = []
    for name, section in texts("languages").items():
        lang, charset, title = section[0].split(" | ")
        url = f"http://{name}.example.org/{lang}/page"
        head, header, note = "", "text/html", UNDECLARED.get(name, "declared in the HTTP header")
        if name == "ja":
            head = '<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">'
        elif name not in UNDECLARED:
            header = f"text/html; charset={charset}"
        text = page(title, prose(section[1:]), lang=lang, head=head)
        data = response(url, text.encode(charset), content_type=header)
        found.append(
            Sample(
                f"lang-{name}", url, f"article in {lang}", "keep", "", data, f"{charset}, {note}"
            )
        )
    return found + undeclared()


def undeclared() -> list[Sample]:
    """Russian in windows-1251: without any declaration, and declared as something else."""
    source = texts("more")
    found = []
    for name, header, head, note in (
        ("ru-undeclared", "text/html", "", "windows-1251, declared nowhere"),
        ("ru-wrong", "text/html; charset=utf-8", '<meta charset="utf-8">',
         "windows-1251, declared as UTF-8 in header and meta"),
    ):  # fmt: skip
        text = page(name, prose(source[name][1:]), lang="ru", head=head)
        url = f"http://{name}.example.org/page"
        data = response(url, text.encode("windows-1251"), content_type=header)
        found.append(Sample(f"lang-{name}", url, "article in ru", "keep", "", data, note))
    return found


# --- pages that a rule removes or edits ---------------------------------------------------------


SPECIAL = {
    "pii-email": ("edit", "pii.email"),
    "pii-phone": ("edit", "pii.phone"),
    "pii-ip": ("edit", "pii.ip"),
    "pii-card": ("edit", "pii.card"),
    "pii-iban": ("edit", "pii.iban"),
    "pii-secret": ("edit", "pii.secret"),
    "pii-ssn": ("edit", "pii.national_id"),
    "directory": ("drop", "pii.density"),
    "profanity": ("drop", "safety.lexicon_weight"),
    "insults": ("drop", "safety.toxicity"),
    "curly": ("drop", "c4.curly_bracket"),
    "lorem": ("drop", "c4.lorem_ipsum"),
    "stuffed": ("drop", "repetition.top_3gram_char_fraction"),
    "forum": ("keep", ""),
    "question": ("keep", ""),
}


def special() -> list[Sample]:
    """Prose with something in it that a rule looks for."""
    source = texts("special")
    found = []
    for name, (expected, rule) in SPECIAL.items():
        url = f"http://village.example.org/{name}"
        body = article(source[name])
        if name in ("forum", "question"):
            posts = "".join(
                f'<div class="post"><div class="author">member {n}</div><p>{text}</p></div>'
                for n, text in enumerate(source[name][1:], 1)
            )
            body = page(source[name][0], posts).encode()
        found.append(Sample(name, url, name.split("-")[0], expected, rule, response(url, body)))
    robots = '<meta name="robots" content="noindex">'
    url = "http://village.example.org/noindex"
    data = response(url, article(source["noindex"], head=robots))
    found.append(Sample("noindex", url, "robots", "drop", "read.noindex", data))
    url = "http://poems.example.org/snow"
    data = response(url, article(source["noai"]), headers=("X-Robots-Tag: noai",))
    found.append(Sample("noai", url, "robots", "drop", "read.noai", data))
    url = "http://links.spam-block.example/buy"
    data = response(url, article(source["blocked"]))
    found.append(Sample("blocked", url, "link trade", "drop", "url.blocked", data))
    for name, path, rule in (
        ("banned-word", "free/porno/list", "url.banned_words"),
        ("banned-substring", "pages/best-onlinecasino-list", "url.banned_substrings"),
        ("soft-words", "casino/bonus/slots", "url.soft_words"),
    ):
        url = f"http://offers.example.com/{path}"
        data = response(url, article(source["blocked"]))
        found.append(Sample(name, url, "address", "drop", rule, data))
    return found


def contaminated() -> list[Sample]:
    """A benchmark item copied word for word, and one in other lines, case and punctuation."""
    source = texts("more")
    known = items()
    first = [text.replace("ITEM", known["015"]) for text in source["carrier1"]]
    words = known["020"].upper().replace(",", " -").split()
    lines = "<br>\n".join(" ".join(words[n : n + 7]) for n in range(0, len(words), 7))
    second = page(
        source["carrier2"][0],
        prose(source["carrier2"][1:]).replace("ITEM", lines),
    )
    found = []
    for name, body, note in (
        ("benchmark-verbatim", article(first), "item 015 word for word"),
        ("benchmark-rewrapped", second.encode(), "item 020 in capitals and other lines"),
    ):
        url = f"http://puzzles.example.org/{name}"
        data = response(url, body)
        found.append(
            Sample(name, url, "contaminated", "drop", "decontamination.ngrams", data, note)
        )
    return found


def mathematics() -> list[Sample]:
    """Formulas as MathJax scripts, as KaTeX spans and as MathML with a TeX annotation."""
    special_pages, more = texts("special"), texts("more")

    def mathjax(latex: str) -> str:
        return f'<script type="math/tex">{latex}</script>'

    def mathml(latex: str) -> str:
        return (
            '<math xmlns="http://www.w3.org/1998/Math/MathML"><semantics><mrow><mi>x</mi></mrow>'
            f'<annotation encoding="application/x-tex">{latex}</annotation></semantics></math>'
        )

    def katex(latex: str) -> str:
        return (
            f'<span class="katex"><span class="katex-mathml">{mathml(latex)}</span>'
            '<span class="katex-html" aria-hidden="true">x</span></span>'
        )

    cases = (
        ("math", special_pages["math"], mathjax,
         (r"\int_0^1 x^2 \, dx = \frac{1}{3}", r"F(1) - F(0) = \int_0^1 f(x) \, dx")),
        ("katex", more["katex"], katex,
         (r"\bar{x} = \frac{1}{n} \sum_{i=1}^{n} x_i", r"\frac{\sigma}{\sqrt{n}}")),
        ("mathml", more["mathml"], mathml,
         (r"N(t) = N_0 e^{-\lambda t}", r"t_{1/2} = \frac{\ln 2}{\lambda}")),
    )  # fmt: skip
    found = []
    for name, section, write, formulas in cases:
        body = prose(section[1:])
        for number, latex in enumerate(formulas, 1):
            body = body.replace(f"FORMULA{number}", write(latex))
        url = f"http://notes.example.org/{name}"
        data = response(url, page(section[0], body).encode())
        found.append(
            Sample(name, url, "mathematics", "keep", "", data, "curly brackets of LaTeX are kept")
        )
    return found


CODE = (
    """table = loader.open("trees.csv", names=["kind", "year"])
for row in table:
    if row["year"] < 1950:
        print({"kind": row["kind"], "old": True})
table.close()""",
    """struct table *t = table_open("trees.csv", READ_ONLY);
if (t == NULL) {
    return -1;
}
table_close(t);""",
)


def documentation() -> list[Sample]:
    """Documentation of code with curly brackets in its examples."""
    section = texts("special")["api"]
    body = prose(section[1:])
    for number, code in enumerate(CODE, 1):
        block = f'<pre><code class="language-c">{escape(code)}</code></pre>'
        body = body.replace(f"<p>CODE{number}</p>", block)
    url = "http://docs.example.org/loader"
    data = response(url, page(section[0], body).encode())
    return [Sample("api", url, "code", "keep", "", data, "curly brackets of code are kept")]


# --- pages without prose ------------------------------------------------------------------------


THIN = {
    "shop-2": ("shop", "fineweb.char_dup_ratio", "the same button under each thing"),
    "shop-3": ("shop", "gopher.symbol_ratio_hash", ""),
    "login": ("log-in", "gopher.word_count", ""),
    "listing-1": ("listing", "fineweb.short_line_ratio", ""),
    "listing-2": ("listing", "fineweb.line_punct_ratio", ""),
    "listing-3": ("listing", "gopher.ellipsis_line_ratio", "beginnings of stories"),
    "link-farm-1": ("link farm", "language.score", "pairs of words, no sentence"),
    "link-farm-2": ("link farm", "gopher.stop_words", "slogans without function words"),
    "link-farm-3": ("link farm", "c4.sentences", "phrases in one line"),
    "soft-404": ("soft 404", "gopher.word_count", ""),
    "soft-404-search": ("soft 404", "quality.score", "long enough, but nothing is said"),
    "short": ("very short", "gopher.word_count", ""),
}


def links(names: str) -> str:
    """Links one after another, from names that bars divide."""
    parts = []
    for name in names.split(" | "):
        host = name.lower().replace(" ", "-").replace("'", "")
        parts.append(f'<a href="http://{host}.example.net/">{name}</a>')
    return " ".join(parts)


def thin() -> list[Sample]:
    """Shops, log-ins, listings, link farms and error pages that answer 200."""
    found = []
    for name, section in texts("thin").items():
        kind, rule, note = THIN[name]
        body = prose(section[1:]) if kind != "link farm" else f"<p>{links(section[1])}</p>"
        url = f"http://shop.example.com/{name}"
        data = response(url, page(section[0], body).encode())
        found.append(Sample(name, url, kind, "drop", rule, data, note))
    return found


THINGS = "stool table bench shelf chest ladder cradle easel crate tray".split()
WOODS = "ash elm oak beech walnut cherry maple birch pine larch".split()


def patterned() -> list[Sample]:
    """Pages that a machine filled in: prices, repeated lines, bullets, letters, nothing."""
    chance = random.Random(11)
    prices = "".join(
        f"<p>The {chance.choice(WOODS)} {chance.choice(THINGS)} is in stock: "
        f"{chance.randint(20, 90)} $ ({chance.randint(100, 999)}) * * *</p>"
        for _ in range(13)
    )
    lines = [
        f"Our {thing} is made of the wood that dried for two years and is sold to you."
        for thing in THINGS[:6]
    ]
    bullets = "".join(
        f"<p>- The {wood} is a good wood for a {thing}, and the tree likes a wet field.</p>"
        for wood, thing in zip(WOODS * 2, THINGS + THINGS[::-1], strict=True)
    )
    noise = " ".join(
        "".join(chance.choice("bcdfghjklmnpqrstvwxz aeiou") for _ in range(7)) for _ in range(90)
    )
    cases = (
        ("shop-1", "shop", "gopher.alphabetic_word_ratio", prices),
        ("repeated", "repetition", "repetition.duplicate_line_fraction",
         "<p>" + "<br>\n".join(lines * 2) + "</p>"),
        ("bullets", "bullet list", "gopher.bullet_line_ratio", bullets),
        ("gibberish", "gibberish", "language.score", f"<p>{noise}</p>"),
    )  # fmt: skip
    found = []
    for name, kind, rule, body in cases:
        url = f"http://shop.example.com/{name}"
        data = response(url, page(name.replace("-", " "), body).encode())
        found.append(Sample(name, url, kind, "drop", rule, data))
    url = "http://shop.example.com/empty"
    frame = '<html><body><div id="app"></div><script src="/app.js"></script></body></html>'
    note = "a page that a script would fill in"
    data = response(url, frame.encode())
    return [*found, Sample("empty", url, "no text", "drop", "extract.characters", data, note)]


# --- records ------------------------------------------------------------------------------------


def records() -> list[Sample]:
    """Records that are no page, and answers that are no content."""
    found = []

    def add(name: str, url: str, kind: str, rule: str, data: bytes) -> None:
        found.append(Sample(name, url, kind, "drop", rule, data))

    info = b"software: samples\r\nformat: WARC File Format 1.1\r\n"
    add("warcinfo", "", "record", "read.record_type",
        record("warcinfo", "", "application/warc-fields", info))  # fmt: skip
    url = "http://orchard.example.org/articles/request"
    add("request", url, "record", "read.record_type",
        record("request", url, "application/http; msgtype=request",
               b"GET /articles/request HTTP/1.1\r\nHost: orchard.example.org\r\n\r\n"))  # fmt: skip
    url = "http://orchard.example.org/articles/metadata"
    add("metadata", url, "record", "read.record_type",
        record("metadata", url, "application/warc-fields", b"outlink: /about\r\n"))  # fmt: skip
    url = "http://orchard.example.org/articles/revisit"
    add("revisit", url, "record", "read.record_type",
        record("revisit", url, "application/http; msgtype=response",
               b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
               WARC_Profile="http://netpreserve.org/warc/1.1/revisit/identical-payload-digest",
               ))  # fmt: skip
    moved = b"<html><body><p>The page has moved.</p></body></html>"
    for status, name in (
        ("301 Moved Permanently", "redirect-301"),
        ("302 Found", "redirect-302"),
        ("404 Not Found", "error-404"),
        ("500 Internal Server Error", "error-500"),
    ):
        url = f"http://orchard.example.org/{name}"
        add(name, url, "answer", "read.http_status", response(url, moved, status=status))
    for name, kind, body in (
        ("image", "image/png", b"\x89PNG\r\n\x1a\n" + bytes(range(64))),
        ("pdf", "application/pdf", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"),
        ("json", "application/json", b'{"trees": 12}'),
    ):
        url = f"http://orchard.example.org/files/{name}"
        add(name, url, "not HTML", "read.mime", response(url, body, content_type=kind))
    return found


def damaged() -> list[Sample]:
    """Records that become dead letters, alone."""
    found = []

    def add(name: str, error: str, data: bytes, url: str, note: str) -> None:
        found.append(Sample(name, url, "damage", "dead", error, data, note))

    url = "http://broken.example.net/chunks"
    whole = chunked(article(texts("more")["carrier3"]), 900)
    body = whole[:907] + b"\r\nno length here\r\n" + whole[907:]
    data = response(url, body, headers=("Transfer-Encoding: chunked",))
    found.append(
        Sample("bad-chunks", url, "damage", "tag", "read.truncated", data,
               "a chunk without a length; what came before it is kept and marked")
    )  # fmt: skip
    url = "http://broken.example.net/bomb"
    bomb = gzip_member(bytes(100 << 20))
    add("bomb", "ExpansionTooLarge", response(url, bomb, headers=("Content-Encoding: gzip",)),
        url, "100 MB of zeros in a gzip body")  # fmt: skip
    url = "http://broken.example.net/elements"
    body = b"<html><body>" + b"<b>" * 250_000 + b"</body></html>"
    add("elements", "PageTooLarge", response(url, body), url, "250,000 elements")
    return found


def truncated() -> Sample:
    """The last record of a file, cut off in the middle."""
    url = "http://broken.example.net/cut"
    data = response(url, article(texts("english")["bells"]))
    note = "the file ends within the record"
    return Sample("truncated", "", "damage", "dead", "TruncatedMember", data, note)


def build() -> dict[str, list[Sample]]:
    """The samples by file."""
    crawl = [
        *records(), *articles(), *languages(), *mathematics(), *documentation(), *thin(),
        *patterned(),
    ]  # fmt: skip
    return {
        "crawl.warc.gz": crawl,
        "forum.warc.gz": [*special(), *copies(), *contaminated(), *damaged(), truncated()],
    }


def write(folder: Path) -> None:
    """Write the archives and the table."""
    rows = [HEAD]
    for name, samples in build().items():
        parts = [gzip_member(sample.data) for sample in samples]
        if samples[-1].name == "truncated":
            parts[-1] = parts[-1][: len(parts[-1]) // 2]
        (folder / name).write_bytes(b"".join(parts))
        rows += [
            "\t".join((s.name, s.url, s.kind, s.expected, s.rule, s.note)) + "\n" for s in samples
        ]
    (folder / "expected.tsv").write_text("".join(rows), encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    write(target)
    print(f"{sum(map(len, build().values()))} records in {target}")
