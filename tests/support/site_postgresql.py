"""A PostgreSQL server of the tests' own, on a socket in a temporary folder."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

_UNPRIVILEGED = "nobody"
_SECONDS_TO_START, _SECONDS_TO_STOP = 30, 30


class Postgresql:
    """A server whose data lie in `folder`; it takes whoever can open its socket."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        # PostgreSQL refuses to run as root.
        self.account = {"user": _UNPRIVILEGED, "group": _UNPRIVILEGED, "extra_groups": []} if os.getuid() == 0 else {}
        if self.account:
            user = pwd.getpwnam(_UNPRIVILEGED)
            self.account["group"] = user.pw_gid
            os.chown(folder, user.pw_uid, user.pw_gid)
        self._numbers = itertools.count()
        options = ("--username=tests", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        self._run("initdb", "-D", str(folder / "data"), *options)
        self.start()

    def _run(self, name: str, *arguments: str) -> None:
        line = [str(self.programs / name), *arguments]
        subprocess.run(line, check=True, capture_output=True, cwd=self.folder, **self.account)

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = ("-c", "listen_addresses=", "-c", "fsync=off")
        line = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log, cwd=self.folder, **self.account)
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                psycopg.connect(self.address("postgres")).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise RuntimeError(f"PostgreSQL does not answer: {(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """End it, with all that it started, as a power cut would."""
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=True
        )
        for pid in [self.process.pid, *map(int, children.stdout.split())]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def stop(self) -> None:
        """End it at once: its data go too."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(_SECONDS_TO_STOP)

    def address(self, database: str) -> str:
        """How the site is told of a database."""
        return f"postgresql://tests@/{database}?host={self.folder}"

    def create_database(self, encoding: str = "UTF8") -> str:
        """The address of an empty database."""
        name = f"tests{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'")
        return self.address(name)

    def create_schema(self) -> str:
        """The address of an empty schema of one database: a database is three hundred files."""
        name = f"tests{next(self._numbers)}"
        self._execute(f"CREATE SCHEMA {name}", "CREATE EXTENSION IF NOT EXISTS unaccent SCHEMA public")
        return f"{self.address('postgres')}&options=-csearch_path%3D{name},public"

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@contextmanager
def serving() -> Iterator[Postgresql]:
    """A server that runs while the block does; the test is skipped where its programs are missing."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not folders:
        pytest.skip("nothing is tried on PostgreSQL: 'apt-get install postgresql' brings it")
    with tempfile.TemporaryDirectory(prefix="tendsto-") as folder:
        server = Postgresql(folders[0], Path(folder))
        try:
            yield server
        finally:
            server.stop()
