"""A data set of metrics against those of its fractions one by one, and against what can end a build early."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from parts_on_disk import wait_for_parts

from tendsto.constants import PCF, Box, build_metrics, dynamics, metrics_table
from tendsto.constants.boxes import representatives

BOX = Box(1, 2, 2)
SETTINGS = {"depth": 400, "unit": 100}


def build(out, **settings):
    return build_metrics(BOX, out=out, **(SETTINGS | settings))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return build(tmp_path_factory.mktemp("reference") / "metrics.parquet").read_bytes()


def test_every_fraction_has_its_row_with_its_metrics(reference, tmp_path):
    out = tmp_path / "metrics.parquet"
    out.write_bytes(reference)
    found = pd.read_parquet(out)
    a, b = BOX.coefficients(0, BOX.size)
    kept = representatives(a, b)
    formulas = [PCF(x, y) for x, y in zip(found["a"], found["b"], strict=True)]
    assert formulas == [PCF(x, y) for x, y in zip(a[kept].tolist(), b[kept].tolist(), strict=True)]
    alone = metrics_table(formulas, 400, factorial_threshold=0.25)
    names = [name for name in dynamics.COLUMNS if name not in ("a", "b")]
    pd.testing.assert_frame_equal(found[names], alone[names], check_exact=True, check_dtype=False)
    assert os.listdir(tmp_path) == ["metrics.parquet"]


@pytest.mark.parametrize(
    ("settings", "column"),
    [
        ({"depth": 300}, "growth"),
        ({"factorial_threshold": 0.0}, "factorial_growth"),
        ({"reduced_only": True}, "status"),
    ],
)
def test_every_setting_tells(reference, tmp_path, settings, column):
    before = pd.read_parquet(build(tmp_path / "before.parquet"))
    after = pd.read_parquet(build(tmp_path / "after.parquet", **settings))
    assert len(before) == len(after)
    assert not before[column].equals(after[column])


def test_what_is_complete_is_not_built_again(reference, tmp_path, monkeypatch):
    out = tmp_path / "metrics.parquet"
    out.write_bytes(reference)

    def never(*arguments):
        raise AssertionError("measured again")

    with monkeypatch.context() as patched:
        patched.setattr(dynamics, "metrics_part", never)
        assert build(out) == out
        with pytest.raises(AssertionError, match="measured again"):
            build(out, depth=300)
    out.write_bytes(reference[:-1])
    assert build(out).read_bytes() == reference


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"depth": 111}, "depth"), ({"factorial_threshold": -0.1}, "factorial_threshold"), ({"unit": 0}, "unit")],
)
def test_settings_out_of_range_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "metrics.parquet", **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_build_with_other_settings_does_not_go_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        interrupt_after(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "metrics.parquet")
    assert not (tmp_path / "metrics.parquet").exists()
    for settings in ({"depth": 300}, {"factorial_threshold": 0.05}, {"reduced_only": True}, {"unit": 101}):
        with pytest.raises(ValueError, match="holds parts of other settings"):
            build(tmp_path / "metrics.parquet", **settings)


def interrupt_after(monkeypatch, count):
    measure, calls = dynamics.metrics_part, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) > count:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(dynamics, "metrics_part", interrupted)


# --- killed for real


SLOW = {"depth": 2000}  # long enough to be killed halfway


@pytest.fixture(scope="module")
def slow_reference(tmp_path_factory):
    return build(tmp_path_factory.mktemp("slow") / "metrics.parquet", **SLOW).read_bytes()


def start(out: Path, **settings) -> subprocess.Popen:
    code = (
        "from tendsto.constants import Box, build_metrics\n"
        f"build_metrics(Box(1, 2, 2), out={str(out)!r}, **{SETTINGS | SLOW | settings!r})"
    )
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_killed_build_goes_on_to_the_same_bytes(slow_reference, tmp_path):
    out = tmp_path / "metrics.parquet"
    process = start(out)
    wait_for_parts(out, 17)  # the first half of a box has no rows
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    assert build(out, workers=2, **SLOW).read_bytes() == slow_reference
    assert os.listdir(tmp_path) == ["metrics.parquet"]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the workers")
def test_a_killed_worker_loses_nothing(slow_reference, tmp_path):
    out = tmp_path / "metrics.parquet"
    process = start(out, workers=2)
    wait_for_parts(out, 1)
    workers = [
        pid
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if b"popen_loky" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(int(workers[0]), signal.SIGKILL)
    assert process.wait(timeout=300) == 0
    assert out.read_bytes() == slow_reference


def test_a_killed_dask_worker_loses_nothing(slow_reference, tmp_path):
    distributed = pytest.importorskip("distributed")
    out = tmp_path / "metrics.parquet"
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        process = start(out, cluster=cluster.scheduler_address)
        wait_for_parts(out, 1)
        assert process.poll() is None
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        assert process.wait(timeout=300) == 0
    assert out.read_bytes() == slow_reference
