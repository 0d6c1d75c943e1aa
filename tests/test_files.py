"""Atomic writes: the old file or the new one, whatever happens in between."""

import errno
import os
import subprocess
import sys

import pytest

from tendsto.files import write_atomically


def test_the_file_appears_whole_with_its_directories(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with write_atomically(path) as stream:
        stream.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file.txt"]


def test_the_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "ordinary").write_bytes(b"")
    with write_atomically(tmp_path / "atomic") as stream:
        stream.write(b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_an_error_in_the_block_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    def fail_half_way() -> None:
        with write_atomically(path) as stream:
            stream.write(b"ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_no_room_left_names_the_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    code = (
        "import sys; from tendsto.files import write_atomically\n"
        "with write_atomically(sys.argv[1]) as stream: stream.write(bytes(100_000))"
    )
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno {errno.EFBIG}] File too large: '{path}'"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"), write_atomically(tmp_path / "file" / "below"):
        pass
