from __future__ import annotations

import builtins

import pytest
from typer.testing import CliRunner

from tendsto.cli import app

pytest.importorskip("fastapi", reason="the site needs FastAPI: pip install 'tendsto[site]'")

BIBTEX = "@misc{a, title = {A fresh paper}, eprint = {2601.00001}}\n@misc{b, title = {Another}}\n"


def tendsto(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_papers_are_imported_once(tmp_path):
    file = tmp_path / "papers.bib"
    file.write_text(BIBTEX)
    assert tendsto("import", file, "--folder", tmp_path / "site").output == "Papers: 2 new\n"
    assert tendsto("import", file, "--folder", tmp_path / "site").output == "Papers: 2 updated\n"


def test_what_cannot_be_imported_is_named(tmp_path):
    file = tmp_path / "papers.txt"
    file.write_text("plain words")
    result = tendsto("import", file, "--folder", tmp_path / "site")
    assert (result.exit_code, "papers.txt: the file is neither" in result.stderr) == (2, True)
    assert "No such file" in tendsto("import", tmp_path / "none.bib", "--folder", tmp_path).stderr
    assert "name files" in tendsto("import").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "needs --public"),
        (["--address", "ftp://x"], "address"),
        (["--smtp", "http://x", "--sender", "a@b"], "smtp"),
        (["--smtp", "smtp://localhost"], "sender"),
        (["--database", "mysql://localhost/papers"], "database: it is not an address such as postgresql://"),
        (["--database", "postgresql://127.0.0.1:1/papers"], "database: connection failed"),
    ],
    ids=str,
)
def test_a_site_that_cannot_be_served_says_why(tmp_path, options, message):
    result = tendsto("serve", "--folder", tmp_path, *options)
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_a_database_of_another_version_is_left_alone(tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "site.sqlite") as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    result = tendsto("serve", "--folder", tmp_path)
    assert (result.exit_code, "has version 7" in result.stderr) == (2, True)


def test_without_its_packages_the_site_says_what_brings_them(tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] in ("fastapi", "sqlalchemy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imported(name, *rest)

    monkeypatch.setattr("tendsto.extras.importlib.import_module", lambda name: without(name))
    result = tendsto("serve", "--folder", tmp_path)
    assert (result.exit_code, "pip install 'tendsto[site]'" in result.stderr) == (2, True)
