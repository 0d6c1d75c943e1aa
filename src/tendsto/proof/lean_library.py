"""Build a corpus from Lean 4 projects: sources, and the `.ilean` files that the compiler wrote for editors."""

from __future__ import annotations

import bisect
import json
import os
import re
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from tendsto.assistants.lean import Lean, Message
from tendsto.proof.corpus import Corpus, File, Premise, Provenance, Tactic, Theorem, topological_order
from tendsto.proof.lake import lake_options
from tendsto.proof.lean_file import DRESS, proof_start, without_comments
from tendsto.proof.lean_states import OPTION, TacticRun, tactic_runs
from tendsto.proof.running import FileRun, digests, run_files
from tendsto.validation import positive

_KINDS = {
    "theorem": "theorem",
    "lemma": "theorem",
    "def": "definition",
    "abbrev": "definition",
    "instance": "instance",
    "axiom": "axiom",
    "opaque": "opaque",
    "inductive": "inductive",
    "structure": "structure",
    "class": "class",
}
_COMMAND = re.compile(rf"{DRESS}(?P<word>\w+)(?:\s+(?P<name>(?:«[^»\n]*»|[^\s:(\[{{⦃«])+))?")
_DOUBLE_COLON = re.compile(r"\s*::")
_BLANK, _TERM = re.compile(r"\s*"), re.compile(r"(?::=|where\b)?\s*")
_BY = re.compile(r":=\s*by\b\s*")
# Where sources stand, seen from a folder above the compiled file: in Lake's projects, and in Lean's own distribution.
_SOURCES = ("", "src", "src/lean")


class _Usage(NamedTuple):
    """A name in a file, from character to character, and what it stands for: a module and a name of it."""

    start: int
    stop: int
    meaning: tuple[str, str]


@dataclass(frozen=True)
class _Declaration:
    """What a module declares: from character to character, and where its name ends.

    Something may stand inside another: a constructor, a field, what an attribute makes.
    """

    name: str
    start: int
    stop: int
    named: int
    within: _Declaration | None = None


def read(
    locations: Sequence[str | os.PathLike[str]],
    *,
    lean: Lean | None = None,
    seconds: float = 600.0,
    memory: int = 4 * 2**30,
    on_file: Callable[[Path], None] | None = None,
    store: str | os.PathLike[str] | None = None,
    workers: int = 1,
) -> Corpus:
    """Read projects from folders and `.ilean` files; see `Corpus.from_lean`."""
    positive("seconds", seconds)
    if not locations:
        raise ValueError("locations: must not be empty")
    modules: dict[str, _Module] = {}
    for location in map(Path, map(os.path.abspath, locations)):
        for module in _modules(location):
            first = modules.setdefault(module.name, module)
            if first.compiled != module.compiled:
                raise ValueError(f"{module.compiled}: is the module {module.name}, as {first.compiled} is")
    if lean is not None:
        own = [it for it in modules.values() if not any(part.startswith(".") for part in Path(it.path).parts)]
        options = {it.name: (*lake_options(it.source), OPTION) for it in own}
        texts = {name: f"{options.get(name)}{module.text}".encode() for name, module in modules.items()}
        imports = {name: [it for it in module.imports if it in modules] for name, module in modules.items()}
        keys = digests(texts, imports, besides=f"{lean.version()} {lean.options}")
        deadline = time.monotonic() + seconds
        runs = [
            FileRun(
                it.source, keys[it.name], partial(_run, it.source, it.text, lean, options[it.name], deadline, memory)
            )
            for it in own
        ]
        of_key = {keys[it.name]: it for it in own}
        for run, found in run_files(runs, store=store, workers=workers, on_file=on_file):
            of_key[run.key].ran([TacticRun(*it) for it in found])
    return _assemble(modules)


def _modules(location: Path) -> Iterator[_Module]:
    """The modules of a folder but for those whose source is gone, or that of one `.ilean` file."""
    if not location.exists():
        raise FileNotFoundError(f"{location}: no such file or folder")
    whole = location.is_dir()
    if not whole and location.suffix != ".ilean":
        raise ValueError(f"{location}: is no folder and no .ilean file; name the folder of the project")
    found = 0
    for compiled in sorted(location.rglob("*.ilean")) if whole else [location]:
        said = _said(compiled)
        source = _source(compiled, said["module"], location if whole else location.parent)
        if source is not None:
            found += 1
            yield _Module.read(compiled, *source, said)
    if not found:
        what = (
            "has no .ilean file with its source; 'lake build' writes them"
            if whole
            else "its source is in no folder above"
        )
        raise FileNotFoundError(f"{location}: {what}")


