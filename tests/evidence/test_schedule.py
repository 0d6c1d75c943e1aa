from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tendsto.evidence import Budget, Claim, Store, Verdict, check
from toys import crashes, sums

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "toys")]),
    "NPROC": "1",
}
SUMS = [value for value in vars(sums).values() if isinstance(value, Claim)]
OCCASION = ("seconds", "hardware", "finished")


def numbers(verdict: Verdict) -> dict:
    plain = json.loads(verdict.to_json())
    return {key: value for key, value in plain.items() if key not in OCCASION}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """An uninterrupted run on one worker, as a command."""
    out = tmp_path_factory.mktemp("reference")
    command(out, "--workers", "1").communicate()
    return out


def command(out: Path, *options: str, seconds: float = 0.0) -> subprocess.Popen:
    line = [sys.executable, "-m", "tendsto.cli", "check", "toy-sums", "--out", str(out), *options]
    environment = ENVIRONMENT | {"TOY_SECONDS": str(seconds)}
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_a_verdict(process: subprocess.Popen, out: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(out.glob("verdicts/*/*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stored(out: Path) -> dict[str, dict]:
    return {verdict.claim: numbers(verdict) for verdict in Store(out).verdicts()}


def test_a_killed_run_leaves_no_process_and_goes_on_to_the_same_bits(reference, tmp_path):
    process = command(tmp_path, "--workers", "2", seconds=1.0)
    wait_for_a_verdict(process, tmp_path)
    process.kill()
    process.communicate(timeout=20)  # ends when the workers, which hold the pipes, have ended too
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("verdicts/*/*.json")}
    assert 0 < len(kept) < len(SUMS)
    assert stored(tmp_path).items() <= stored(reference).items()

    again = command(tmp_path, "--workers", "1")
    _, errors = again.communicate()
    assert again.returncode == 1, errors  # one toy claim fails, as it should
    assert errors.decode().count("kept") == len(kept)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert stored(tmp_path) == stored(reference)
    figures = sorted(path.relative_to(tmp_path) for path in tmp_path.glob("figures/*/*"))
    assert figures == sorted(path.relative_to(reference) for path in reference.glob("figures/*/*"))
    for path in figures:
        assert (tmp_path / path).read_bytes() == (reference / path).read_bytes()


def test_an_interrupted_run_says_what_is_kept_and_how_to_go_on(tmp_path):
    process = command(tmp_path, "--workers", "2", seconds=4.0)
    wait_for_a_verdict(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    last = errors.decode().strip().splitlines()[-1]
    assert last.startswith("tendsto: interrupted; ")
    assert f" of 4 verdicts are kept in {tmp_path}: run again without --fresh to go on" in last
    assert "Traceback" not in errors.decode()


def test_workers_change_no_number_and_a_dead_one_costs_its_claim_alone(reference, tmp_path):
    verdicts = check([*SUMS, crashes.is_killed], Budget(), workers=2, store=Store(tmp_path))
    assert [verdict.claim for verdict in verdicts] == [*(claim.name for claim in SUMS), "is_killed"]
    assert verdicts[-1].reason == "error: the worker process died; it may have run out of memory"
    assert verdicts[-1].errored
    numbers_here = stored(tmp_path)
    del numbers_here["is_killed"]
    assert numbers_here == stored(reference)


def test_what_is_stored_is_kept_unless_asked_for_afresh(tmp_path):
    store, started = Store(tmp_path), []
    claims = [sums.twice_two_is_four, sums.prover_agrees]

    def run(**options):
        started.clear()
        return check(claims, Budget(), store=store, on_start=lambda claim: started.append(claim.name), **options)

    first = run()
    assert started == ["twice_two_is_four", "prover_agrees"]
    assert run()[0] == first[0]
    assert started == ["prover_agrees"]
    run(resume=False)
    assert started == ["twice_two_is_four", "prover_agrees"]


def test_no_worker_is_too_few():
    with pytest.raises(ValueError, match="workers: must be at least 1, got 0"):
        check(SUMS, Budget(), workers=0)
