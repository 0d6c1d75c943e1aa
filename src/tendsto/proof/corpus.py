"""A library of proofs as data: its files in order, the premises they define, and what each proof uses."""

from __future__ import annotations

import bisect
import heapq
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from tendsto.proof.index_set import IndexSet

if TYPE_CHECKING:
    from tendsto.assistants import Lean

LINE = 1 << 20
"""Where the text of a file is unknown, line i + 1, column j + 1 has the position i·LINE + j."""


class Premise(NamedTuple):
    """Something that a proof can name: a theorem, a definition, a constructor.

    **Arguments**

    - `path`: the file that defines it.
    - `full_name`: its name with the library and modules that it stands in.
    - `kind`: what it is, `theorem` or `constructor`; for Rocq one of the values of `proof.glob.KINDS`. In Lean, what an
      attribute makes of another declaration is `generated`.
    - `start`, `end`: where its definition stands, its proof included, end exclusive: byte offsets in the file, in
      a Lean file characters. In a corpus without the files' texts they are numbers in the order of positions (see
      `LINE`).
    - `code`: its source without proof.
    """

    path: str
    full_name: str
    kind: str
    start: int
    end: int
    code: str

    def marked(self) -> str:
        """Its source with the name, or the end of it that stands there, replaced by `<a>full_name</a>`.

        This is the text that LeanDojo's encoder reads (Section 5 of arXiv 2306.15626).
        """
        parts = self.full_name.split(".")
        for first in range(len(parts)):
            name = re.escape(".".join(parts[first:]))
            marked, found = re.subn(rf"(?<![\w.'])(?:_root_\.)?«?{name}»?(?![\w'])", self._mark, self.code, count=1)
            if found:
                return marked
        return self.code

    def _mark(self, _: re.Match[str]) -> str:
        return f"<a>{self.full_name}</a>"


class Provenance(NamedTuple):
    """A name in a tactic, and where it is defined; positions as in `Premise`."""

    full_name: str
    path: str
    start: int
    end: int


class Tactic(NamedTuple):
    """One step of a proof.

    **Arguments**

    - `text`: the tactic as it stands in the file.
    - `annotated`: the same with `<a>…</a>` around every name that a provenance explains.
    - `provenances`: the definitions of the marked names, in their order.
    - `state_before`, `state_after`: the goals as the assistant prints them; empty where the proof was not replayed.
    """

    text: str
    annotated: str
    provenances: tuple[Provenance, ...] = ()
    state_before: str = ""
    state_after: str = ""