class _Module:
    """One file and what the compiler said about it; all positions count characters."""

    def __init__(self, compiled: Path, source: Path, path: str, text: str, said: dict[str, Any]) -> None:
        self.compiled, self.source, self.path, self.text = compiled, source, path, text
        self.name: str = said["module"]
        self.imports = [str(it[0] if isinstance(it, list) else it) for it in said["directImports"]]
        self.lines = (0, *(found.end() for found in re.finditer("\n", text)))
        self._runs: list[tuple[int, int, TacticRun]] = []
        self._references: dict[str, Any] = said["references"]
        # Before there was a table of declarations, every reference told that around it.
        places = [at for _, it in self._meanings() for at in (it["definition"] or [], *it["usages"])]
        self._declared: dict[str, list[int]] = said.get("decls") or {at[4]: at[5:] for at in places if len(at) == 13}

    @classmethod
    def read(cls, compiled: Path, source: Path, path: str, said: dict[str, Any]) -> _Module:
        """Read the source, and what the compiler wrote for it."""
        try:
            module = cls(compiled, source, path, source.read_bytes().decode(), said)
            module.check()
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}: is not UTF-8 at byte {error.start}") from None
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ValueError(
                f"{compiled}: is damaged, or for another text of {source} ({error}); build the project again"
            ) from None
        return module

    def check(self) -> None:
        """Read all of it; raises `ValueError` or another error if something does not fit the text."""
        theorems = (it for it in self.declarations if not it.within and self.head(it)[0] == "theorem")
        for _, made in groupby(theorems, key=lambda it: it.start):
            first, *others = made
            if all(self.kind(it) == "generated" for it in (first, *others)):
                raise ValueError(f"{first.name} is where the text has {self.head(first)[1]}")
        _ = self.usages

    @cached_property
    def code(self) -> str:
        """The text with blanks for comments and strings."""
        return without_comments(self.text)

    @cached_property
    def declarations(self) -> list[_Declaration]:
        """All that the module declares, in order; what contains something comes before it."""
        spans = [(name, *self._span(at[:4]), self._at(*at[6:8])) for name, at in self._declared.items()]
        found: list[_Declaration] = []
        outer: _Declaration | None = None
        for name, start, stop, named in sorted(spans, key=lambda it: (it[1], -it[2], it[0])):
            # Declarations of one range are made by one command, and none of them stands within another.
            inside = outer and stop <= outer.stop and (start, stop) != (outer.start, outer.stop)
            found.append(_Declaration(name, start, stop, named, outer if inside else None))
            outer = outer if inside else found[-1]
        by_name = {it.name: it for it in found}
        for meaning, said in self._meanings():
            at = said["definition"]
            if at and meaning[1] not in by_name and len(at) > 4 and at[4] in by_name:
                start, stop = self._span(at[:4])
                found.append(_Declaration(meaning[1], start, stop, stop, by_name[at[4]]))
        return sorted(found, key=lambda it: (it.start, -it.stop, it.name))

    @cached_property
    def usages(self) -> list[_Usage]:
        """Every name that stands for a constant, in order."""
        return sorted(_Usage(*self._span(at[:4]), it) for it, said in self._meanings() for at in said["usages"])

    def used(self, start: int, stop: int) -> list[_Usage]:
        """The names between two places."""
        first = bisect.bisect_left(self.usages, start, key=lambda it: it.start)
        return self.usages[first : bisect.bisect_left(self.usages, stop, key=lambda it: it.start)]

    def head(self, declaration: _Declaration) -> tuple[str, str]:
        """The kind of a declaration, and the name that is written after its keyword."""
        found = _COMMAND.match(self.code, self.beginning(declaration), declaration.stop)
        if found is None:
            return "declaration", ""
        return _KINDS.get(found["word"], "declaration"), found["name"] or ""

    def beginning(self, declaration: _Declaration) -> int:
        """Where a declaration begins, without its documentation."""
        return _first(_BLANK, self.code, declaration.start, declaration.stop)

    def kind(self, declaration: _Declaration) -> str:
        """The kind of a declaration, of what stands inside another by what that is."""
        if declaration.within is None:
            kind, name = self.head(declaration)
            # One command may declare several theorems, of which one has the name that is written.
            return "generated" if kind == "theorem" and not _same(name, declaration.name) else kind
        around = self.kind(declaration.within)
        if around == "inductive":
            return "constructor"
        if around in ("structure", "class"):
            return "constructor" if _DOUBLE_COLON.match(self.code, declaration.stop) else "field"
        return "generated"

    def proof(self, declaration: _Declaration) -> int | None:
        """Where the proof of a theorem begins, at `:=`, `where` or the first `|`; None if it is none or has none."""
        if self.kind(declaration) != "theorem":
            return None
        at = declaration.named + proof_start(self.code[declaration.named : declaration.stop])
        return at if at < declaration.stop else None

    def ran(self, tactics: Iterable[TacticRun]) -> None:
        """Take in what Lean said of the goals between tactics."""
        for it in tactics:
            start, stop = self.lines[it.line - 1] + it.column, self.lines[it.last_line - 1] + it.end_column
            self._runs.append((start, stop, it))

    def steps(self, start: int, stop: int) -> Iterator[tuple[int, int, str, str]]:
        """The tactics of a proof and the goals around each: as Lean ran them, else as the text shows them."""
        at = (bisect.bisect_left(self._runs, place, key=lambda it: it[0]) for place in (start, stop))
        ran = self._runs[next(at) : next(at)]
        if ran:
            yield from ((first, last, it.before, it.after) for first, last, it in ran)
        else:
            yield from ((first, last, "", "") for first, last in self._written(start, stop))

    def _written(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """What begins in the column of the first tactic of the outermost `by`; a term as one."""
        found = _BY.match(self.code, start, stop)
        if found is None or found.end() == stop:
            yield _first(_TERM, self.code, start, stop), stop
            return
        column = found.end() - self.lines[bisect.bisect_right(self.lines, found.end()) - 1]
        begun = found.end()
        for line in self.lines[bisect.bisect_right(self.lines, found.end()) : bisect.bisect_left(self.lines, stop)]:
            before, begins = self.code[line : line + column], self.code[line + column : line + column + 1]
            if not before.strip() and begins.strip():
                yield begun, len(self.code[:line].rstrip())
                begun = line + column
        yield begun, stop

    def _meanings(self) -> Iterator[tuple[tuple[str, str], Any]]:
        for key, said in self._references.items():
            constant = json.loads(key).get("c")
            if constant is not None:
                yield (constant["m"], constant["n"]), said

    def _span(self, at: Sequence[int]) -> tuple[int, int]:
        start, stop = self._at(*at[:2]), self._at(*at[2:4])
        if not start <= stop:
            raise ValueError(f"a range ends before it begins: {at}")
        return start, stop

    def _at(self, line: int, units: int) -> int:
        """The character at a line and a number of UTF-16 units, both from 0 on."""
        if not 0 <= line < len(self.lines):
            raise ValueError(f"there is no line {line + 1}")
        start = self.lines[line]
        text = self.text[start : self.lines[line + 1] if line + 1 < len(self.lines) else None]
        column = units if text.isascii() else len(text.encode("utf-16-le")[: 2 * units].decode("utf-16-le"))
        if units < 0 or column > len(text):
            raise ValueError(f"line {line + 1} has no column {units + 1}")
        return start + column


def _run(
    source: Path, text: str, lean: Lean, options: tuple[str, ...], deadline: float, memory: int
) -> list[TacticRun]:
    """Have Lean read a text again, for the goals between its tactics."""
    try:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("Lean ran out of time")
        with closing(lean.messages(text, options=options, seconds=seconds, memory=memory)) as said:
            return tactic_runs(_trusted(source, said))
    except (TimeoutError, RuntimeError) as error:
        raise type(error)(f"{source}: {error}") from None


def _trusted(source: Path, said: Iterable[Message]) -> Iterator[str]:
    for message in said:
        if message.severity == "error":
            fault = textwrap.shorten(message.text, 400, placeholder=" …")
            raise ValueError(f"{source}: does not compile: line {message.line}: {fault}")
        yield message.text


def _said(compiled: Path) -> dict[str, Any]:
    """What the compiler wrote."""
    try:
        said: dict[str, Any] = json.loads(compiled.read_bytes())
        missing = {"module", "directImports", "references"} - said.keys()
    except (ValueError, AttributeError):
        raise ValueError(f"{compiled}: is not what Lean writes: no JSON object") from None
    if missing or not isinstance(said["module"], str):
        raise ValueError(f"{compiled}: has no {min(missing, default='module')!r}, which newer versions of Lean write")
    return said


def _source(compiled: Path, module: str, location: Path) -> tuple[Path, str] | None:
    """The source of a module, in a folder above its `.ilean` file, and its name in the corpus."""
    parts = [part.strip("«»") for part in re.findall(r"«[^»]*»|[^.«»]+", module)]
    name = Path(*parts[:-1], f"{parts[-1]}.lean")
    for folder in compiled.parents:
        for below in _SOURCES:
            source = folder / below / name
            if source.is_file():
                return source, (source.relative_to(location) if folder.is_relative_to(location) else name).as_posix()
    return None


def _first(passed: re.Pattern[str], text: str, start: int, stop: int) -> int:
    """The place after what `passed` matches."""
    found = passed.match(text, start, stop)
    return found.end() if found else start


def _same(written: str, name: str) -> bool:
    """Whether a name, as written after its keyword, can be that of a declaration in some namespace."""
    plain = re.sub("[«»]", "", written).rstrip(".").removeprefix("_root_.")
    return f".{name}".replace("«", "").replace("»", "").endswith(f".{plain}")


def _assemble(modules: dict[str, _Module]) -> Corpus:
    paths = {it.path: it for it in modules.values()}
    imports = {it.path: tuple(modules[name].path for name in it.imports if name in modules) for it in modules.values()}
    files: list[File] = []
    premises: list[Premise] = []
    numbers: dict[tuple[str, str], int] = {}
    order = topological_order(imports)
    for path in order:
        module, first = paths[path], len(premises)
        for declaration in module.declarations:
            numbers[module.name, declaration.name] = len(premises)
            premises.append(_premise(module, declaration))
        files.append(File(path, imports[path], first, len(premises), module.lines))
    theorems = [
        _theorem(paths[path], it, proof, premises, numbers)
        for path in order
        for it in paths[path].declarations
        if (proof := paths[path].proof(it)) is not None
    ]
    return Corpus(tuple(files), tuple(premises), tuple(theorems))


def _premise(module: _Module, declaration: _Declaration) -> Premise:
    whole = declaration.within or declaration
    stop = module.proof(whole) or whole.stop
    code = module.text[module.beginning(whole) : stop].rstrip()
    return Premise(module.path, declaration.name, module.kind(declaration), whole.start, whole.stop, code)


def _theorem(
    module: _Module,
    declaration: _Declaration,
    proof: int,
    premises: Sequence[Premise],
    numbers: dict[tuple[str, str], int],
) -> Theorem:
    """The theorem of a declaration whose proof begins at `proof`."""
    own = (module.path, declaration.start)
    tactics, used = [], set[int]()
    for start, stop, before, after in module.steps(proof, declaration.stop):
        known = [(it, numbers[it.meaning]) for it in module.used(start, stop) if it.meaning in numbers]
        # A proof by recursion names itself.
        named = [it for it in known if (premises[it[1]].path, premises[it[1]].start) != own]
        used.update(number for _, number in named)
        tactic = _tactic(module.text, start, stop, named, premises)
        tactics.append(tactic._replace(state_before=before, state_after=after))
    return Theorem(
        module.path,
        declaration.name,
        declaration.start,
        declaration.stop,
        module.text[module.beginning(declaration) : proof].rstrip(),
        module.text[proof : declaration.stop],
        tuple(tactics),
        tuple(sorted(used)),
    )


def _tactic(
    text: str, start: int, stop: int, members: Iterable[tuple[_Usage, int]], premises: Sequence[Premise]
) -> Tactic:
    pieces, provenances, done = [], [], start
    for usage, number in members:
        premise = premises[number]
        provenances.append(Provenance(premise.full_name, premise.path, premise.start, premise.end))
        if usage.start >= done:  # the compiler may have read the same words several ways
            pieces += [text[done : usage.start], f"<a>{text[usage.start : usage.stop]}</a>"]
            done = usage.stop
    pieces.append(text[done:stop])
    return Tactic(text[start:stop], "".join(pieces), tuple(provenances))
