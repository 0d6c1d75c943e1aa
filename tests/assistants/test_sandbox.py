"""The sandbox: what a command in it can and cannot do, tried for real."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from tendsto.assistants.sandbox import SHOWN, Sandbox

pytestmark = pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs util-linux")
jailed = pytest.mark.skipif("own files" not in Sandbox().isolation, reason="needs bubblewrap: apt install bubblewrap")


def shell(script, directory, seconds=20.0, **limits):
    return Sandbox(**limits).run(["sh", "-c", script], directory, seconds=seconds)


def test_runs_in_its_directory_with_an_environment_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    run = shell("pwd; env; cat; echo done > left; echo oops >&2; exit 7", tmp_path)
    assert (run.status, run.code, run.errors) == ("exited", 7, "oops\n")
    assert run.output.splitlines()[0] == str(tmp_path)
    assert f"HOME={tmp_path}" in run.output
    assert "hunter2" not in run.output
    assert (tmp_path / "left").read_text() == "done\n"


@jailed
def test_sees_and_writes_no_other_files(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.write_text("secret")
    assert shell(f"cat {outside}", inside).output == ""
    assert shell("ls /home /root", inside).output == ""
    assert shell("echo x > /usr/tendsto-was-here", inside).code != 0
    shell(f"echo x > {outside}; echo x > {tmp_path}/new; echo x > /tmp/tendsto-was-here", inside)
    assert outside.read_text() == "secret"
    assert not (tmp_path / "new").exists()
    assert not Path("/tmp/tendsto-was-here").exists()


@pytest.mark.skipif(Sandbox().isolation == "limits only", reason="needs user namespaces")
def test_has_no_network_and_sees_no_other_processes(tmp_path):
    devices = shell("cat /proc/net/dev", tmp_path).output.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    processes = shell("ls /proc", tmp_path).output.split()
    assert max(int(name) for name in processes if name.isdigit()) < 20


@pytest.mark.parametrize("jailer", ["best", "unshare", ""])
def test_time_runs_out_and_nothing_survives(tmp_path, monkeypatch, jailer):
    if jailer != "best":
        if jailer and Sandbox().isolation == "limits only":
            pytest.skip("needs user namespaces")
        monkeypatch.setattr("tendsto.assistants.sandbox._jailer", lambda: jailer)
    started = time.perf_counter()
    duration = f"98.{time.time_ns()}"
    run = shell(f"sleep {duration} & sleep {duration}", tmp_path, seconds=0.5)
    assert run.status == "timed out"
    assert time.perf_counter() - started < 10.0
    time.sleep(0.2)  # a killed process stays in the table until its parent has noticed
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not any(duration.encode() in command for command in commands)


def test_processor_time_is_limited_too(tmp_path):
    assert shell("ulimit -t; ulimit -c", tmp_path, seconds=5.0).output.split() == ["6", "0"]
    busy = shell("while :; do :; done", tmp_path, seconds=1.0)
    assert busy.status == "timed out"


def test_memory_is_limited(tmp_path):
    hungry = "dd if=/dev/zero of=/dev/null bs=300M count=1"
    assert shell(hungry, tmp_path, memory=200 * 2**20).code != 0
    assert shell(hungry, tmp_path, memory=2**30).code == 0


def test_a_flood_of_output_is_cut_off(tmp_path):
    run = shell("exec yes", tmp_path)
    # At the limit some kernels send the signal, and others let the write fail, of which `yes` complains.
    assert (run.status, run.code) == ("killed", signal.SIGXFSZ) or "File too large" in run.errors
    assert run.code != 0
    assert len(run.output) == SHOWN


@pytest.mark.parametrize(("options", "named"), [({"memory": 10}, "memory"), ({"seconds": -1.0}, "seconds")])
def test_names_the_limit_at_fault(options, named, tmp_path):
    with pytest.raises(ValueError, match=named):
        shell("true", tmp_path, **options)
