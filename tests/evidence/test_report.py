from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tendsto.evidence import Budget, Check, Claim, Estimate, Store, at_least, at_most, between, check
from tendsto.evidence.notation import to_html, to_unicode
from tendsto.evidence.report import write_report
from tendsto.evidence.strip import strip
from toys import hostile, sums

VOID = {"meta", "link", "br", "img", "hr", "input"}


@dataclass(frozen=True)
class Entry:
    card: object
    summary: str
    claims: dict


def entry(module) -> Entry:
    claims = {value.name: value for value in vars(module).values() if isinstance(value, Claim)}
    return Entry(module.CARD, module.__doc__, claims)


PAPERS = {"toy-sums": entry(sums), "toy-hostile": entry(hostile)}


class Page(HTMLParser):
    """The elements of a page, its addresses, its text; fails on what is not well nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("report"))
    check([claim for paper in PAPERS.values() for claim in paper.claims.values()], Budget(), store=store)
    assert write_report(store, PAPERS) == store.folder / "index.html"
    return store


def page(store, name) -> Page:
    return Page((store.folder / name).read_text())


@pytest.mark.parametrize("name", ["index.html", "toy-sums.html", "toy-hostile.html"])
def test_a_page_loads_nothing_and_runs_nothing(report, name):
    text = (report.folder / name).read_text()
    shown = page(report, name)
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(shown.tags)
    for tag, attribute, value in shown.attributes:
        assert not attribute.startswith("on")
        if attribute in ("src", "href", "action", "srcset", "data", "xlink:href"):
            local = value.startswith("#") or re.fullmatch(r"[a-z-]+\.html(#\w+)?", value)
            if tag == "a":
                assert local or value.startswith("https://arxiv.org/abs/")
            else:
                assert value.startswith("data:image/svg+xml;base64,")
    styles = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    assert "url(" not in styles
    assert "@import" not in styles


def test_hostile_words_are_shown_as_words(report):
    shown = page(report, "toy-hostile.html")
    evil = '<script src="http://evil.example/x.js">alert(1)</script>'
    assert shown.words.count(evil) >= 8  # title, author, statement, source, quantity, method, table, note
    assert '<script>alert("math")</script>' in shown.words
    assert '<b onclick="alert(3)">bold</b>' in shown.words
    assert not any("javascript:" in value for _, _, value in shown.attributes)


def test_a_page_can_be_read_without_seeing_it(report):
    for name in ("index.html", "toy-sums.html"):
        shown = page(report, name)
        assert ("html", "lang", "en") in shown.attributes
        assert shown.tags.count("h1") == 1
        assert shown.tags.count("img") == sum(tag == "img" and key == "alt" for tag, key, _ in shown.attributes)
        assert shown.tags.count("svg") == sum(tag == "svg" and key == "aria-label" for tag, key, _ in shown.attributes)
        assert shown.tags.count("table") == shown.tags.count("caption")
        ids = [value for _, key, value in shown.attributes if key == "id"]
        assert len(ids) == len(set(ids))
        anchors = {value[1:] for tag, key, value in shown.attributes if key == "href" and value[0] == "#"}
        assert anchors <= set(ids)


def test_the_index_counts_and_the_paper_page_holds_every_number(report):
    assert "Of 5 claims in 2 papers, 3 hold, 1 fails, 0 are unsound, and 1 was not run." in " ".join(
        page(report, "index.html").words.split()
    )
    words = page(report, "toy-sums.html").words
    for verdict in report.verdicts():
        for item in (*verdict.checks, *(one for control in verdict.controls for one in control.checks)):
            if verdict.paper == "toy-sums":
                assert str(item.measured) in words
                assert str(item.predicted) in words
    for expected in (
        "4000 seeds",
        "50 numbers a sum.",
        "The same number n times over",
        "By count",
        "2401.00001",
    ):
        assert expected in words
    assert "math" in page(report, "toy-sums.html").tags
    assert "Not checked yet" not in words


def test_what_changed_since_is_marked_and_what_is_missing_is_named(tmp_path, monkeypatch):
    store = Store(tmp_path)
    check([sums.twice_two_is_four], Budget(), store=store)
    write_report(store, PAPERS)
    words = page(store, "toy-sums.html").words
    assert "Outdated" not in words
    assert words.count("Not checked yet") == 3
    assert not (tmp_path / "toy-hostile.html").exists()
    monkeypatch.setattr("tendsto.evidence.provenance.versions", lambda: {"jax": "0"})
    write_report(store, PAPERS)
    assert "Outdated" in page(store, "toy-sums.html").words


def test_a_claim_checked_twice_is_one_claim(tmp_path):
    for seed in (0, 1):
        check([sums.twice_two_is_four], Budget(seed=seed), store=Store(tmp_path))
    write_report(Store(tmp_path), PAPERS)
    words = " ".join(page(Store(tmp_path), "index.html").words.split())
    assert "Of 2 runs of 1 claim in 1 paper, 2 hold" in words


def test_an_empty_store_still_gives_a_page(tmp_path):
    write_report(Store(tmp_path), PAPERS)
    assert "No claim has been checked yet." in page(Store(tmp_path), "index.html").words


def test_verdicts_on_papers_that_are_gone_are_left_out(report):
    write_report(report, {"toy-sums": replace(PAPERS["toy-sums"], claims={})})
    assert "No claim has been checked yet." in page(report, "index.html").words


def test_latex_becomes_mathml_and_all_else_is_escaped():
    shown = to_html(r"a < b & $\frac{L_{AM}}{2} \le 1$ in `run<T>`")
    assert shown.startswith("a &lt; b &amp; <math")
    assert shown.endswith(" in <code>run&lt;T&gt;</code>")
    root = ElementTree.fromstring(shown[shown.index("<math") : shown.index("</math>") + 7])
    assert [node.text for node in root.iter() if node.text] == ["L", "A", "M", "2", "≤", "1"]
    assert root.find(".//mfrac") is not None


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{<img src=x onerror=alert(1)>}",
        r"\href{javascript:alert(1)}{x}",
        r"\frac{1}",
        r"\begin{matrix}",
        r"\class{x\" onclick=\"alert(1)}{y}",
    ],
)
def test_latex_cannot_smuggle_in_markup(latex):
    shown = Page(str(to_html(f"${latex}$")))
    assert not {"script", "img", "a"} & set(shown.tags)
    assert not any(key in ("href", "class") or key.startswith("on") for _, key, _ in shown.attributes)
    assert set(shown.tags) == {"code"} or shown.tags[0] == "math"


@pytest.mark.parametrize(
    ("latex", "shown"),
    [
        (
            r"at least $\sqrt{\alpha} \le 1$ of 100% _plain_ {text}",
            "at least √(α) ≤ 1 of 100% _plain_ {text}",
        ),
        (r"$\mathbb{E}\|\nabla f(x)\|^2 \leq \frac{2L}{T}$", "𝔼‖∇ f(x)‖^2 ≤ 2L/T"),
        (r"$\frac{1}{12 n}$, `$x`", "1/(12 n), `$x`"),
        (r"$\href{x}$ is not LaTeX", r"\href{x} is not LaTeX"),
        (r"$x^{t+1} = x_{t-1}^{2} - \gamma L_{AM}$", "x^(t+1) = x_(t-1)^2 - γ L_AM"),
    ],
)
def test_latex_becomes_unicode_in_a_terminal(latex, shown):
    assert to_unicode(latex) == shown


def test_a_strip_keeps_the_order_of_the_numbers():
    place = strip(Check("a", at_most(1), Estimate(2, 1.5, 3, "given")))
    assert place.band[0] == 0.0
    assert place.band[1] < place.interval[0] < place.value < place.interval[1] < 1.0
    assert not place.logarithmic


def test_strips_of_every_shape():
    far = strip(Check("a", between(1e-3, 1e-1), Estimate.exact(1e-2)))
    assert far.logarithmic
    assert far.value == pytest.approx(0.5)
    assert strip(Check("a", at_least(1), Estimate.exact(1))).band[1] == 1.0
    assert strip(Check("a", at_most(1), Estimate(0, -float("inf"), 2, "given"))).interval[0] == 0.0
    assert strip(Check("a", at_most(1), Estimate.exact(float("nan")))) is None


def test_a_paper_page_explains_its_methods(report):
    words = " ".join(page(report, "toy-sums.html").words.split())
    assert "tendsto.evidence.Estimate" in words
    assert "A measured number and the interval that holds it at the stated confidence." in words