@dataclass(frozen=True, slots=True)
class Theorem:
    """A theorem with its proof.

    **Arguments**

    - `path`, `full_name`, `start`, `end`: as in `Premise`, the proof included.
    - `statement`: the source of the statement. In a Rocq file it is `source[start:start + n]`, n its bytes.
    - `proof`: the source of the proof, from `Proof.` to `Qed.`; in a Rocq file it ends at `end`.
    - `tactics`: the steps of the proof, without bullets, braces, `Proof.` and `Qed.`
    - `premises`: the numbers of the premises that its tactics name, ascending, each once.
    - `url`, `commit`: where the library came from, if known.
    """

    path: str
    full_name: str
    start: int
    end: int
    statement: str
    proof: str
    tactics: tuple[Tactic, ...]
    premises: tuple[int, ...]
    url: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a library.

    **Arguments**

    - `path`: its name in the corpus, `mathcomp/ssreflect/ssrnat.v`.
    - `imports`: the paths of the files that it loads directly.
    - `first`, `stop`: its premises are those of the corpus from `first` on, before `stop`.
    - `lines`: the position at which each of its lines begins; empty where its text is unknown.
    """

    path: str
    imports: tuple[str, ...]
    first: int
    stop: int
    lines: tuple[int, ...] = ()

    def line_column(self, position: int) -> tuple[int, int]:
        """The line and column of a position, both from 1 on; columns count bytes."""
        if not self.lines:
            return position // LINE + 1, position % LINE + 1
        line = bisect.bisect_right(self.lines, position)
        return line, position - self.lines[line - 1] + 1

    def position(self, line: int, column: int) -> int:
        """The position of a line and column, the inverse of `line_column`."""
        return ((line - 1) * LINE if not self.lines else self.lines[line - 1]) + column - 1


class Places:
    """The premises of some files by where they stand.

    **Arguments**

    - `files`, `premises`: as in `Corpus`.
    """

    def __init__(self, files: Iterable[File], premises: Sequence[Premise]) -> None:
        self._premises = premises
        self._of_file = {}
        for file in files:
            own = premises[file.first : file.stop]
            ends = np.array([it.end for it in own], dtype=np.int64)
            self._of_file[file.path] = (file.first, np.array([it.start for it in own], dtype=np.int64), ends)

    def premise(self, provenance: Provenance) -> int | None:
        """The premise around the place that a provenance names; of several that with its name, or else the first."""
        first, starts, ends = self._of_file[provenance.path]
        inside = np.flatnonzero((starts <= provenance.start) & (provenance.start <= ends))
        around: list[int] = (first + inside).tolist()
        named = [it for it in around if self._premises[it].full_name == provenance.full_name]
        return [*named, *around][0] if around else None


class Split(NamedTuple):
    """The numbers of the theorems to train, to validate and to test on."""

    train: Int[np.ndarray, " train"]
    val: Int[np.ndarray, " val"]
    test: Int[np.ndarray, " test"]


@dataclass(frozen=True)
class Corpus:
    """A library of proofs: files in topological order, what they define, and what each proof uses.

    Premises and theorems are known by their number, their place in `premises` and `theorems`.

    **Arguments**

    - `files`: every file after those that it imports; their premises follow each other in `premises`.
    - `premises`: all that a proof can name.
    - `theorems`: the theorems with proofs.
    - `splits`: divisions of the theorems that came with the corpus, by name.

    **Raises** `ValueError` if a file is missing or there twice, imports are circular, or premises lie in other files
    than those that claim them.
    """

    files: tuple[File, ...]
    premises: tuple[Premise, ...]
    theorems: tuple[Theorem, ...]
    splits: Mapping[str, Split] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        order = topological_order({it.path: it.imports for it in self.files})
        if len(order) != len(self.files):
            raise ValueError(f"files: {_repeated(it.path for it in self.files)} is there twice")
        stop = 0
        for file in self.files:
            if file.first != stop:
                raise ValueError(f"files: the premises of {file.path} begin at {file.first}, expected {stop}")
            stop = file.stop
            for premise in self.premises[file.first : stop]:
                if premise.path != file.path:
                    raise ValueError(f"premises: {premise.full_name} is counted to {file.path}, not {premise.path}")
        if stop != len(self.premises):
            raise ValueError(f"premises: {len(self.premises)} are given, {stop} are counted to files")
        for theorem in self.theorems:
            if theorem.path not in self._by_path:
                raise ValueError(f"theorems: {theorem.full_name} stands in {theorem.path}, which is no file")

    @classmethod
    def from_glob(cls, *directories: str | os.PathLike[str]) -> Corpus:
        """Read Rocq libraries as they lie on disk: every `.v` file with the `.glob` file that its compiler wrote.

        Names and positions are the compiler's; nothing is guessed from text but where sentences and proofs end. A
        name that stands for several definitions of a file (of closed sections) is the last before its use.

        **Arguments**

        - `directories`: folders, read with all below them, or single `.v` files. References to files outside are
          left out.

        **Raises** `FileNotFoundError` for a folder or `.glob` file that is missing, `ValueError` naming the file that
        is damaged or does not fit its `.glob` file, or the files that import each other in a circle.
        """
        from tendsto.proof.rocq_library import read

        return read(directories)

    @classmethod
    def from_sources(
        cls,
        *locations: str | os.PathLike[str],
        seconds: float = 600.0,
        memory: int = 4 * 2**30,
        on_file: Callable[[Path], None] | None = None,
        states: bool = False,
        store: str | os.PathLike[str] | None = None,
        workers: int = 1,
        on_failure: Callable[[Theorem, str], None] | None = None,
    ) -> Corpus:
        """Read Rocq libraries as `from_glob` does, and compile those whose `.glob` files are missing or old.

        A copy is compiled, in a sandbox; nothing is written beside the sources. The mapping of folders to logical names
        is that of the nearest `_CoqProject` above a file; without one `a.v` is the library `a`. Files of Rocq's own
        libraries (`theories/Lists/List.v` below `coqc -where`) keep their names, and load the others as installed.

        **Arguments**

        - `locations`: folders, read with all below them, or single `.v` files.
        - `seconds`, `memory`: wall time for all that is compiled and run, address space of each process in bytes.
        - `on_file`: called with each file that is about to be compiled, or whose proofs are about to be run.
        - `states`: run all proofs, for the goals around each tactic.
        - `store`, `workers`, `on_failure`: for that, as in `replay_corpus`.

        **Raises** `NotInstalled` without Rocq, if it is needed; `TimeoutError`; `ValueError` naming the file that does
        not compile, or as `from_glob` and `replay_corpus` do; `RuntimeError` for a worker that dies.
        """
        from tendsto.proof.compilation import compiled

        return compiled(
            locations,
            seconds=seconds,
            memory=memory,
            on_file=on_file,
            states=states,
            store=store,
            workers=workers,
            on_failure=on_failure,
        )

    @classmethod
    def from_lean(
        cls,
        *locations: str | os.PathLike[str],
        lean: Lean | None = None,
        seconds: float = 600.0,
        memory: int = 4 * 2**30,
        on_file: Callable[[Path], None] | None = None,
        store: str | os.PathLike[str] | None = None,
        workers: int = 1,
    ) -> Corpus:
        """Read Lean 4 projects as `lake build` leaves them: every `.ilean` file, with the source that it was made from.

        Names, places and what each name in a proof stands for are the compiler's. Where a proof begins is read in the
        text. So are its tactics, if `lean` is None: one is what begins in the column of the first after the outermost
        `by`, with all below it; a proof term is one step. With `lean` they are those that LeanDojo traces, nested ones
        included, with the goals before and after each (Section 4 of arXiv 2306.15626).

        **Arguments**

        - `locations`: folders, read with all below them, or single `.ilean` files. A project's folder holds its
          packages (`.lake/packages`); `lean --print-prefix` names that of Lean's own library. References to modules
          outside are left out.
        - `lean`: the prover that reads every source again, in its sandbox and with the options that Lake hands to it,
          but for those in hidden folders, which the packages are; `Lean(("lake", "env", "lean"), directory="project")`.
        - `seconds`, `memory`: wall time for all of that, address space of each process in bytes.
        - `on_file`: called with each file that is about to be read again.
        - `store`, `workers`: as in `run_files`; a file is read anew if its text has changed, that of one which it
          imports, or Lean.

        **Raises** `FileNotFoundError` for a location that is missing, a folder without `.ilean` files, or a module
        without source in a folder above its `.ilean` file; `ValueError` without any location, or naming the file that
        is damaged, too old, for another text, or does not compile, or a module that is there twice; `NotInstalled`;
        `TimeoutError`; `RuntimeError` if Lean runs out of memory or a worker dies.
        """
        from tendsto.proof.lean_library import read

        return read(locations, lean=lean, seconds=seconds, memory=memory, on_file=on_file, store=store, workers=workers)

    @classmethod
    def from_leandojo(cls, directory: str | os.PathLike[str]) -> Corpus:
        """Read a data set in LeanDojo's layout: `corpus.jsonl`, and splits in folders of three JSON files.

        **Raises** `OSError` for a file that cannot be read, `ValueError` naming file and line that are malformed.
        """
        from tendsto.proof.leandojo_format import read

        return read(directory)

    def to_leandojo(self, directory: str | os.PathLike[str]) -> None:
        """Write the corpus in LeanDojo's layout; `from_leandojo` gives the same back.

        The splits are those of the corpus; if it has none, `random` and `novel_premises` with 2 % of the theorems
        each to validate and to test on. Lines and columns count from 1; columns of Rocq files are bytes.

        **Raises** `OSError` for a file that cannot be written.
        """
        from tendsto.proof.leandojo_format import write

        write(self, directory)

    def file(self, path: str) -> File:
        """The file with this path; raises `KeyError` if there is none."""
        return self.files[self._by_path[path]]

    def accessible(self, path: str, position: int) -> IndexSet:
        """The premises that a proof at `position` of the file `path` may use.

        These are the premises of all files that `path` imports, directly or not, and those of the file itself that
        end at or before `position`: Acc in Section 4 of arXiv 2306.15626. For a theorem, `position` is its `start`.

        **Raises** `KeyError` if there is no such file.
        """
        number = self._by_path[path]
        file, ends = self.files[number], self._ends[number]
        before = file.first + np.flatnonzero(ends <= position)
        starts, stops = self._imported[number]
        return IndexSet(np.concatenate([starts, before]), np.concatenate([stops, before + 1]))

    def accessible_to(self, theorem: Theorem) -> IndexSet:
        """The premises that the proof of `theorem` may use."""
        return self.accessible(theorem.path, theorem.start)

    def imported(self, path: str) -> tuple[str, ...]:
        """The paths of all files that `path` imports, directly or not, in the order of the corpus."""
        return tuple(self.files[number].path for number in sorted(self._closure[self._by_path[path]]))

    def violations(self) -> list[tuple[int, int]]:
        """Pairs (theorem, premise) where a proof uses what is not accessible to it; a sound corpus has none."""
        found = []
        for number, theorem in enumerate(self.theorems):
            used = np.asarray(theorem.premises, dtype=np.int64)
            outside = used[~self.accessible_to(theorem).contains(used)]
            found += [(number, int(premise)) for premise in outside]
        return found

    def of_kinds(self, kinds: Collection[str]) -> Corpus:
        """The corpus whose premises are only those of the given kinds, numbered anew; its theorems are the same.

        **Raises** `ValueError` for a kind that no premise has.
        """
        if unknown := set(kinds) - {it.kind for it in self.premises}:
            raise ValueError(f"kinds: no premise is of the kind {min(unknown)!r}")
        kept = np.array([it.kind in set(kinds) for it in self.premises], dtype=bool)
        number = np.concatenate([[0], np.cumsum(kept)])
        files = tuple(replace(it, first=int(number[it.first]), stop=int(number[it.stop])) for it in self.files)
        premises = tuple(it for it, keep in zip(self.premises, kept, strict=True) if keep)
        theorems = tuple(
            replace(it, premises=tuple(int(number[used]) for used in it.premises if kept[used])) for it in self.theorems
        )
        return Corpus(files, premises, theorems, self.splits)

    def split(
        self,
        strategy: Literal["random", "novel_premises"],
        *,
        val: float = 0.02,
        test: float = 0.02,
        seed: int = 0,
    ) -> Split:
        """Divide the theorems for training and testing, as LeanDojo's benchmark does (Section 4).

        - `random`: shuffled, the last `val + test` held out.
        - `novel_premises`: premises in ascending order of the number of theorems whose proofs use them; all theorems
          that use the premise are held out together, until at least `val + test` are. What is held out is shuffled,
          the first `val` to validate on, the rest to test on. So every theorem held out uses at least one premise
          that no training proof uses. The last premise's theorems may carry the number over `val + test`. The paper
          leaves the order of premises used equally often open; here it is random, so that rare premises of early
          files are not held out first.

        **Arguments**

        - `val`, `test`: a share of the theorems below 1, or a number of theorems.
        - `seed`: of all randomness.

        **Raises** `ValueError` for another strategy, or more theorems to hold out than there are.
        """
        from tendsto.proof.splits import split

        return split(self, strategy, val=val, test=test, seed=seed)

    @cached_property
    def uses(self) -> tuple[tuple[int, ...], ...]:
        """For every premise the theorems whose proofs use it."""
        users: list[list[int]] = [[] for _ in self.premises]
        for number, theorem in enumerate(self.theorems):
            for premise in theorem.premises:
                users[premise].append(number)
        return tuple(map(tuple, users))

    @cached_property
    def places(self) -> Places:
        """The premises by where they stand."""
        return Places(self.files, self.premises)

    @cached_property
    def _by_path(self) -> dict[str, int]:
        return {it.path: number for number, it in enumerate(self.files)}

    @cached_property
    def _ends(self) -> tuple[Int[np.ndarray, " premises"], ...]:
        return tuple(np.array([it.end for it in self.premises[f.first : f.stop]], dtype=np.int64) for f in self.files)

    @cached_property
    def _closure(self) -> list[set[int]]:
        closure: list[set[int]] = [set() for _ in self.files]
        for path in topological_order({it.path: it.imports for it in self.files}):
            number = self._by_path[path]
            for imported in self.files[number].imports:
                closure[number] |= {self._by_path[imported]} | closure[self._by_path[imported]]
        return closure

    @cached_property
    def _imported(self) -> list[tuple[Int[np.ndarray, " runs"], Int[np.ndarray, " runs"]]]:
        runs = []
        for closure in self._closure:
            files = [self.files[number] for number in sorted(closure)]
            whole = IndexSet(np.array([it.first for it in files]), np.array([it.stop for it in files]))
            runs.append((whole.starts, whole.stops))
        return runs


def topological_order(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """Order files so that each comes after those it imports; of several that can come next, the first by name.

    **Raises** `ValueError` for an import that is no file, or naming the files of a circle.
    """
    waiting = {path: set(of) for path, of in imports.items()}
    users: dict[str, list[str]] = {path: [] for path in waiting}
    for path, of in waiting.items():
        for imported in of:
            if imported not in users:
                raise ValueError(f"imports: {path} imports {imported}, which is not in the corpus")
            users[imported].append(path)
    ready = sorted(path for path, of in waiting.items() if not of)
    order = []
    while ready:
        order.append(path := heapq.heappop(ready))
        for user in users[path]:
            waiting[user].discard(path)
            if not waiting[user]:
                heapq.heappush(ready, user)
    if len(order) < len(waiting):
        raise ValueError(f"imports: circular: {' -> '.join(_circle(imports, set(waiting) - set(order)))}")
    return order


def _circle(imports: Mapping[str, Iterable[str]], left: set[str]) -> list[str]:
    """Files of `left` along imports until one repeats; every one of `left` imports another of it."""
    walk = [min(left)]
    while walk[-1] not in walk[:-1]:
        walk.append(min(set(imports[walk[-1]]) & left))
    return walk[walk.index(walk[-1]) :]


def _repeated(items: Iterable[str]) -> str:
    seen: set[str] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return ""
