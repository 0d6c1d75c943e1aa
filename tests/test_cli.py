from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tendsto import papers
from tendsto.cli import _complete, app
from tendsto.evidence import Store

ROOT = Path(__file__).parents[1]
TOYS = ROOT / "tests" / "toys"
FIELDS = {
    "paper",
    "claim",
    "statement",
    "source",
    "evidence",
    "verdict",
    "predicted",
    "measured",
    "interval",
    "control",
    "seconds",
    "budget",
    "seed",
    "versions",
    "reason",
    "checks",
}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """The toy papers, found by their entry points as any package's would be."""
    monkeypatch.syspath_prepend(TOYS)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NPROC", "1")
    forget = papers.catalogue.cache_clear
    forget()
    yield
    forget()


def tendsto(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def command(*arguments, before: str = "") -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(TOYS)])}
    line = [sys.executable, "-c", f"{before}\nfrom tendsto.cli import main\nmain()", *map(str, arguments)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["toy-sums/twice_two_is_four"], 0),
        (["toy-sums/twice_two_is_four", "toy-sums/prover_agrees"], 0),
        (["toy-sums"], 1),
        (["toy-sums/worst_sum_is_bounded"], 1),
        (["toy-crashes/raises"], 1),
        (["toy-crashes/cannot_tell"], 1),
    ],
)
def test_the_exit_code_says_whether_all_holds(tmp_path, names, code):
    result = tendsto("check", *names, "--workers", 1, "--out", tmp_path)
    assert result.exit_code == code
    assert f"Report: {tmp_path}/index.html" in result.stdout
    assert (tmp_path / "index.html").is_file()
    again = tendsto("check", *names, "--workers", 1, "--out", tmp_path)
    assert again.exit_code == code
    # What crashed is computed again, and need not take as long.
    assert [line.split()[:-1] for line in again.stdout.splitlines()] == [
        line.split()[:-1] for line in result.stdout.splitlines()
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "name papers or claims to check, or --all"),
        (["check", "toy-sums", "--all"], "not both"),
        (["check", "toy-sum"], "there is no paper 'toy-sum'; did you mean toy-sums"),
        (["check", "zzzzzz"], "there is no paper 'zzzzzz'; tendsto papers lists them"),
        (["check", "toy-sums/twice_is_four"], "no claim 'twice_is_four'; did you mean twice_two_is_four?"),
        (["check", "toy-sums", "--seed", "-1"], "--seed"),
        (["check", "toy-sums", "--seed", str(2**32)], "--seed"),
        (["check", "toy-sums", "--budget", "large"], "--budget"),
        (["check", "toy-sums", "--workers", "0"], "--workers"),
        (["check", "toy-sums", "--out", "/dev/null/x"], "--out: cannot write /dev/null/x: Not a directory"),
        (["check", "toy-sums/prover_agrees", "--cluster", "nowhere"], "'nowhere' is not an address"),
        (["show", "toy-sum"], "did you mean toy-sums"),
        (["papers", "--field", "alchemy"], "--field: 'alchemy' is not one of"),
        (["report", "--out", "/nowhere"], "there is no folder /nowhere"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_wrong_command_is_explained(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = tendsto(*arguments)
    assert result.exit_code == 2
    assert message in re.sub(r"[\s│]+", " ", result.stderr)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_the_table_tells_what_was_predicted_and_measured(tmp_path):
    result = tendsto("check", "toy-sums", "toy-crashes/cannot_tell", "--workers", 1, "--out", tmp_path)
    assert max(map(len, result.stdout.split("Report:")[0].splitlines())) <= 100
    rows = {line.split()[1]: line.split() for line in result.stdout.splitlines() if line.startswith(" toy-")}
    assert rows["twice_two_is_four"][2:] == ["certified", "=", "4", "4", "fails", "holds", "0.0"]
    assert rows["worst_sum_is_bounded"][3:5] == ["≤", "1"]
    assert rows["cannot_tell"][-3:-1] == ["holds", "unsound"]
    assert "toy-sums/prover_agrees not run: needs a prover that nobody has" in result.stdout


def test_json_is_one_object_a_line_and_nothing_else(tmp_path):
    names = ("toy-sums", "toy-crashes/cannot_tell")
    done = command("check", *names, "--json", "--workers", 2, "--out", tmp_path)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(line["paper"], line["claim"]) for line in lines} == {
        ("toy-sums", "variance_falls_like_one_over_n"),
        ("toy-sums", "twice_two_is_four"),
        ("toy-sums", "worst_sum_is_bounded"),
        ("toy-sums", "prover_agrees"),
        ("toy-crashes", "cannot_tell"),
    }
    for line in lines:
        assert line.keys() >= FIELDS
    assert "a claim that prints" in done.stderr
    assert f"Report: {tmp_path}/index.html" in done.stderr


def test_all_means_the_whole_catalogue(tmp_path, monkeypatch):
    whole = papers.catalogue()
    one = {"toy-sums": whole["toy-sums"], "toy-hostile": whole["toy-hostile"]}
    monkeypatch.setattr(papers, "catalogue", lambda: one)
    result = tendsto("check", "--all", "--json", "--workers", 1, "--seed", 5, "--out", tmp_path)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["claim"] for line in lines] == [name for entry in one.values() for name in entry.claims]
    assert {line["seed"] for line in lines} == {5}


