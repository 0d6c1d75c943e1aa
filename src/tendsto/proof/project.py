"""A project as it lies on disk: its options, the theorems it leaves open, and a patch that closes them."""

from __future__ import annotations

import difflib
import itertools
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tendsto.assistants import Lean
from tendsto.proof.lake import lake_options, lake_project
from tendsto.proof.lean_file import OpenDeclaration, open_declarations, proof_start, without_comments
from tendsto.proof.rocq_file import written_proofs


@dataclass(frozen=True)
class OpenTheorem:
    """A theorem that a Rocq file admits.

    **Arguments**

    - `path`: the file; `name`: the theorem's.
    - `before`: the file up to the theorem, without what was attempted at other admitted theorems: it need not hold.
    - `statement`: the sentence that states it.
    - `attempt`: what stands between `Proof.` and `Admitted.`, often nothing.
    - `start`, `end`: where the text after the statement begins and where `Admitted.` ends, in characters.
    """

    path: Path
    name: str
    before: str
    statement: str
    attempt: str
    start: int
    end: int

    def closed(self, text: str, proof: str, imports: Sequence[str] = ()) -> str:
        """The file's text with a proof for this theorem, and sentences before it.

        **Raises** `ValueError` if the text does not leave the theorem open where it says.
        """
        stated = text[: self.start].endswith(self.statement)
        if not stated or "Admitted" not in text[self.start : self.end][-11:]:
            raise self._changed()
        added = "".join(f"{sentence}\n" for sentence in imports)
        body = "\n".join(f"  {line}".rstrip() for line in proof.strip().splitlines())
        before = text[: self.start - len(self.statement)]
        return f"{before}{added}{self.statement}\nProof.\n{body}\nQed.{text[self.end :]}"

    def _changed(self) -> ValueError:
        return ValueError(f"proofs: {self.path} has changed: {self.name} is no longer open there")


@dataclass(frozen=True)
class OpenLeanTheorem(OpenTheorem):
    """A theorem of a Lean file whose proof has gaps, `sorry`.

    **Arguments**

    - `statement`: the theorem up to its name; `attempt`: all that follows the name, gaps included, between `start` and
      `end`.
    - `declaration`: its parts.
    """

    declaration: OpenDeclaration

    def closed(self, text: str, proof: str, imports: Sequence[str] = ()) -> str:
        """As `OpenTheorem.closed`; `proof` is what follows the name, and there are no imports."""
        if imports:
            raise ValueError("imports: a Lean file has them at its beginning")
        stated = text[: self.start].endswith(self.statement)
        if not stated or text[self.start : self.end] != self.attempt:
            raise self._changed()
        return f"{text[: self.start]}{proof}{text[self.end :]}"


@dataclass(frozen=True)
class Project:
    """What Rocq is told about a file: words of its command line, and the directories that they name."""

    options: tuple[str, ...] = ()
    directories: tuple[Path, ...] = ()

    @classmethod
    def around(cls, path: str | os.PathLike[str]) -> Project:
        """The project that a file or folder belongs to: the nearest `_CoqProject` or `_RocqProject` at or above it.

        Without one, the file's own folder is known under no name, as `coqc` has it.

        **Raises** `ValueError` naming the project file for an option without its values.
        """
        place = Path(path).resolve()
        for folder in (place, *place.parents):
            for name in ("_CoqProject", "_RocqProject"):
                if (folder / name).is_file():
                    return cls._read(folder / name)
        folder = place if place.is_dir() else place.parent
        return cls(("-Q", str(folder), ""), (folder,))

    @classmethod
    def _read(cls, file: Path) -> Project:
        options: list[str] = []
        directories: list[Path] = []
        words = iter(shlex.split(file.read_text(encoding="utf-8"), comments=True))

        def values(number: int, option: str) -> list[str]:
            taken = list(itertools.islice(words, number))
            if len(taken) < number:
                raise ValueError(f"{file}: {option} needs {number} values")
            return taken

        for word in words:
            if word in ("-Q", "-R"):
                folder, logical = values(2, word)
                directories.append((file.parent / folder).resolve())
                options += [word, str(directories[-1]), logical]
            elif word == "-I":
                directories.append((file.parent / values(1, word)[0]).resolve())
                options += [word, str(directories[-1])]
            elif word == "-arg":
                options += shlex.split(values(1, word)[0])
        return cls(tuple(options), tuple(directories))


