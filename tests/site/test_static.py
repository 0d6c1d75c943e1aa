"""The site as files: every link leads to one, nothing can be run, and it is the same each time."""

from __future__ import annotations

import functools
import http.server
import json
import posixpath
import re
import threading
from urllib.parse import unquote, urlsplit

import pytest
from lxml import html
from playwright.sync_api import expect
from typer.testing import CliRunner

from tendsto.cli import app
from tendsto.evidence import Budget, Store, check
from tendsto.site.settings import Settings
from tendsto.site.site import Site
from tendsto.site.static_build import build, file_of


@pytest.fixture(scope="module")
def built(tmp_path_factory, papers):
    """The files as the command writes them."""
    folder = tmp_path_factory.mktemp("static")
    store = Store(folder / "site")
    check([papers["toy-sums"].claims["variance_falls_like_one_over_n"]], Budget(), store=store)
    result = CliRunner().invoke(
        app, ["site", "build", "--folder", str(store.folder), "--out", str(folder / "public")], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    told = re.fullmatch(r"Site: (\S+) \((\d+) files\)", result.output.replace("\n", ""))
    assert told[1] == str(folder / "public" / "index.html")
    assert int(told[2]) > 150
    return folder / "public"


def pages(built):
    return {path.relative_to(built).as_posix(): html.fromstring(path.read_bytes()) for path in built.rglob("*.html")}


def test_every_link_leads_to_a_file(built):
    found = pages(built)
    assert {
        "index.html",
        "papers/nash-mp/index.html",
        "date/2014-09-02/index.html",
        "search/index.html",
    } <= found.keys()
    assert len([name for name in found if name.startswith("papers/")]) == 54
    for name, page in found.items():
        for element, _, link, _ in page.iterlinks():
            parts = urlsplit(link)
            if parts.scheme or element.tag == "form" or not parts.path:
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            assert (built / target).is_file(), (name, link)


def test_nothing_can_be_run_and_everything_can_be_read(built):
    for name, page in pages(built).items():
        assert not page.xpath("//form[@method='post']"), name
        assert not page.xpath("//input[@name='csrf']"), name
        assert "htmx" not in "".join(page.xpath("//script/@src"))
    paper = pages(built)["papers/toy-sums/index.html"]
    assert paper.xpath("//article//span[contains(@class, 'badge')]/text()")
    (figure,) = paper.xpath("//figure/img/@src")
    assert (built / "papers/toy-sums" / urlsplit(figure).path).resolve().is_file()
    assert json.loads((built / "api/papers/nash-mp").read_text())["id"] == "2505.19731"
    assert (built / "feed.atom").read_bytes().startswith(b"<?xml")


def test_the_files_are_the_same_each_time(built, papers, tmp_path):
    again = tmp_path / "again"
    build(Site(Settings(built.parent / "site"), papers, frozen=True), again)
    files = {path.relative_to(built): path.read_bytes() for path in built.rglob("*") if path.is_file()}
    assert files == {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}


def test_the_search_works_in_the_browser(built, browser):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=built)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page(base_url=f"http://127.0.0.1:{server.server_port}")
        page.goto("/")
        page.get_by_role("searchbox").fill("halpern variance")
        page.keyboard.press("Enter")
        found = page.locator("#results article")
        expect(found.first).to_contain_text("Variance Reduced Halpern")
        expect(found.first).to_contain_text("title: halpern, variance")
        page.get_by_label("Year").select_option("2014")
        expect(found).to_have_count(0)
        page.get_by_label("Words").fill("")
        found.first.get_by_role("link").click()
        expect(page).to_have_title(re.compile("^Effective Spectral Unmixing"))
        page.close()
        server.shutdown()


def test_addresses_become_files():
    assert file_of("/", page=True) == "index.html"
    assert file_of("/papers/math/0309136", page=True) == "papers/math/0309136/index.html"
    assert file_of("/static/site.css?abc", page=False) == "static/site.css"
    assert file_of("/feed.atom?tag=last+iterate", page=False) == "feed@tag=last+iterate.atom"
