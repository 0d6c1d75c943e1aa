"""Run one command on untrusted input: in a directory of its own, with limits, cut off from the rest of the machine."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from tendsto.validation import integer, positive

FILE_SIZE = 64 * 2**20
"""The largest file, in bytes, that a sandboxed command may write; its output counts as two such files."""

SHOWN = 2**20
"""How many bytes of a command's output and of its errors are kept."""

Status = Literal["exited", "timed out", "killed"]

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/etc/ocamlfind.conf")


@dataclass(frozen=True)
class Run:
    """How a sandboxed command ended.

    **Arguments**

    - `status`: `exited` of its own accord with `code`; `timed out` (wall clock or processor time); or `killed` by
      the signal `code`.
    - `output`, `errors`: the first `SHOWN` bytes that it wrote to standard output and standard error.
    - `seconds`: wall time.
    """

    status: Status
    code: int
    output: str
    errors: str
    seconds: float


@dataclass(frozen=True)
class Sandbox:
    """Limits for commands that work on input from a stranger (Linux).

    Every command gets an empty environment but for `PATH`, `HOME` and `TMPDIR` (both its own directory) and the
    locale; no standard input; limits on wall and processor time, address space and the size of each file; and a
    process group of its own, killed whole at the end. Beyond that, `isolation` says what else is enforced here:

    - with bubblewrap (`bwrap`): no network, no sight of other processes, and a file system that holds the system's
      programs read-only and the command's own directory, nothing else;
    - without it but with user namespaces (`unshare`): no network and no other processes; files stay visible with
      the caller's rights;
    - with neither: only the limits above.

    **Arguments**

    - `memory`: the largest address space, in bytes.
    - `programs`: directories outside the system's own that the command needs to read (an opam switch).
    """

    memory: int = 2 * 2**30
    programs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        integer("memory", self.memory, low=2**20)

    @property
    def isolation(self) -> str:
        """What is enforced on this machine beside the limits, in words."""
        return {"bwrap": "own files, no network, own processes", "unshare": "no network, own processes"}.get(
            _jailer(), "limits only"
        )

    def run(self, command: Sequence[str], directory: Path, *, seconds: float) -> Run:
        """Run `command` in `directory` for at most `seconds`.

        **Raises** `ValueError` for a time that is not positive, `FileNotFoundError` if `prlimit` is missing.
        """
        positive("seconds", seconds)
        argv = self._argv(command, directory, f"--cpu={int(seconds) + 1}")
        started = time.perf_counter()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                argv,
                cwd=directory,
                env=_environment(directory),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            with _killed_whole(process):
                try:
                    code, expired = process.wait(timeout=seconds), False
                except subprocess.TimeoutExpired:
                    code, expired = signal.SIGKILL, True
            status, code = _status(code, expired)
            return Run(status, code, _head(output), _head(errors), time.perf_counter() - started)

    def open(self, command: Sequence[str], directory: Path) -> subprocess.Popen[bytes]:
        """Start `command` in `directory` for a conversation: its input is a pipe, its output and errors another.

        It has all limits but those on time, which are the caller's to keep: `interrupt` stops what it computes, and
        `kill` ends it. A signal from the terminal does not reach it.

        **Raises** `FileNotFoundError` if `prlimit` is missing.
        """
        # An interrupt goes to the whole group; the jailer ignores it, and the command may handle it again.
        patient = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *self._argv(command, directory)]
        return subprocess.Popen(
            patient,
            cwd=directory,
            env=_environment(directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _argv(self, command: Sequence[str], directory: Path, *more: str) -> list[str]:
        limits = ["prlimit", f"--as={self.memory}", f"--fsize={FILE_SIZE}", "--core=0", *more]
        return [*self._jail(directory), *limits, *command]

    def _jail(self, directory: Path) -> list[str]:
        if _jailer() == "unshare":
            return ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if _jailer() != "bwrap":
            return []
        visible = [("--ro-bind-try", path, path) for path in (*_SYSTEM, *self.programs)]
        return [
            *("bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"),
            *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),
            *(word for triple in visible for word in triple),
            *("--bind", str(directory), str(directory), "--chdir", str(directory)),
        ]


@functools.cache
def _jailer() -> str:
    """The strongest of `bwrap` and `unshare` that works here; containers and some kernels forbid both."""
    trials = {
        "bwrap": ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"],
        "unshare": ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "true"],
    }
    for name, trial in trials.items():
        if shutil.which(name) and subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            return name
    return ""


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ask the command of an opened process to stop what it computes, as Ctrl-C would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End an opened process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def _killed_whole(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process of the group behind, also when the caller is interrupted."""
    try:
        yield
    finally:
        kill(process)


def _environment(directory: Path) -> dict[str, str]:
    home = str(directory)
    return {"PATH": os.defpath, "HOME": home, "TMPDIR": home, "LC_ALL": "C.UTF-8"}


def _status(code: int, expired: bool) -> tuple[Status, int]:
    # Inside a namespace the jailer passes its child's death by signal on as a shell does: 128 + the signal.
    # Coq itself exits with 129 on an internal error, so only signals that end a process of this kind are read so.
    deadly = {signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGXCPU, signal.SIGXFSZ}
    number = -code if code < 0 else code - 128
    if expired or number == signal.SIGXCPU:
        return "timed out", number
    if number in deadly:
        return "killed", number
    return "exited", code


def _head(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(SHOWN).decode(errors="replace")
