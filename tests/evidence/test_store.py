from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from tendsto.evidence import Budget, Exhibits, Store, check_claim, provenance
from tendsto.evidence.provenance import digest, source_digest
from toys import sums

BUDGET = Budget("quick", seed=7)
CLAIM = sums.variance_falls_like_one_over_n


@pytest.fixture
def kept(tmp_path):
    store = Store(tmp_path)
    verdict, exhibits = check_claim(CLAIM, BUDGET)
    store.save(verdict, exhibits, digest(CLAIM, BUDGET))
    return store, verdict, exhibits


def test_a_verdict_comes_back_with_its_figures(kept):
    store, verdict, exhibits = kept
    assert store.load(CLAIM, BUDGET) == verdict
    assert list(store.verdicts()) == [verdict]
    path = store.figure_path(verdict, 0)
    assert path.read_text() == exhibits.figures["The sample means"]
    name = "variance_falls_like_one_over_n.quick.7"
    assert sorted(str(it.relative_to(store.folder)) for it in store.folder.rglob("*.*")) == [
        f"figures/toy-sums/{name}.1-The-sample-means.svg",
        f"verdicts/toy-sums/{name}.json",
    ]


def test_traces_are_parquet(kept, tmp_path):
    store, verdict, _ = kept
    frame = pd.DataFrame({"step": [1, 2], "gap": [0.5, 0.25]})
    store.save(verdict, Exhibits(traces={"a/../b": frame}), "digest")
    (path,) = tmp_path.rglob("*.parquet")
    assert path.parent == tmp_path / "traces" / "toy-sums"
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)


@pytest.mark.parametrize("budget", [Budget("quick", 8), Budget("standard", 7)])
def test_another_seed_or_budget_is_another_verdict(kept, budget):
    assert kept[0].load(CLAIM, budget) is None


def test_another_version_is_run_again(kept, monkeypatch):
    newer = provenance.versions() | {"jaxlib": "99"}
    monkeypatch.setattr(provenance, "versions", lambda: newer)
    assert kept[0].load(CLAIM, BUDGET) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"digest": 1}', '{"digest": "x", "verdict": 3}', "\xff"])
def test_a_damaged_file_is_run_again(kept, damage):
    store, verdict, exhibits = kept
    (path,) = store.folder.glob("verdicts/*/*.json")
    path.write_text(damage, encoding="latin-1")
    assert store.load(CLAIM, BUDGET) is None
    assert list(store.verdicts()) == []
    store.save(verdict, exhibits, digest(CLAIM, BUDGET))
    assert store.load(CLAIM, BUDGET) == verdict


def test_a_truncated_file_or_a_missing_figure_is_run_again(kept):
    store, verdict, _ = kept
    (path,) = store.folder.glob("verdicts/*/*.json")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert store.load(CLAIM, BUDGET) is None
    path.write_bytes(whole)
    store.figure_path(verdict, 0).unlink()
    assert store.load(CLAIM, BUDGET) is None


def test_what_was_not_run_is_run_again(tmp_path):
    store = Store(tmp_path)
    verdict, exhibits = check_claim(sums.prover_agrees, BUDGET)
    store.save(verdict, exhibits, digest(sums.prover_agrees, BUDGET))
    assert store.load(sums.prover_agrees, BUDGET) is None
    assert list(store.verdicts()) == [verdict]


FILES = {
    "__init__.py": "from lib.method import step\nfrom lib.other import walk\n",
    "method.py": "from . import inner\n\n\ndef step():\n    return inner.ONE\n",
    "inner.py": "import math\n\nONE = 1\n",
    "other.py": "def walk():\n    pass\n",
    "late.py": "X = 1\n",
    "unused.py": "",
    "paper.py": "from lib import step\n\n\ndef claim():\n    import lib.late\n    return step, lib.late\n",
    "whole.py": "import lib\n",
}


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "lib"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("module", "edited", "changes"),
    [
        ("lib.paper", "paper.py", True),
        ("lib.paper", "method.py", True),
        ("lib.paper", "inner.py", True),
        ("lib.paper", "late.py", True),
        ("lib.paper", "other.py", False),
        ("lib.paper", "unused.py", False),
        ("lib.whole", "other.py", True),
        ("lib.whole", "unused.py", False),
    ],
)
def test_a_change_counts_exactly_where_the_claim_can_feel_it(library, module, edited, changes):
    before = source_digest(module)
    assert source_digest(module) == before
    (library / edited).write_text((library / edited).read_text() + "# edited\n")
    assert (source_digest(module) != before) is changes


def test_sources_are_read_not_executed(library):
    (library / "method.py").write_text("raise SystemExit\n")
    assert source_digest("lib.paper")


def test_the_judge_and_the_finding_count_but_the_report_does_not(monkeypatch):
    read = Path.read_bytes
    before = source_digest("toys.sums")
    for name, changes in [("judge.py", True), ("finding.py", True), ("report.py", False)]:
        edited = os.path.join("evidence", name)
        monkeypatch.setattr(
            Path,
            "read_bytes",
            lambda self, edited=edited: read(self) + (b"#" if str(self).endswith(edited) else b""),
        )
        assert (source_digest("toys.sums") != before) is changes


def test_a_module_without_a_source_is_named():
    with pytest.raises(ModuleNotFoundError, match="module: math has no source file"):
        source_digest("math")
