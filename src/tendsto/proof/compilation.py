"""Have Rocq's compiler write the `.glob` files of sources that have none, on a copy and in a sandbox."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tendsto.assistants.protocol import NotInstalled
from tendsto.assistants.rocq import installation, tool
from tendsto.assistants.sandbox import Run, Sandbox
from tendsto.proof.corpus import Corpus, Theorem
from tendsto.proof.glob import Glob, read_glob
from tendsto.proof.project import Project
from tendsto.proof.replay import Located, replay_corpus
from tendsto.proof.rocq_library import Source, assemble, source_files
from tendsto.validation import positive

_PROJECT = ("_CoqProject", "_RocqProject")
_COPY = "CopyOfInstalled"  # the logical name of copies: an installed library of the same name is loaded beside them


@dataclass(frozen=True)
class _Library:
    """Sources below one folder, and how their folders map to logical names.

    `only` are the files to compile; `None` means all of the project. A name of an installed library is put in the place
    of `_COPY` where `prefix` is given.
    """

    root: Path
    options: tuple[str, ...]
    only: tuple[Path, ...] | None = None
    prefix: str | None = None

    def compiled_in(self, copy: Path) -> Project:
        """What Rocq is told to load the files of a copy that was compiled."""
        folders = [(copy / folder).resolve() for folder in self.options[1::3]]
        options = zip(self.options[::3], map(str, folders), self.options[2::3], strict=True)
        return Project(tuple(word for option in options for word in option), tuple(folders))


def compiled(
    locations: Sequence[str | os.PathLike[str]],
    *,
    seconds: float = 600.0,
    memory: int = 4 * 2**30,
    on_file: Callable[[Path], None] | None = None,
    states: bool = False,
    store: str | os.PathLike[str] | None = None,
    workers: int = 1,
    on_failure: Callable[[Theorem, str], None] | None = None,
) -> Corpus:
    """Read libraries, compiling a copy of those whose `.glob` files are missing or old; see `Corpus.from_sources`."""
    positive("seconds", seconds)
    deadline = time.monotonic() + seconds
    files = source_files(locations)
    sources = {path: source for path in files if (source := Source.if_current(path)) is not None}
    missing = [path for path in files if path not in sources]
    with ExitStack() as copies:
        built: dict[Path, Project] = {}
        if missing:
            sandbox = _sandbox(memory)
            for library in _libraries(missing):
                copy = Path(copies.enter_context(tempfile.TemporaryDirectory(prefix="tendsto-corpus-"))).resolve()
                built[library.root] = library.compiled_in(copy)
                for path, glob in _compile(library, copy, sandbox, deadline, set(missing), on_file):
                    sources[path] = Source.of(path, path.read_bytes(), glob)
        corpus = assemble(sources[path] for path in files)
        if states:
            installed = tuple(root for root, _ in _installed())
            corpus = replay_corpus(
                corpus,
                {it.path: Located(path, _project(path, installed, built)) for path, it in sources.items()},
                seconds=max(deadline - time.monotonic(), 1e-3),
                memory=memory,
                store=store,
                workers=workers,
                on_file=on_file,
                on_failure=on_failure,
            )
        return corpus


def _sandbox(memory: int) -> Sandbox:
    tools = [tool(name) for name in ("coqc", "coqdep")]
    if None in tools:
        raise NotInstalled("needs Rocq: apt install coq")
    return Sandbox(memory=memory, programs=installation(*filter(None, tools)))


def _installed() -> tuple[tuple[Path, str], ...]:
    """The folders of Rocq's own libraries, and what the logical names of those in them begin with."""
    compiler = tool("coqc")
    if compiler is None:
        raise NotInstalled("needs Rocq: apt install coq")
    answer = subprocess.run([compiler, "-where"], capture_output=True, text=True, check=True)
    where = Path(answer.stdout.strip()).resolve()
    return (where / "theories", "Coq."), (where / "user-contrib", "")


def _project(path: Path, installed: Sequence[Path], built: dict[Path, Project]) -> Project:
    """What Rocq is told to run a file, whose imports are compiled where it lies or in a copy."""
    if any(path.resolve().is_relative_to(root) for root in installed):
        return Project()
    return built.get(_root(path)) or Project.around(path)


def _libraries(files: Sequence[Path]) -> list[_Library]:
    """The projects that hold these files; files of the installed libraries are compiled without the others there."""
    found: dict[Path, list[Path]] = {}
    libraries = []
    for root, prefix in _installed():
        own = tuple(path for path in files if path.resolve().is_relative_to(root))
        if own:
            libraries.append(_Library(root, ("-Q", ".", _COPY), own, prefix))
        files = [path for path in files if path not in own]
    for path in files:
        found.setdefault(_root(path), []).append(path)
    return libraries + [_Library(root, _options(root)) for root in found]


def _root(path: Path) -> Path:
    """The folder of the project that a file belongs to: the nearest above it with a project file, or its own."""
    return next(
        (it for it in path.resolve().parents if any((it / name).is_file() for name in _PROJECT)), path.resolve().parent
    )


def _options(root: Path) -> tuple[str, ...]:
    """The `-Q` and `-R` of the project file; without one, the file `a.v` of the folder is the library `a`."""
    for name in _PROJECT:
        if (root / name).is_file():
            words = shlex.split((root / name).read_text(encoding="utf-8"), comments=True)
            at = [place for place, word in enumerate(words[:-2]) if word in ("-Q", "-R")]
            return tuple(it for place in at for it in words[place : place + 3]) or ("-Q", ".", "")
    return ("-Q", ".", "")


def _compile(
    library: _Library,
    copy: Path,
    sandbox: Sandbox,
    deadline: float,
    wanted: set[Path],
    on_file: Callable[[Path], None] | None,
) -> list[tuple[Path, Glob]]:
    originals = {path.resolve(): path for path in wanted}
    files = [it.resolve() for it in library.only] if library.only else sorted(library.root.rglob("*.v"))
    found = []
    names = [str(it.relative_to(library.root)) for it in files]
    for path, name in zip(files, names, strict=True):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy / name)
    order = _run(sandbox, ["coqdep", *library.options, "-sort", *names], copy, deadline, str(library.root)).split()
    for name in order:
        path = library.root / os.path.normpath(name)
        if on_file is not None:
            on_file(path)
        _run(sandbox, ["coqc", "-q", "-w", "none", *library.options, name], copy, deadline, str(path))
        if path in originals:
            glob = read_glob((copy / name).with_suffix(".glob"))
            if library.prefix is not None:
                glob = _renamed(glob, f"{_COPY}.", library.prefix)
            found.append((originals[path], glob))
    return found


def _run(sandbox: Sandbox, command: list[str], directory: Path, deadline: float, subject: str) -> str:
    left = deadline - time.monotonic()
    run: Run | None = sandbox.run(command, directory, seconds=left) if left > 0 else None
    if run is None or run.status == "timed out":
        raise TimeoutError(f"{subject}: {command[0]} ran out of time")
    if run.status != "exited" or run.code != 0:
        said = run.errors.partition("Error:")[2] or run.errors
        raise ValueError(f"{subject}: does not compile: {textwrap.shorten(said, 400, placeholder=' …')}")
    return run.output


def _renamed(glob: Glob, old: str, new: str) -> Glob:
    def name(library: str) -> str:
        return new + library.removeprefix(old) if library.startswith(old) else library

    return replace(
        glob,
        library=name(glob.library),
        requires=tuple(map(name, glob.requires)),
        references=tuple(it._replace(library=name(it.library)) for it in glob.references),
    )
