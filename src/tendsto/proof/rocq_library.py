"""Build a corpus from Rocq libraries: sources, and the `.glob` files that the compiler wrote beside them."""

from __future__ import annotations

import bisect
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tendsto.assistants.sentences import Sentence, sentences
from tendsto.proof.corpus import Corpus, File, Premise, Provenance, Tactic, Theorem, topological_order
from tendsto.proof.glob import Definition, Glob, Reference, read_glob

_END_OF_PROOF = re.compile(r"(?:Qed|Defined|Admitted|Abort|Save)\b|Proof\s+(?!using\b|with\b|\.)\S")
_KEEPS_NO_THEOREM = re.compile(r"Abort\b")
_NO_TACTIC = re.compile(r"Proof\s*(?:\.|using\b|with\b)|(?:Qed|Defined|Admitted|Save)\b|[-+*{}]|\S*\s*\{$")


def read(locations: Sequence[str | os.PathLike[str]]) -> Corpus:
    """Read libraries from folders and files; see `Corpus.from_glob`."""
    return assemble([Source.read(path, path.with_suffix(".glob")) for path in source_files(locations)])


def source_files(locations: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """All `.v` files at or below `locations`, sorted.

    **Raises** `FileNotFoundError` for a location that is missing or holds no such file.
    """
    found: set[Path] = set()
    for location in map(Path, locations):
        files = sorted(location.rglob("*.v")) if location.is_dir() else [location]
        if not files or not files[0].is_file():
            raise FileNotFoundError(f"{location}: {'has no .v file' if location.is_dir() else 'no such file'}")
        found.update(files)
    return sorted(found)


@dataclass(frozen=True)
class Source:
    """One file and what the compiler said about it; all positions count bytes."""

    name: Path
    data: bytes
    glob: Glob
    sentences: tuple[Sentence, ...]
    starts: list[int]
    ends: list[int]

    @classmethod
    def read(cls, source: Path, glob: Path) -> Source:
        """Read a file and the `.glob` file that was written for it."""
        if not glob.is_file():
            raise FileNotFoundError(f"{glob}: no such file; Rocq's compiler writes it beside {source.name}")
        data, content = source.read_bytes(), read_glob(glob)
        if content.digest not in ("NO", hashlib.md5(data, usedforsecurity=False).hexdigest()):
            raise ValueError(f"{glob}: was written for another text of {source.name}; compile it again")
        return cls.of(source, data, content)

    @classmethod
    def if_current(cls, source: Path) -> Source | None:
        """The file, if a `.glob` file for this very text lies beside it."""
        glob = source.with_suffix(".glob")
        if (
            glob.is_file()
            and read_glob(glob).digest == hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest()
        ):
            return cls.read(source, glob)
        return None

    @classmethod
    def of(cls, source: Path, data: bytes, glob: Glob) -> Source:
        """The file with this content, cut into sentences."""
        try:
            text = data.decode()
            found = sentences(text)
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}: is not UTF-8 at byte {error.start}") from None
        except ValueError as error:
            raise ValueError(f"{source}: {str(error).removeprefix('text: ')}") from None
        starts, ends = [it.start for it in found], [it.end for it in found]
        if len(data) != len(text):
            at = np.concatenate([[0], np.cumsum([len(character.encode()) for character in text])])
            starts, ends = at[starts].tolist(), at[ends].tolist()
        return cls(source, data, glob, found, starts, ends)

    @property
    def path(self) -> str:
        """Its name in a corpus."""
        return self.glob.library.replace(".", "/") + ".v"

    def sentence_of(self, definition: Definition) -> int:
        """The number of the sentence in which something is defined."""
        number = bisect.bisect_right(self.starts, definition.start) - 1
        if number < 0 or definition.end > self.ends[number]:
            raise ValueError(
                f"{self.name.with_suffix('.glob')}: {definition.name} at bytes {definition.start} to "
                f"{definition.end} lies in no sentence of {self.name.name}"
            )
        return number

    def proof_end(self, number: int, following: int) -> int | None:
        """The sentence that ends the proof of sentence `number`, if one does before the sentence `following`."""
        for at in range(number + 1, following):
            if _END_OF_PROOF.match(self.sentences[at].text):
                return None if _KEEPS_NO_THEOREM.match(self.sentences[at].text) else at
        return None


