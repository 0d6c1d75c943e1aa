"""The site as people use it: headless Chromium against a server that really runs."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect
from site_server import AXE, SCREENSHOTS, VENDOR, serving
from sqlalchemy.orm import Session

from tendsto.evidence import Budget, Exhibits, check_claim
from tendsto.evidence.provenance import digest
from tendsto.iteration import Trace
from tendsto.site import shelf
from tendsto.site.database import open_database
from tendsto.site.formats import Imported
from tendsto.site.settings import Settings

SECONDS_TO_RUN = 120_000
STEPS = np.array([0, 1, 10, 100])
LEFT = Trace.from_arrays(
    STEPS,
    {"gap": 1.0 / (1 + STEPS), "gradients": 5 * STEPS, "seconds": 0.25 * STEPS},
    problem=np.arange(3.0),
    measures={"gap": np.subtract},
).to_dataframe()
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
# The page that does most has formulas, claims that hold, fail and are unsound, controls, a figure and tables.
MAIN_PAGES = {
    "feed": "/",
    "search": "/search?q=gradient+descent",
    "paper": "/papers/toy-sums",
    "compare": "/compare",
    "problem": f"/problems/{LEFT.attrs['problem']}",
    "subscribe": "/subscribe",
}
with_scripts = pytest.mark.skipif(not VENDOR.is_dir(), reason="pages have no scripts: 'make assets' brings them by npm")


@pytest.fixture(scope="module")
def server(tmp_path_factory, papers):
    folder = tmp_path_factory.mktemp("site")
    claims = papers["toy-sums"].claims
    for claim in (claims["variance_falls_like_one_over_n"], claims["worst_sum_is_bounded"]):
        verdict, exhibits = check_claim(claim, Budget())
        left = Exhibits(exhibits.figures, {"method": LEFT})
        shelf.Store(folder).save(verdict, left, digest(claim, Budget()))
    engine = open_database(Settings(folder))
    with Session(engine) as session, session.begin():
        shelf.take_in(
            session, [Imported("<script>document.title='hacked'</script>", "2601.00001", "<b>bold</b> $x<y$")]
        )
    engine.dispose()
    with serving(folder) as running:
        yield running


@pytest.fixture
def context(server, browser):
    opened = browser.new_context(base_url=server.address, viewport=DESK)
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()


@pytest.fixture
def page(context):
    """A page that fails the test if a script fails, or if the page asks for what it may not or is not there."""
    opened, amiss = context.new_page(), []
    opened.on("console", lambda message: amiss.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: amiss.append(str(error)))
    yield opened
    assert amiss == []


def test_the_feed_is_paged_through_its_dates(page):
    page.goto("/")
    expect(page.locator("article")).to_have_count(50)
    page.get_by_role("link", name="More papers").click()
    expect(page.locator("article")).to_have_count(5)
    page.goto("/date/2025-10-20")
    expect(page.locator("article h2")).to_have_text("Deep Self-Evolving Reasoning")
    page.get_by_role("link", name="Earlier").click()
    expect(page.locator("h1")).to_contain_text("Oct 1")
    page.get_by_role("link", name="Later").click()
    expect(page.locator("h1")).to_contain_text("Oct 20")
    page.get_by_role("link", name="Month").click()
    expect(page.locator("h1")).to_have_text("October 2025")
    page.goto("/month/2023-06")
    expect(page.locator("article")).to_have_count(3)
    authors = page.locator("article").filter(has_text="LeanDojo").locator("details")
    expect(authors.get_by_text("Kaiyu Yang")).to_be_hidden()
    authors.locator("summary").click()
    expect(authors.get_by_text("Kaiyu Yang")).to_be_visible()


@with_scripts
def test_results_come_while_typing(page):
    page.goto("/search")
    page.get_by_label("Words").press_sequentially("halpern iter", delay=20)
    first = page.locator("#results article").first
    expect(first.locator("h2")).to_have_text("Variance Reduced Halpern Iteration for Finite-Sum Monotone Inclusions")
    expect(first.locator(".reason")).to_contain_text("title: halpern, iteration")
    expect(page).to_have_url(re.compile(r"q=halpern(\+|%20)iter"))
    page.get_by_label("Words").fill("halpern")
    page.get_by_label("Year").select_option("2014")
    expect(page.locator("#results")).to_contain_text("Nothing fits")
    page.get_by_label("Words").fill("")
    expect(page.locator("#results article")).to_have_count(1)
    page.locator("#results article a").first.click()
    expect(page.locator("h1")).to_contain_text("Spectral Unmixing")


def test_methods_of_two_claims_are_compared_by_what_they_spent(page):
    page.goto("/compare")
    page.get_by_role("link", name="ndarray").click()
    expect(page.locator("h1")).to_have_text("One problem, 2 claims")
    expect(page.locator("tbody tr")).to_have_count(2)
    for against, end in (("gradients", "500"), ("seconds", "25")):
        page.get_by_role("link", name=against).click()
        expect(page.locator("tbody td").nth(1)).to_have_text(end)
        plot = page.get_by_role("img", name=f"gap against {against}")
        expect(plot).to_be_visible()
        assert plot.evaluate("async it => { await it.decode(); return it.naturalWidth }") > 100
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    table = pd.read_csv(download.value.path())
    assert list(table["seconds"]) == [0.0, 0.25, 2.5, 25.0] * 2


@with_scripts
def test_a_claim_is_run_and_its_verdict_arrives(page):
    page.goto("/")
    page.get_by_role("searchbox").fill("sums of independent numbers")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Sums of independent numbers").click()
    claim = page.locator("#twice_two_is_four")
    expect(claim.get_by_text("Not checked yet.")).to_be_visible()
    # Before its scripts stand, the button leads to the page of the run.
    page.wait_for_load_state()
    claim.get_by_role("button", name="Run").click()
    expect(claim.locator(".run .state")).to_contain_text("budget, seed 0")
    # A browser that closes loses nothing.
    page.goto("/runs")
    page.goto("/papers/toy-sums")
    expect(claim.locator(".run .state").or_(claim.locator(".verdict .badge")).first).to_be_visible()
    page.get_by_role("link", name="Runs").click()
    page.locator("tbody tr").first.get_by_role("link").first.click()
    expect(page.locator(".run .state")).to_contain_text("done", timeout=SECONDS_TO_RUN)
    expect(page.locator(".run .badge")).to_have_text("holds")
    page.get_by_role("link", name="All about this claim").click()
    expect(claim.locator(".verdict .badge").first).to_have_text("holds")
    expect(claim.get_by_text("Not checked yet.")).to_have_count(0)


@with_scripts
def test_a_run_is_cancelled_with_the_keyboard_alone(tmp_path, browser):
    with serving(tmp_path, seconds=600) as slow:
        page = browser.new_page(base_url=slow.address)
        page.goto("/papers/toy-sums")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        claim = page.locator("#twice_two_is_four")

        def tab_to(target) -> None:
            for _ in range(120):
                page.keyboard.press("Tab")
                if target.count() and target.evaluate("it => it === document.activeElement"):
                    outline = target.evaluate("it => getComputedStyle(it).outlineStyle")
                    assert outline != "none"
                    return
            raise AssertionError("the keyboard does not reach it")

        tab_to(claim.get_by_label("Budget"))
        page.keyboard.press("ArrowDown")
        expect(claim.get_by_label("Budget")).to_have_value("standard")
        tab_to(claim.get_by_role("button", name="Run"))
        page.keyboard.press("Enter")
        expect(claim.locator(".run .state")).to_contain_text("running", timeout=SECONDS_TO_RUN)
        expect(claim.locator(".run .state")).to_contain_text("standard budget")
        cancel, shown = claim.get_by_role("button", name="Cancel"), claim.locator(".run .state")
        tab_to(cancel)
        expect(claim.get_by_role("status")).to_have_text("Run 1 running")
        for _ in range(2):
            # The seconds that have passed are told anew, and the focus stays where it is.
            expect(shown).not_to_have_text(shown.text_content())
            expect(cancel).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(".run .state")).to_contain_text("cancelled")
        page.close()


@pytest.mark.parametrize("address", [*MAIN_PAGES.values(), "/papers/nash-mp", "/runs", "/api", "/papers/2601.00001"])
def test_every_page_fits_a_phone_and_reads_without_scripts(server, browser, address):
    context = browser.new_context(base_url=server.address, viewport=PHONE, java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("h1")).to_have_count(1)
    context.close()
    context = browser.new_context(base_url=server.address, viewport=PHONE)
    page = context.new_page()
    page.goto(address)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", MAIN_PAGES)
def test_accessibility(server, browser, name, scheme):
    if not AXE.is_file():
        pytest.skip("accessibility is not checked: 'make assets' brings axe-core by npm")
    context = browser.new_context(base_url=server.address, viewport=DESK, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(MAIN_PAGES[name])
    page.wait_for_load_state("networkidle")
    page.evaluate("document.querySelectorAll('main details').forEach(it => { it.open = true })")
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png")
    page.add_script_tag(path=AXE)
    # axe takes a header that is a formula for an empty one: it does not read MathML.
    tags, left_out = (
        ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
        {"empty-table-header": {"enabled": False}},
    )
    found = page.evaluate("options => axe.run(options)", {"runOnly": tags, "rules": left_out})
    problems = [(it["id"], [node["html"][:120] for node in it["nodes"][:3]]) for it in found["violations"]]
    assert problems == []
    assert len(found["passes"]) > 15
    context.close()


@with_scripts
def test_formulas_are_set_and_nothing_is_asked_of_others(page, server):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/papers/toy-sums")
    page.wait_for_load_state("networkidle")
    expect(page.locator(".katex").first).to_be_visible()
    expect(page.locator("math[alttext]")).to_have_count(0)
    assert asked
    assert all(url.startswith(server.address) for url in asked)


def test_hostile_words_stay_words(page):
    page.goto("/papers/2601.00001")
    expect(page.locator("h1")).to_have_text("<script>document.title='hacked'</script>")
    expect(page.locator("main")).to_contain_text("<b>bold</b>")
    assert "hacked" in page.title()
    assert page.title().startswith("<script>")