def lean_around(path: str | os.PathLike[str]) -> Lean:
    """The Lean of a file: that of the nearest folder with a Lake file at or above it, or the one on the `PATH`.

    A project is taken as it was built (`lake build`), with the options that Lake hands to Lean for the file. Outside of
    one, the folders in `LEAN_PATH` hold the libraries.

    **Raises** `NotInstalled` if it is missing; `ValueError` for a malformed file of Lake's.
    """
    project = lake_project(path)
    if project is None:
        lean = Lean(path=tuple(entry for entry in os.environ.get("LEAN_PATH", "").split(os.pathsep) if entry))
    else:
        lean = Lean(("lake", "env", "lean"), directory=project, options=lake_options(path))
    lean.version()
    return lean


def open_theorems(path: str | os.PathLike[str]) -> tuple[OpenTheorem, ...]:
    """The theorems that a file, or every `.v` and `.lean` file of a folder, leaves open.

    In Rocq a theorem begins with `Theorem`, `Lemma` or a synonym, and a name, and ends in `Admitted`; other goals that
    do (of a definition, an instance) are left alone, for what stands for them matters and not only that it exists. In
    Lean it begins with `theorem` or `lemma`, and its proof has a `sorry`. Folders with hidden names are passed over.

    **Raises** `OSError` for what cannot be read, `ValueError` naming a file that is not Rocq's.
    """
    place = Path(path)
    files = [place]
    if place.is_dir():
        inside = (it for it in sorted(place.rglob("*")) if it.suffix in (".v", ".lean"))
        files = [it for it in inside if not any(part.startswith(".") for part in it.relative_to(place).parts)]
    return tuple(theorem for file in files for theorem in _of_file(file))


def _of_file(path: Path) -> Iterator[OpenTheorem]:
    try:
        text = path.read_text(encoding="utf-8")
        yield from _of_lean(path, text) if path.suffix == ".lean" else _of_rocq(path, text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _of_lean(path: Path, text: str) -> Iterator[OpenTheorem]:
    code = without_comments(text)
    before, done = "", 0
    for it in open_declarations(text):
        before += text[done : it.start]
        statement = text[it.start : it.body_start]
        yield OpenLeanTheorem(path, it.name, before, statement, it.body, it.body_start, it.stop, it)
        proof = it.body_start + proof_start(code[it.body_start : it.stop])
        before, done = f"{before}{text[it.start : proof].rstrip()} := sorry", it.stop


def _of_rocq(path: Path, text: str) -> Iterator[OpenTheorem]:
    before, done = "", 0  # the text so far without attempts, and up to where that is
    for written in written_proofs(text):
        if written.end.startswith("Admitted"):
            statement = written.opening.statement
            before += text[done : written.start]
            yield OpenTheorem(
                path, written.name, before, statement, written.proof, written.start + len(statement), written.stop
            )
            before, done = f"{before}{statement}\nAdmitted.", written.stop


def with_imports(before: str, imports: Sequence[str]) -> str:
    """The file up to a theorem, with sentences just before it; further up they might break what stands between."""
    return "\n".join([before, *imports, ""]) if imports else before


def with_proofs(
    text: str, proofs: Mapping[OpenTheorem, str], imports: Mapping[OpenTheorem, Sequence[str]] | None = None
) -> str:
    """A file's text with proofs in the place of what it leaves open.

    **Arguments**

    - `imports`: sentences to put before a theorem.

    **Raises** `ValueError` if the text does not leave one of the theorems open where it says.
    """
    for theorem, proof in sorted(proofs.items(), key=lambda item: -item[0].start):
        text = theorem.closed(text, proof, (imports or {}).get(theorem, ()))
    return text


def patch(
    proofs: Mapping[OpenTheorem, str],
    imports: Mapping[OpenTheorem, Sequence[str]] | None = None,
    *,
    root: str | os.PathLike[str] = ".",
) -> str:
    """A unified diff that puts proofs into their files, for `patch -p1` or `git apply`.

    **Arguments**

    - `imports`: sentences to put before a theorem.
    - `root`: what the paths in it are relative to.

    **Raises** as `with_proofs` does.
    """
    pieces: list[str] = []
    for path in sorted({theorem.path for theorem in proofs}):
        old = path.read_text(encoding="utf-8")
        own = {theorem: proof for theorem, proof in proofs.items() if theorem.path == path}
        new = with_proofs(old, own, imports)
        name = os.path.relpath(path, root)
        lines = difflib.unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{name}", f"b/{name}"
        )
        pieces += [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]
    return "".join(pieces)
