"""Papers in the formats of others: read, written, and read again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest
from feedgen.feed import FeedGenerator
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from tendsto.site import formats, shelf
from tendsto.site.database import Paper, Tag, now
from tendsto.site.formats import Imported, arxiv_id, clean, read
from tendsto.site.settings import Settings
from tendsto.site.site import Site

ARXIV = b"""<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <link href="http://arxiv.org/api/query?search_query=cat:math.OC" rel="self"/>
  <title>arXiv Query</title><id>http://arxiv.org/api/abc</id><updated>2023-10-05T00:00:00-04:00</updated>
  <opensearch:totalResults xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">2</opensearch:totalResults>
  <entry>
    <id>http://arxiv.org/abs/2310.02987v3</id>
    <updated>2024-01-02T10:00:00Z</updated><published>2023-10-04T17:24:45Z</published>
    <title>Variance Reduced Halpern Iteration
  for Finite-Sum Monotone Inclusions</title>
    <summary>  With $x &lt; y$ and &lt;script&gt;alert(1)&lt;/script&gt; in it.  </summary>
    <author><name>Xufeng Cai</name></author><author><name>Ahmet Alacaoglu</name></author>
    <arxiv:comment xmlns:arxiv="http://arxiv.org/schemas/atom">Two words</arxiv:comment>
    <link href="http://arxiv.org/abs/2310.02987v3" rel="alternate" type="text/html"/>
    <link title="pdf" href="http://arxiv.org/pdf/2310.02987v3" rel="related" type="application/pdf"/>
    <category term="math.OC" scheme="http://arxiv.org/schemas/atom"/>
  </entry>
  <entry><id>http://arxiv.org/abs/math/0309136v1</id><published>2003-12-31T23:30:00-05:00</published></entry>
