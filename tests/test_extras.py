import sys

import pytest

from tendsto import extras
from tendsto.evidence import Budget, Claim, check_claim
from tendsto.papers import lr_perceptron


def test_a_package_that_is_there_is_imported():
    assert extras.load("os.path", extra="nothing").join("a", "b") == "a/b"


def test_a_missing_package_names_what_brings_it():
    with pytest.raises(extras.MissingExtra, match=r"no_such_package is needed here: pip install 'tendsto\[speed\]'"):
        extras.load("no_such_package.part", extra="speed")


def test_what_a_package_itself_lacks_is_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "present_but_broken.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package") as caught:
        extras.load("present_but_broken", extra="speed")
    assert not isinstance(caught.value, extras.MissingExtra)


def test_a_claim_that_lacks_a_package_is_not_run(monkeypatch):
    def needs_more(budget):
        return extras.load("no_such_package", extra="speed")

    needs_more.__module__ = lr_perceptron.__name__
    monkeypatch.setitem(sys.modules, "no_such_package", None)
    verdict, _ = check_claim(Claim(needs_more, "s", "p", "measured", [needs_more]), Budget())
    assert (verdict.verdict, verdict.errored) == ("not run", False)
    assert "pip install 'tendsto[speed]'" in verdict.reason
