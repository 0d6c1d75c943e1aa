"""The search against formulas known to be in the box, and against everything that can interrupt it."""

import errno
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from parts_on_disk import wait_for_parts

from tendsto.constants import LIBRARY, Box, discover, parts, search_part

BOX = Box(1, 2, 2)
SLOW = Box(1, 2, 4)


def same(left, right):
    pd.testing.assert_frame_equal(left.reset_index(drop=True), right.reset_index(drop=True))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return discover(BOX, out=tmp_path_factory.mktemp("reference") / "finds.parquet", unit=700)


def test_known_formulas_are_found(reference):
    found = {(tuple(row.a), tuple(row.b)): row for row in reference.itertuples()}
    assert found[(2, 1), (1, 0, 0)].relation == "4/pi"
    assert found[(2, 1), (2, 0, 0)].constant == "atan(sqrt2)*sqrt2"
    assert found[(1,), (1,)].constant == "quadratic"
    assert found[(1,), (2,)].relation == "2"
    assert "+/-" in found[(2, 1), (1, 0, 0)].limit
    assert found[(2, 1), (1, 0, 0)].delta == pytest.approx(-0.2, abs=0.02)
    assert ((1, 1), (1, 1)) not in found  # e - 1: no factorial reduction


def test_the_file_holds_the_table_and_nothing_else_is_left(reference, tmp_path):
    table = discover(BOX, out=tmp_path / "finds.parquet", unit=10_000)
    same(table, reference)
    same(pd.read_parquet(tmp_path / "finds.parquet"), table)
    assert os.listdir(tmp_path) == ["finds.parquet"]


def test_only_the_constants_asked_for_are_named(tmp_path):
    table = discover(BOX, ["ln2"], out=tmp_path / "finds.parquet")
    assert set(table["constant"]) <= {"", "ln2", "rational", "quadratic"}
    with pytest.raises(ValueError, match="constants: 'tau' is not one of pi"):
        discover(BOX, ["tau"], out=tmp_path / "finds.parquet")


def test_every_find_is_told_as_it_comes(reference, tmp_path):
    told = []
    discover(BOX, out=tmp_path / "finds.parquet", unit=700, on_find=told.append)
    assert [find.relation for find in told] == reference["relation"].tolist()
    assert [list(find.formula.a) for find in told] == [list(a) for a in reference["a"]]


def test_a_damaged_part_is_searched_again(reference, tmp_path):
    def stop(find):
        raise KeyboardInterrupt

    out = tmp_path / "finds.parquet"
    with pytest.raises(KeyboardInterrupt):
        discover(BOX, out=out, unit=700, on_find=stop)
    assert out.is_file()
    (part,) = sorted((tmp_path / ".finds.parquet.parts").glob("*.parquet"))[:1]
    part.write_bytes(b"PAR1 nonsense")
    with pytest.warns(RuntimeWarning, match="cannot be read .* computed again"):
        same(discover(BOX, out=out, unit=700), reference)


def test_another_search_does_not_take_over_its_parts(tmp_path):
    def stop(find):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        discover(BOX, out=tmp_path / "finds.parquet", on_find=stop)
    with pytest.raises(ValueError, match="parts of other settings"):
        discover(BOX, out=tmp_path / "finds.parquet", depth=200)


def test_a_full_disk_loses_nothing(reference, tmp_path, monkeypatch):
    """The disk is full for a while: the finds wait in memory and are written once there is room."""
    write, calls = parts.write_atomically, []

    def full(path):
        calls.append(path)
        if 2 <= len(calls) < 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path)

    monkeypatch.setattr(parts, "write_atomically", full)
    with pytest.warns(RuntimeWarning, match="No space left on device.*kept in memory"):
        same(discover(BOX, out=tmp_path / "finds.parquet", unit=700), reference)


def test_a_disk_that_stays_full_is_an_error_with_the_finds_told(tmp_path, monkeypatch):
    def full(path):
        if path.name.endswith(".parquet"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path)

    write, told = parts.write_atomically, []
    monkeypatch.setattr(parts, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"), pytest.warns(RuntimeWarning, match="kept in memory"):
        discover(BOX, out=tmp_path / "finds.parquet", on_find=told.append)
    assert told


def start(out: Path, workers: int) -> subprocess.Popen:
    code = (
        "from tendsto.constants import Box, discover\n"
        f"discover(Box(1, 2, 4), out={str(out)!r}, unit=400, workers={workers})"
    )
    return subprocess.Popen([sys.executable, "-c", code])


@pytest.fixture(scope="module")
def slow_reference(tmp_path_factory):
    return discover(SLOW, out=tmp_path_factory.mktemp("slow") / "finds.parquet", unit=400)


def test_a_killed_search_goes_on_to_the_same_finds(slow_reference, tmp_path):
    out = tmp_path / "finds.parquet"
    process = start(out, 1)
    wait_for_parts(out, 90)  # the first half of a box has no representatives
    process.kill()
    process.wait()
    assert not out.exists()
    calls = []
    same(discover(SLOW, out=out, unit=400, on_find=calls.append), slow_reference)
    assert 0 < len(calls) < len(slow_reference)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the workers")
def test_a_killed_worker_loses_nothing(slow_reference, tmp_path):
    out = tmp_path / "finds.parquet"
    process = start(out, 2)
    wait_for_parts(out, 3)
    workers = [
        pid
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if b"popen_loky" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(int(workers[0]), signal.SIGKILL)
    assert process.wait(timeout=300) == 0
    same(pd.read_parquet(out), slow_reference)


def test_a_dask_cluster_finds_the_same(reference, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        same(discover(BOX, out=tmp_path / "finds.parquet", unit=700, cluster=cluster.scheduler_address), reference)


def test_parts_do_not_depend_on_where_they_are_cut(reference):
    cut = [0, 1, 999, 1000, BOX.size]
    parts = [search_part(BOX, 480, tuple(LIBRARY), pair) for pair in itertools.pairwise(cut)]
    assert [find.limit for part in parts for find in part] == reference["limit"].tolist()
