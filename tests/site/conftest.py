from __future__ import annotations

import os
import shutil
import sys
from datetime import date

import pytest
import site_postgresql
from fastapi.testclient import TestClient
from site_server import TOYS

from tendsto.papers import catalogue
from tendsto.site.app import create_app
from tendsto.site.settings import Settings
from tendsto.site.site import Site

sys.path.insert(0, str(TOYS))
ON_BOTH_DATABASES = {"test_api", "test_databases", "test_digest", "test_keeping", "test_runs", "test_search"}


@pytest.fixture(scope="session")
def papers():
    """The catalogue with the toy papers, as an installed package would add them."""
    catalogue.cache_clear()
    yield catalogue()
    catalogue.cache_clear()


@pytest.fixture(scope="session")
def postgresql():
    with site_postgresql.serving() as server:
        yield server


def pytest_generate_tests(metafunc):
    if "database" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in ON_BOTH_DATABASES:
        metafunc.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database(request):
    """The database of the site, as `Settings` take it."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return ""
    return request.getfixturevalue("postgresql").create_schema()


@pytest.fixture
def site(tmp_path, papers, database):
    """A site in this process, whose day is the last of 2025."""
    settings = Settings(tmp_path, database=database)
    opened = Site(settings, papers, today=lambda: date(2025, 12, 31), learns=False)
    yield opened
    opened.close()


@pytest.fixture
def client(site):
    """A browser without scripts that talks to the site in this process; its queue stands still."""
    return TestClient(create_app(site), base_url=site.settings.address)


@pytest.fixture(scope="session")
def browser():
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no page is tried in a browser: 'apt-get install chromium' brings one")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"] * (os.getuid() == 0))
        yield opened
        opened.close()