def test_a_full_disk_is_one_clear_line_and_keeps_what_was_there(tmp_path):
    """A limit on the size of files stands for a disk that fills while the run is on."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))"
    done = command("check", "toy-sums", "--workers", 1, "--out", tmp_path, before=limit)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"tendsto: cannot write {tmp_path}/figures/toy-sums/variance_falls")
    assert "File too large" in last
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert command("check", "toy-sums/twice_two_is_four", "--out", tmp_path).returncode == 0


def test_a_really_full_file_system(tmp_path):
    """The same on a file system of 64 KiB, where one may be mounted."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        done = command("check", "toy-sums", "--workers", 1, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert "No space left on device" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        for verdict in Store(tmp_path / "out").verdicts():
            assert verdict.paper == "toy-sums"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_the_report_is_built_again_from_what_is_stored(tmp_path):
    tendsto("check", "toy-sums", "--workers", 1, "--out", tmp_path)
    pages = {name: (tmp_path / name).read_bytes() for name in ("index.html", "toy-sums.html")}
    for name in pages:
        (tmp_path / name).unlink()
    result = tendsto("report", "--out", tmp_path)
    assert (result.exit_code, result.stdout) == (0, f"Report: {tmp_path}/index.html\n")
    assert {name: (tmp_path / name).read_bytes() for name in pages} == pages


def test_papers_are_listed_and_found():
    listed = [json.loads(line) for line in tendsto("papers", "--json").stdout.splitlines()]
    dates = [paper["date"] for paper in listed]
    assert dates == sorted(dates)
    (sums,) = (paper for paper in listed if paper["slug"] == "toy-sums")
    assert sums["claims"][1] == "twice_two_is_four"
    found = tendsto("papers", "--field", "federated", "--search", "WAYS to break").stdout
    assert "toy-crashes" in found
    assert "toy-sums" not in found
    assert tendsto("papers", "--search", "no such words").exit_code == 0


def test_a_paper_is_shown_with_its_claims_and_verdicts(tmp_path):
    tendsto("check", "toy-sums/worst_sum_is_bounded", "--workers", 1, "--out", tmp_path)
    shown = tendsto("show", "toy-sums", "--out", tmp_path).stdout
    for words in (
        "Sums of independent numbers",
        "https://arxiv.org/abs/2401.00001",
        "1/√(12 n)",
        "The variance of the mean is 1/(12 n)",
        "Theorem 1; measured",
        "fails at quick, seed 0: worst: predicted ≤ 1",
    ):
        assert words in shown
    plain = json.loads(tendsto("show", "toy-sums", "--json", "--out", tmp_path).stdout)
    assert [method["name"] for method in plain["methods"]] == ["evidence.Estimate"]
    verdicts = {claim["claim"]: [it["verdict"] for it in claim["verdicts"]] for claim in plain["claims"]}
    assert verdicts["worst_sum_is_bounded"] == ["fails"]
    assert verdicts["prover_agrees"] == []


def test_a_paper_is_shown_with_the_formulas_of_its_methods():
    shown = tendsto("show", "vr-halpern").stdout
    assert "tendsto.optimize.Halpern\n  Halpern iteration of the forward-backward map" in shown
    assert "x_(k+1) = λ_k x_0 + (1 - λ_k) T x_k" in shown
    assert "λ_k = 1/(k+2)" in shown


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["check", "-h"], ["--version"], []])
def test_help_answers_without_loading_jax(arguments):
    code = (
        "import sys\nfrom tendsto.cli import app\n"
        f"try:\n    app({arguments})\nexcept SystemExit:\n    pass\n"
        "print({'jax', 'numpy', 'scipy', 'matplotlib'} & sys.modules.keys(), file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "set()"


def test_every_command_has_an_example():
    for name in ("papers", "show", "check", "report"):
        assert f"Example: tendsto {name}" in tendsto(name, "--help").stdout


def test_slugs_and_claims_complete_as_the_catalogue_names_them():
    own = {slug: entry for slug, entry in papers.catalogue().items() if entry.module.startswith("tendsto.")}
    assert _complete("") == sorted(own)
    for slug, entry in own.items():
        assert _complete(f"{slug}/") == [f"{slug}/{name}" for name in entry.claims]
    assert _complete("no-such-paper/") == []
