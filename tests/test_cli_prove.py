"""`tendsto prove`, as a user runs it: what it prints, what it writes, and what a kill leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")

FILE = """Lemma easy_one (n : nat) : n + 0 = 0 + n.
Admitted.
Lemma wrong (n : nat) : n < n.
Admitted.
"""
COMMAND = [sys.executable, "-m", "tendsto.cli", "prove", "file.v", "--workers", "1", "--no-imports"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "file.v").write_text(FILE)
    return tmp_path


def prove(folder, *arguments):
    return subprocess.run([*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_a_killed_run_goes_on_and_the_patch_applies(folder):
    process = subprocess.Popen(
        [*COMMAND, "--seconds", "300"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("proofs/easy_one-*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    process.wait()
    (kept,) = folder.glob("proofs/easy_one-*.json")
    written = kept.stat().st_mtime_ns

    run = prove(folder, "easy_one", "--seconds", "300", "--json")
    assert run.returncode == 0, run.stderr
    (finding,) = [json.loads(line) for line in run.stdout.splitlines()]
    assert (finding["outcome"], finding["by"], finding["axioms"]) == ("proved", "automation", [])
    assert kept.stat().st_mtime_ns == written
    assert "trying" not in run.stderr
    subprocess.run(["patch", "-p1", "-i", "proofs/proofs.patch"], cwd=folder, check=True, capture_output=True)
    assert f"Proof.\n  {finding['proof']}\nQed.\nLemma wrong" in (folder / "file.v").read_text()


def test_what_is_left_open_is_told(folder):
    run = prove(folder, "wrong", "--seconds", "2")
    assert run.returncode == 1
    assert run.stdout.splitlines()[0].startswith("open    wrong  ")
    assert "1 open" in run.stdout
    assert "trying wrong (file.v)" in run.stderr
    assert (folder / "proofs" / "proofs.patch").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "tendsto: file.v leaves no theorem 'nobody' open"),
        (["--corpus", "."], "corpus.jsonl"),
        (["--seconds", "0"], "--seconds"),
    ],
)
def test_bad_arguments_are_told_in_a_line(folder, arguments, message):
    run = prove(folder, *arguments)
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert "tendsto: 2" not in run.stderr


def test_a_file_without_gaps(folder):
    (folder / "file.v").write_text("Lemma t : True. Proof. exact I. Qed.")
    run = prove(folder)
    assert run.returncode == 0
    assert "file.v leaves no theorem open" in run.stderr