@dataclass
class _Builder:
    """Premises so far, and where each name of each library is defined."""

    premises: list[Premise] = field(default_factory=list)
    provenances: list[Provenance] = field(default_factory=list)
    by_name: dict[tuple[str, str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    in_library: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))

    def define(self, source: Source) -> list[tuple[int, int, int]]:
        """Add the premises of a file; theorems with a proof come back as (premise, sentence, last sentence)."""
        definitions = source.glob.definitions
        numbers = [source.sentence_of(it) for it in definitions]
        proofs = []
        for place, (definition, number) in enumerate(zip(definitions, numbers, strict=True)):
            following = next((it for it in numbers[place + 1 :] if it != number), len(source.sentences))
            last = None
            if definition.kind in ("theorem", "definition", "instance"):
                last = source.proof_end(number, following)
            if last is not None and definition.kind != "theorem" and not _is_open(source, number):
                last = None
            if last is not None and definition.kind == "theorem":
                proofs.append((len(self.premises), number, last))
            self._add(source, definition, number, number if last is None else last)
        return proofs

    def _add(self, source: Source, definition: Definition, number: int, last: int) -> None:
        library, modules = source.glob.library, definition.modules
        name = ".".join([library, *([] if modules == "<>" else [modules]), definition.name])
        start, end = source.starts[number], source.ends[last]
        self.by_name[library, modules, definition.name].append(len(self.premises))
        self.in_library[library, definition.name].append(len(self.premises))
        self.premises.append(Premise(source.path, name, definition.kind, start, end, source.sentences[number].text))
        self.provenances.append(Provenance(name, source.path, start, end))

    def resolve(self, source: Source, reference: Reference) -> int | None:
        """The premise that a reference means: of several in its own file the last that stands before it.

        The compiler may leave out modules that the source writes before a name, and names modules that only include
        another's content. So the source is looked at first, and a name not found is the only one of its
        library, if that is of the same kind.
        """
        library, modules, name, kind = reference[2:]
        written = source.data[reference.start : reference.end].decode(errors="replace").rpartition(".")[0]
        within = written if modules == "<>" else f"{modules}.{written}"
        found = (self.by_name.get((library, within, name)) if written else None) or self.by_name.get(reference[2:5])
        if not found:
            found = self.in_library.get((library, name), [])
            return found[0] if len(found) == 1 and self.premises[found[0]].kind == kind else None
        if len(found) > 1 and library == source.glob.library:
            found = [it for it in found if self.premises[it].start <= reference.start]
        return found[-1] if found else None

    def theorem(self, source: Source, premise: int, number: int, last: int, at: Sequence[int]) -> Theorem:
        """The theorem of sentence `number`, whose proof ends with sentence `last`; `at` are starts of references."""
        tactics, used = [], set()
        for step in range(number + 1, last + 1):
            sentence = source.sentences[step]
            if _NO_TACTIC.match(sentence.text):
                continue
            start, end = source.starts[step], source.ends[step]
            named = source.glob.references[bisect.bisect_left(at, start) : bisect.bisect_left(at, end)]
            annotated, provenances, members = self._annotated(source, named, start, end)
            used.update(members)
            tactics.append(Tactic(sentence.text, annotated, provenances))
        whole = self.premises[premise]
        proof = source.data[source.starts[number + 1] : source.ends[last]].decode()
        return Theorem(
            whole.path, whole.full_name, whole.start, whole.end, whole.code, proof, tuple(tactics), tuple(sorted(used))
        )

    def _annotated(
        self, source: Source, references: Iterable[Reference], start: int, end: int
    ) -> tuple[str, tuple[Provenance, ...], list[int]]:
        pieces, members, done = [], [], start
        for reference in references:
            premise = self.resolve(source, reference)
            if premise is None:
                continue
            members.append(premise)
            if reference.start >= done:  # the compiler may have read the same words several ways
                pieces += [source.data[done : reference.start], b"<a>", source.data[reference.start : reference.end]]
                pieces.append(b"</a>")
                done = reference.end
        pieces.append(source.data[done:end])
        return b"".join(pieces).decode(), tuple(self.provenances[it] for it in members), members


def assemble(sources: Iterable[Source]) -> Corpus:
    """The corpus of these files.

    **Raises** `ValueError` for a library that is there twice, imports in a circle, or a `.glob` file that does not
    fit its source.
    """
    by_path: dict[str, Source] = {}
    for source in sources:
        if source.path in by_path:
            raise ValueError(f"{source.name}: is the library {source.glob.library}, as {by_path[source.path].name} is")
        by_path[source.path] = source
    paths = {it.glob.library: it.path for it in by_path.values()}
    imports = {
        path: tuple(paths[library] for library in it.glob.requires if library in paths) for path, it in by_path.items()
    }
    builder, files, proofs = _Builder(), [], []
    for path in topological_order(imports):
        first = len(builder.premises)
        proofs.append(builder.define(by_path[path]))
        lines = (0, *(found.end() for found in re.finditer(b"\n", by_path[path].data)))
        files.append(File(path, imports[path], first, len(builder.premises), lines))
    theorems = []
    for file, of_file in zip(files, proofs, strict=True):
        source = by_path[file.path]
        at = [it.start for it in source.glob.references]
        theorems += [builder.theorem(source, *proof, at) for proof in of_file]
    return Corpus(tuple(files), tuple(builder.premises), tuple(theorems))


def _is_open(source: Source, number: int) -> bool:
    """Whether a definition in sentence `number` leaves its value to a proof that follows."""
    return ":=" not in source.sentences[number].text or source.sentences[number + 1].text.startswith("Proof")