</feed>"""


def test_arxiv_s_answers_are_read():
    first, second = read(ARXIV)
    assert first == Imported(
        title="Variance Reduced Halpern Iteration for Finite-Sum Monotone Inclusions",
        arxiv="2310.02987",
        abstract="With $x < y$ and <script>alert(1)</script> in it.",
        authors=("Xufeng Cai", "Ahmet Alacaoglu"),
        published=date(2023, 10, 4),
        listed=date(2023, 10, 4),
        tags=("math.OC",),
        extra={"arxiv_comment": "Two words"},
    )
    # A day of the feed is one in UTC; an entry without a title is called by its identifier.
    assert second == Imported("arXiv:math/0309136", "math/0309136", published=date(2004, 1, 1), listed=date(2004, 1, 1))


def test_the_two_dates_of_daily_papers_are_told_apart():
    entry = {
        "title": "T",
        "publishedAt": "2025-05-28T00:00:00.000Z",
        "numComments": 2,
        "organization": {"name": "microsoft", "fullname": "Microsoft"},
        "submittedBy": {"name": "someone"},
        "paper": {
            "id": "2505.19731",
            "title": "T",
            "summary": "S",
            "publishedAt": "2025-05-26T23:59:59.000Z",
            "authors": [{"name": "Ada"}, {"name": "Eve", "hidden": True}],
            "upvotes": 7,
            "ai_keywords": ["games"],
        },
    }
    paper = Imported(
        "T", "2505.19731", "S", ("Ada",), date(2025, 5, 26), date(2025, 5, 28), "Microsoft", 2, 7,
        extra={"submittedBy": {"name": "someone"}, "ai_keywords": ["games"]},
    )  # fmt: skip
    assert read(json.dumps([entry]).encode()) == [paper]
    del entry["publishedAt"], entry["paper"]["publishedAt"]
    entry["paper"]["submittedOnDailyAt"] = "2025-05-27T08:00:00.000Z"
    (late,) = read(json.dumps(entry).encode())
    assert (late.published, late.listed) == (None, date(2025, 5, 27))
    bare_entry = {"id": "2505.19731v2", "title": "T", "authors": ["Ada"], "upvotes": True, "numComments": -1}
    (bare,) = read(json.dumps(bare_entry).encode())
    assert bare == Imported("T", "2505.19731", authors=("Ada",))


BIBTEX = r"""
@article{one, title = {On {\"O}rtel's $\ell_{2,1}$ {N}orm}, author = {M{\"u}ller, J{\"o}rg and Ann van der Berg and
  {The Team}}, year = 2014, month = sep, day = 2, eprint = {1409.0685v2}, abstract = {It \emph{holds}.}}
@misc{two, title = "No day", author = {Ada Lovelace}, year = {2020}, keywords = {games, convex}}
@inproceedings{three, title = {With a date}, date = {2021-02-03}, url = {https://arxiv.org/abs/hep-th/9901001}}
@article{broken, title = {unclosed
"""


def test_bibtex_is_read():
    one, two, three = read(BIBTEX.encode())
    assert one == Imported(
        title="On Örtel's $\\ell_{2,1}$ Norm",
        arxiv="1409.0685",
        abstract="It holds.",
        authors=("Jörg Müller", "Ann van der Berg", "The Team"),
        published=date(2014, 9, 2),
        listed=date(2014, 9, 2),
    )
    # Of a year alone no day is made up; the paper stands at its beginning.
    assert (two.published, two.listed, two.tags) == (None, date(2020, 1, 1), ("games", "convex"))
    assert (three.arxiv, three.published) == ("hep-th/9901001", date(2021, 2, 3))


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("http://arxiv.org/abs/2306.10000v12", "2306.10000"),
        ("https://arxiv.org/pdf/2310.02987.pdf", "2310.02987"),
        ("0704.0001", "0704.0001"),
        ("10.48550/arXiv.2310.02987", "2310.02987"),
        ("arXiv:math.GT/0309136v1", "math/0309136"),
        ("cond-mat/9901001", "cond-mat/9901001"),
        ("2306.10", None),
        ("2306.123456", None),
        ("12306.10000", None),
        ("", None),
    ],
)
def test_identifiers(text, identifier):
    assert arxiv_id(text) == identifier


@pytest.mark.parametrize("data", [b"", b"plain", b"<html></html>", b"[1]", b"{", b"[" * 100_000, b"\x00\xff"])
def test_what_is_no_list_of_papers_is_refused(data):
    with pytest.raises(ValueError, match=r"file|JSON"):
        read(data)


texts = st.text(max_size=60)
days = st.none() | st.dates(min_value=date(1, 1, 2), max_value=date(9999, 12, 30))
identifiers = st.none() | st.from_regex(r"\d{4}\.\d{5}|(math|hep-th|cond-mat)/\d{7}", fullmatch=True).filter(
    str.isascii
)


@st.composite
def imported(draw) -> Imported:
    arxiv = draw(identifiers)
    title = clean(draw(texts)) or (f"arXiv:{arxiv}" if arxiv else "T")
    hostile = st.sampled_from(["<script>alert(1)</script>", "]]>", "&amp;", "<b>x</b>", "$x<y$"]) | texts
    authors = tuple(filter(None, (clean(name) for name in draw(st.lists(texts, max_size=4)))))
    published = draw(days)
    return Imported(
        title=title,
        arxiv=arxiv,
        abstract=clean(draw(hostile)),
        authors=authors,
        published=published,
        listed=draw(days) or published,
        tags=tuple(dict.fromkeys(filter(None, (clean(tag) for tag in draw(st.lists(texts, max_size=3)))))),
    )


def row(paper: Imported) -> Paper:
    found = Paper(key=paper.key, field="", added=now(), changed=0, tags=[])
    shelf._copy(paper, found)
    return found


@given(st.lists(imported(), max_size=3))
def test_papers_survive_atom(papers):
    data = formats.write_atom(map(row, papers), "http://127.0.0.1:8000", "/feed.atom", "Tendsto")
    back = read(data)
    assert [it.title for it in back] == [it.title for it in papers]
    assert [it.arxiv for it in back] == [it.arxiv for it in papers]
    assert [it.authors for it in back] == [it.authors for it in papers]
    assert [it.abstract for it in back] == [it.abstract for it in papers]
    assert [it.published for it in back] == [it.published for it in papers]
    assert [it.listed for it in back if it.listed] == [it.listed or now().date() for it in papers]
    assert [set(it.tags) for it in back] == [set(it.tags) for it in papers]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["id", "title", "summary", "authors", "publishedAt", "upvotes", "organization", "numComments", "submittedOnDailyAt"]
)


@given(
    st.lists(
        st.dictionaries(names, json_values) | st.fixed_dictionaries({"paper": st.dictionaries(names, json_values)})
    )
)
def test_any_json_of_the_shape_is_read_and_can_be_written(entries):
    for paper in formats.read_daily_papers(json.dumps(entries).encode()):
        assert paper.title
        json.dumps(dict(paper.extra), allow_nan=False, ensure_ascii=False).encode()
        formats.write_atom([row(paper)], "http://127.0.0.1:8000", "/feed.atom", "Tendsto")


@given(st.binary(max_size=200) | st.builds(lambda text: f"@article{{x, title={{{text}}}}}".encode(), texts))
def test_no_file_breaks_the_readers(data):
    for reader in (read, formats.read_atom, formats.read_bibtex, formats.read_daily_papers):
        try:
            papers = reader(data)
        except ValueError:
            continue
        assert all(paper.title for paper in papers)


def test_an_import_lists_updates_and_leaves_the_catalogue_alone(site):
    catalogued = Imported("Another title", "2502.00212", comments=9)
    fresh = Imported("Fresh <b>news</b>", "2601.00001", "Σ is a sum.", ("Ada",), date(2026, 1, 2), date(2026, 1, 3))
    with Session(site.engine) as session:
        assert shelf.take_in(session, [catalogued, fresh]) == {"counted": 1, "new": 1}
        assert shelf.take_in(session, [replace(catalogued, comments=0), fresh]) == {"counted": 1, "updated": 1}
        session.commit()
        known, new = (session.query(Paper).filter_by(arxiv=it).one() for it in ("2502.00212", "2601.00001"))
        assert (known.title[:4], known.comments) == ("STP:", 9)
        assert (new.title, new.listed, new.key) == (fresh.title, date(2026, 1, 3), "2601.00001")
    again = Site(site.settings, site.papers, learns=False)
    with Session(again.engine) as session:
        assert session.query(Paper).filter_by(arxiv="2502.00212").one().comments == 9
    again.close()


def test_a_paper_that_was_imported_before_it_enters_the_catalogue_stays_one(site, tmp_path):
    cards = {slug: card for slug, card in site.listing.items() if slug != "stp"}
    early = Site(Settings(tmp_path / "early"), {}, cards, learns=False)
    with Session(early.engine) as session, session.begin():
        shelf.take_in(session, [Imported("Another title", "2502.00212", upvotes=9)])
    early.close()
    late = Site(early.settings, {}, site.listing, learns=False)
    with Session(late.engine) as session:
        (paper,) = session.query(Paper).filter_by(arxiv="2502.00212")
        assert (paper.slug, paper.key, paper.title[:4], paper.upvotes) == ("stp", "stp", "STP:", 9)
    late.close()


def test_a_json_feed_says_what_an_atom_feed_says():
    paper = row(Imported("T", "2310.02987", "S", ("Ada",), date(2023, 10, 4), date(2023, 10, 5), tags=("convex",)))
    feed = json.loads(formats.write_json_feed([paper], "http://h", "/feed.json", "Tendsto"))
    assert feed["version"] == "https://jsonfeed.org/version/1.1"
    (item,) = feed["items"]
    assert item["url"] == "http://h/papers/2310.02987"
    assert item["date_published"] == "2023-10-04T00:00:00+00:00"
    assert (item["title"], item["authors"], item["tags"]) == ("T", [{"name": "Ada"}], ["convex"])


def test_what_others_feed_is_dated_by_its_publication():
    feed = FeedGenerator()
    feed.id("urn:x")
    feed.title("x")
    entry = feed.add_entry()
    entry.id("http://arxiv.org/abs/2310.02987")
    entry.title("T")
    entry.link(href="http://arxiv.org/abs/2310.02987")
    entry.published("2023-10-04T00:00:00Z")
    entry.updated("2024-10-04T00:00:00Z")
    (paper,) = read(feed.atom_str())
    assert paper.listed == date(2023, 10, 4)


def test_tags_are_kept_in_order():
    assert [tag.name for tag in shelf._tags(Paper(tags=[Tag(name="b")]), ["a", "b", "a"])] == ["a", "b"]
