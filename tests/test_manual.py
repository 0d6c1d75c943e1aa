"""The Python in the README and in the manual runs as it stands; what is shown in docstrings is what comes out."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if "```python" in page.read_text()]
SOURCES = ROOT / "src"
SHOWN = [
    ".".join(path.relative_to(SOURCES).with_suffix("").parts)
    for path in sorted(SOURCES.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "user-contrib/mathcomp" in page.read_text() and not Path("/usr/lib/ocaml/coq/user-contrib/mathcomp").is_dir():
        pytest.skip("needs mathcomp: apt install libcoq-mathcomp")
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    exec(compile("\n".join(blocks), page.name, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("module", SHOWN)
def test_docstrings_show_what_comes_out(module):
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried
    assert not failed
