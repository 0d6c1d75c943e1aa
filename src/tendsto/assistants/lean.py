"""Check Lean 4 files from strangers: compiled, compared with trusted statements, and audited for axioms."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import textwrap
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tendsto.assistants.checking import (
    MESSAGES,
    REASON,
    Stop,
    audited,
    forbidden,
    stop_unless_exited_well,
    validate,
)
from tendsto.assistants.protocol import Certificate, NotInstalled, Outcome, Theorem
from tendsto.assistants.sandbox import Run, Sandbox, kill
from tendsto.validation import positive

CLASSICAL_LEAN = ("propext", "Classical.choice", "Quot.sound")
"""The axioms of Lean's own library: equivalent propositions are equal, choice, and equality in quotients.

Mathlib rests on these three and no other. They are consistent relative to set theory with inaccessible cardinals.
"""

# Words that run code while a file is read, change how later text is read, or leave the logic. They are looked for
# in the whole text, comments and strings included, and also at the end of longer words, for a word may follow a
# numeral without a space. Lean has no way to write one of its words in other letters.
_CODE = "runs code while the file is read"
_SYNTAX = "changes how text is read, by code that Lean runs"
_COMMANDS = {
    "Lean": "opens Lean's own machinery",
    "IO": "reads, writes or runs something",
    "#eval": _CODE,
    "eval%": _CODE,
    "by_elab": _CODE,
    "run_cmd": _CODE,
    "run_elab": _CODE,
    "run_meta": _CODE,
    "run_tac": _CODE,
    "initialize": _CODE,
    "simproc": _CODE,
    "elab": _SYNTAX,
    "elab_rules": _SYNTAX,
    "macro": _SYNTAX,
    "macro_rules": _SYNTAX,
    "syntax": _SYNTAX,
    "declare_syntax_cat": _SYNTAX,
    "binder_predicate": _SYNTAX,
    "notation": _SYNTAX,
    "notation3": _SYNTAX,
    "infix": _SYNTAX,
    "infixl": _SYNTAX,
    "infixr": _SYNTAX,
    "prefix": _SYNTAX,
    "postfix": _SYNTAX,
    "export": "gives a constant a second name",
    "unsafe": "leaves the logic",
    "extern": "calls machine code",
    "implemented_by": "runs other code than what is proved about",
    "csimp": "runs other code than what is proved about",
    "native_decide": "takes the word of compiled code",
    "bv_decide": "runs another program and takes the word of compiled code",
    "bv_check": "reads a file and takes the word of compiled code",
    "skipKernelTC": "switches the kernel off",
    "trackAxioms": "switches the audit of axioms off",
    "include_str": "reads a file",
    "profiler": "can write a file",
}
# What follows is no letter of a longer word; a token that begins with # or ends with % needs nothing after it.
_FORBIDDEN = re.compile(
    rf"({'|'.join(map(re.escape, sorted(_COMMANDS, key=len, reverse=True)))})(?:(?<=eval)|(?<=%)|(?![A-Za-z0-9_'!?]))"
)
_IDENTIFIER = re.compile(r"[^\W\d][\w'!?]*(\.[^\W\d][\w'!?]*)*")
_VERSION = re.compile(r"Lean \(version (4\.[^,)]+)")
_SOURCE = "Submission"

# Thread stacks and heaps count towards the address space from the moment that they are reserved, by default 1 GiB
# each; these are 64 MiB each (in KiB). Threads side by side would use up the processor time before the wall time.
_ENVIRONMENT = (
    "LEAN_STACK_SIZE_KB=65536",
    "MIMALLOC_ARENA_RESERVE=65536",
    "MALLOC_ARENA_MAX=2",
    "LEAN_NUM_THREADS=1",
)


class Message(NamedTuple):
    """What Lean says of a place in a file.

    **Arguments**

    - `line`: from 1; `severity`: `error`, `warning` or `information`; `text`: what it says.
    - `column`: from 0, in characters.
    """

    line: int
    severity: str
    text: str
    column: int = 0


@dataclass(frozen=True)
class Lean:
    """The Lean 4 prover, through its compiler and, where there is one, its re-checker.

    A theorem counts as proved only if all of this holds:

    1. the source contains no word that runs code while it is read (`#eval`, `run_cmd`, `initialize`, `IO`, `Lean`, …),
       that changes how text is read (`macro`, `notation`, `syntax`, …), or that leaves the logic (`unsafe`,
       `implemented_by`, `debug.skipKernelTC`, …); not in comments either;
    2. it compiles, in a sandbox and a directory of its own: Lean's kernel has then accepted each of its declarations;
    3. the preamble and the expected statements compile to a module of their own, which does not import the source.
       A module is a list of terms: what the source declares, opens or abbreviates can no longer change what they say;
    4. a third file, in a third directory, imports both modules and nothing else. It calls statement and theorem by
       their full names; the kernel accepts the theorem as a proof of the statement, up to unfolding of definitions.
       By 1 the source adds no syntax, so this file is read as it stands. A name that both modules declare stops it,
       unless it is that of a theorem or axiom with the same type;
    5. `#print axioms` in that file lists nothing but `axioms`, with full and private names printed as such, so that
       no axiom passes under the name of another. A `sorry` is the axiom `sorryAx`. Each of these axioms is declared
       where the statements are read, so the source has not stated one itself under an allowed name (3 and 4);
    6. `leanchecker` (with Lean since 4.28; before, `lean4checker` on the `PATH`) runs the terms of the source's module
       and of the third file through the kernel again, in a fresh process that reads no text. **Where it is missing
       this step falls away**, and the certificate's `isolation` says so.

    Much rests on 1. A source that runs code in spite of it stays in the sandbox, but it could put terms into its
    module that no kernel has seen, which only 6 notices; and it could forge the record of axioms that recent versions
    of Lean keep in a module and that 5 reads, which nothing here notices. The list of words is a precaution, not a
    proof that nothing runs: for a source that may have been written to deceive, read it as well.

    The installed libraries, which the source may import, are trusted as they lie on disk. Files of Lean's module
    system (those that begin with `module`) are rejected, for they keep part of their terms in files beside.

    A proof that exceeds `maxHeartbeats`, a limit that a source sets for itself, is rejected; wall time that runs out
    is `timed out`. Address space counts what Lean maps: it needs about 1.8 GB for itself and as much again as the
    imported libraries take on disk, for Mathlib `memory=16 * 2**30`.

    **Arguments**

    - `command`: what starts Lean, `("lean",)` or, for a project, `("lake", "env", "lean")`. Lean's version manager is
      asked once which Lean it starts; the check runs that one.
    - `directory`: where to start it: the project, built beforehand (`lake build`).
    - `path`: further directories of compiled libraries (entries of `LEAN_PATH`); readable in the sandbox.
    - `axioms`: the axioms that a proof may rest on, by full names.
    - `options`: settings for your own files, `autoImplicit=false`, under which `read` and `messages` read. `check` has
      Lean's defaults.
    """

    command: tuple[str, ...] = ("lean",)
    directory: str | os.PathLike[str] = "."
    path: tuple[str | os.PathLike[str], ...] = ()
    axioms: tuple[str, ...] = CLASSICAL_LEAN
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given: dict[str, object] = {
            "command": self.command,
            "path": self.path,
            "axioms": self.axioms,
            "options": self.options,
        }
        for name, words in given.items():
            if not isinstance(words, tuple):
                raise TypeError(f"{name}: must be a tuple, got {words!r}")
        if not self.command:
            raise ValueError("command: must not be empty")

    def check(
        self,
        source: str,
        theorems: Mapping[str, str],
        *,
        preamble: str = "",
        seconds: float = 60.0,
        memory: int = 2 * 2**30,
    ) -> Certificate:
        """Decide whether `source` proves each of `theorems`; see `ProofAssistant.check`.

        **Arguments**

        - `source`: a Lean file, its imports included.
        - `theorems`: the statement, a Lean term of type `Prop`, that each full name must prove. Parameters before the
          colon of a theorem stand in it as `∀`.
        - `preamble`: the head of a Lean file before the statements, `import Mathlib` and `open Real`.

        **Raises** `NotInstalled` without Lean; `TypeError` or `ValueError` for malformed arguments.
        """
        validate(source, theorems, preamble, seconds, memory, name=_IDENTIFIER, language="Lean")
        tools = self._tools()
        sandbox = Sandbox(memory=memory, programs=tools.directories)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="tendsto-lean-") as directory:
            session = _Session(tools, sandbox, Path(directory).resolve(), started + seconds)
            outcome, messages, found = session.examine(source, theorems, preamble, self.axioms)
        again = f"checked again by {Path(tools.checker).name}" if tools.checker else "not checked again: no leanchecker"
        return Certificate(
            outcome,
            found,
            messages,
            time.perf_counter() - started,
            "Lean",
            tools.version,
            f"{sandbox.isolation}; {again}",
        )

    def read(
        self, source: str, *, seconds: float = 60.0, memory: int = 2 * 2**30
    ) -> tuple[Outcome, tuple[Message, ...]]:
        """What Lean says of a file of your own: it is compiled in the sandbox, and none of its words is refused.

        **Returns** how that ended (`accepted`: without an error) and what was said until then, in order. It certifies
        nothing; `check` does.

        **Raises** `NotInstalled` without Lean; `ValueError` for limits that are none.
        """
        positive("seconds", seconds)
        tools = self._tools()
        with tempfile.TemporaryDirectory(prefix="tendsto-lean-") as directory:
            sandbox = Sandbox(memory=memory, programs=tools.directories)
            session = _Session(tools, sandbox, Path(directory).resolve(), time.perf_counter() + seconds)
            run = session.read("source", "Source", source, *self._settings())
        said = tuple(map(_message, _messages(run.output)))
        try:
            stop_unless_exited_well(run, "the file", _error(run))
        except Stop as stop:
            return stop.outcome, said
        return "accepted", said

    def messages(
        self, source: str, *, options: Sequence[str] = (), seconds: float = 600.0, memory: int = 4 * 2**30
    ) -> Generator[Message]:
        """What Lean says of a file of your own while it reads it, as `read` but of any length and as it comes.

        **Arguments**

        - `options`: further settings for the whole file, `pp.all=true`.

        **Raises** `NotInstalled` without Lean; `ValueError` for limits that are none; `TimeoutError`; `RuntimeError` if
        Lean dies before the file ends, for want of memory.
        """
        positive("seconds", seconds)
        tools = self._tools()
        with tempfile.TemporaryDirectory(prefix="tendsto-lean-") as directory:
            sandbox = Sandbox(memory=memory, programs=tools.directories)
            session = _Session(tools, sandbox, Path(directory).resolve(), math.inf)
            command = session.command("source", "Source", source, *self._settings(options))
            process = sandbox.open(command, session.directory / "source")
            deadline, failed = time.perf_counter() + seconds, False
            alarm = threading.Timer(seconds, kill, (process,))
            alarm.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    for message in map(_message, _messages(line.decode(errors="replace"))):
                        failed |= message.severity == "error"
                        yield message
                if process.wait() != int(failed):
                    if time.perf_counter() >= deadline:
                        raise TimeoutError(f"Lean did not read the file in {seconds:g} s")
                    raise RuntimeError(f"Lean ended before the file did (code {process.returncode})")
            finally:
                alarm.cancel()
                kill(process)

    def version(self) -> str:
        """The version that Lean says it is.

        **Raises** `NotInstalled` without Lean.
        """
        return self._tools().version

    def _settings(self, others: Sequence[str] = ()) -> list[str]:
        return [f"-D{it}" for it in (*self.options, *others)]

    def _tools(self) -> _Tools:
        return _tools(self.command, Path(self.directory).resolve(), [Path(entry) for entry in self.path])


def forbidden_command(text: str) -> str:
    """What is said against a text that has a word which runs code, changes the syntax or leaves the logic."""
    return forbidden(text, _FORBIDDEN, _COMMANDS)


@dataclass(frozen=True)
class _Tools:
    compiler: tuple[str, ...]
    checker: str
    version: str
    path: tuple[str, ...]
    directories: tuple[str, ...]


def _tools(command: tuple[str, ...], directory: Path, path: Sequence[Path]) -> _Tools:
    version = _VERSION.match(_ask([*command, "--version"], directory))
    if version is None:
        raise NotInstalled(f"needs Lean 4, which `{command[0]}` is not; elan installs it")
    prefix = Path(_ask([*command, "--print-prefix"], directory).strip())
    libraries = [entry.resolve() for entry in path]
    if Path(command[0]).name == "lake":
        known = _ask([command[0], "env", "printenv", "LEAN_PATH"], directory).strip()
        libraries += [(directory / entry).resolve() for entry in known.split(os.pathsep) if entry]
    compiler = command
    if (prefix / "bin" / "lean").is_file():
        compiler = (str(prefix / "bin" / "lean"),)
    checker = shutil.which("leanchecker", path=str(prefix / "bin")) or shutil.which("lean4checker") or ""
    needed = {prefix, *libraries}
    for program in (shutil.which(compiler[0]), checker):
        if program:
            needed |= {Path(program).absolute().parent, Path(program).resolve().parent}
    directories = sorted({str(one) for one in needed} - {"/", "/usr"})
    return _Tools(compiler, checker, version[1], tuple(str(entry) for entry in libraries), tuple(directories))


def _ask(command: Sequence[str], directory: Path) -> str:
    """What a trusted program answers, which is asked once."""
    return _answer(tuple(command), directory, os.environ.get("PATH", ""))


@functools.cache
def _answer(command: tuple[str, ...], directory: Path, search_path: str) -> str:
    try:
        answer = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "PATH": search_path},
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise NotInstalled(f"needs Lean 4: elan installs it, or name the command that starts it ({error})") from None
    if answer.returncode != 0:
        said = textwrap.shorten(answer.stderr, REASON, placeholder=" …")
        raise NotInstalled(f"needs Lean 4: `{command[0]}` does not start it: {said}")
    return answer.stdout


@dataclass(frozen=True)
class _Session:
    tools: _Tools
    sandbox: Sandbox
    directory: Path
    deadline: float
    verdicts: list[str] = field(default_factory=list)

    def examine(
        self, source: str, theorems: Mapping[str, str], preamble: str, allowed: tuple[str, ...]
    ) -> tuple[Outcome, str, dict[str, Theorem]]:
        found = [Theorem(name, statement) for name, statement in theorems.items()]
        messages = ""
        try:
            if reason := forbidden_command(source):
                raise Stop("refused", reason)
            compiled = self._compile("source", _SOURCE, source)
            messages = _readable(compiled)[:MESSAGES]
            stop_unless_exited_well(compiled, "the source", _error(compiled))
            self._hand_over("source", _SOURCE)
            found = self._certify("", found, preamble, allowed)
            self._recheck([_SOURCE, *self.verdicts])
        except Stop as stop:
            failed = {theorem.name: replace(theorem, reason=theorem.reason or str(stop)) for theorem in found}
            return stop.outcome, messages or str(stop), failed
        accepted = all(theorem.accepted for theorem in found)
        return "accepted" if accepted else "rejected", messages, {theorem.name: theorem for theorem in found}

    def _certify(self, suffix: str, theorems: list[Theorem], preamble: str, allowed: tuple[str, ...]) -> list[Theorem]:
        """Compare the theorems with their statements: all in one file, and each in its own if that does not compile."""
        expected, verdict = f"Expected{suffix}", f"Verdict{suffix}"
        for directory, module, text, fault in (
            ("statements", expected, _statements(expected, theorems, preamble), "this statement cannot be read"),
            ("verdict", verdict, _comparison(expected, verdict, theorems), "the source does not prove this statement"),
        ):
            run = self._compile(directory, module, text)
            if (run.status, run.code) == ("exited", 1):
                if len(theorems) > 1:
                    alone = [[theorem] for theorem in theorems]
                    return [self._certify(f"{suffix}_{n}", one, preamble, allowed)[0] for n, one in enumerate(alone)]
                return [replace(theorems[0], reason=f"{fault}: {_error(run)}")]
            stop_unless_exited_well(run, "the comparison with the statements", _error(run))
            if directory == "statements":
                self._hand_over(directory, module)
        self.verdicts.append(verdict)
        listed = [_axioms(run, verdict, n) for n in range(len(theorems))]
        known = self._known(suffix, expected, sorted({name for axioms in listed for name in axioms} & set(allowed)))
        return [audited(theorem, axioms, known) for theorem, axioms in zip(theorems, listed, strict=True)]

    def _known(self, suffix: str, expected: str, axioms: list[str]) -> tuple[str, ...]:
        """Those of the axioms that are declared where the source is not."""
        if not axioms:
            return ()
        head = f"prelude\nimport {expected}\n"
        run = self._compile("verdict", f"Known{suffix}", head + "".join(f"#check @_root_.{name}\n" for name in axioms))
        if (run.status, run.code) != ("exited", 1):
            stop_unless_exited_well(run, "the search for the axioms", _error(run))
        said = {_line(one): one.get("severity") for one in _messages(run.output)}
        return tuple(name for n, name in enumerate(axioms, head.count("\n") + 1) if said.get(n) == "information")

    def _recheck(self, modules: list[str]) -> None:
        if not self.tools.checker:
            return
        for module in modules:
            run = self._check(module)
            stop_unless_exited_well(run, f"the second check of {module}", _error(run))
        if self._check("Absent").code == 0:
            raise Stop("crashed", "the second check accepts a module that does not exist")

    def _compile(self, directory: str, module: str, text: str) -> Run:
        return self.read(directory, module, text, "-o", f"{module}.olean")

    def read(self, directory: str, module: str, text: str, *options: str) -> Run:
        """What Lean says of a text, as JSON."""
        return self._run(directory, self.command(directory, module, text, *options))

    def command(self, directory: str, module: str, text: str, *options: str) -> list[str]:
        """Write a text, and what has Lean read it."""
        (self.directory / directory).mkdir(exist_ok=True)
        (self.directory / directory / f"{module}.lean").write_text(text, encoding="utf-8")
        path = self._path(directory)
        return ["env", path, *_ENVIRONMENT, *self.tools.compiler, "--json", *options, f"{module}.lean"]

    def _path(self, directory: str) -> str:
        own = [str(self.directory / directory)] if directory == "verdict" else []
        return f"LEAN_PATH={os.pathsep.join([*own, *self.tools.path])}"

    def _check(self, module: str) -> Run:
        return self._run("verdict", ["env", self._path("verdict"), *_ENVIRONMENT, self.tools.checker, module])

    def _hand_over(self, directory: str, module: str) -> None:
        """Give one compiled module, and nothing else, to the comparison."""
        compiled = self.directory / directory / f"{module}.olean"
        if compiled.is_symlink() or not compiled.is_file():
            raise Stop("crashed", "Lean has written no compiled module")
        if list(compiled.parent.glob(f"{module}.olean.*")):
            raise Stop("rejected", "a file of the module system keeps terms in files beside its module")
        (self.directory / "verdict").mkdir(exist_ok=True)
        shutil.copy(compiled, self.directory / "verdict")

    def _run(self, directory: str, command: list[str]) -> Run:
        left = self.deadline - time.perf_counter()
        if left <= 0:
            raise Stop("timed out", "the check ran out of time")
        return self.sandbox.run(command, self.directory / directory, seconds=left)


def _statements(module: str, theorems: list[Theorem], preamble: str) -> str:
    # _root_: the preamble may leave a namespace open.
    stated = "".join(f"def _root_.{module}.s{n} : Prop := (\n{one.statement}\n)\n" for n, one in enumerate(theorems))
    return f"{preamble}\n{stated}"


_HEAD = "prelude\nimport {}\nimport {}\nset_option pp.fullNames true\nset_option pp.privateNames true\n"


def _comparison(expected: str, verdict: str, theorems: list[Theorem]) -> str:
    # prelude: nothing is imported beside the two modules and what they import. Each theorem takes two lines.
    proofs = "".join(
        f"theorem _root_.{verdict}.t{n} : _root_.{expected}.s{n} := @_root_.{one.name}\n"
        f"#print axioms _root_.{verdict}.t{n}\n"
        for n, one in enumerate(theorems)
    )
    return _HEAD.format(expected, _SOURCE) + proofs


def _axioms(run: Run, verdict: str, number: int) -> tuple[str, ...]:
    """The answer to one `#print axioms`, found by its line."""
    line = _HEAD.count("\n") + 2 * number + 2
    said = [str(message.get("data")) for message in _messages(run.output) if _line(message) == line]
    axioms = listed_axioms("".join(said), re.escape(f"{verdict}.t{number}"))
    if len(said) != 1 or axioms is None:
        raise Stop("crashed", f"the list of axioms cannot be read: {run.output[:200]!r}")
    return axioms


def listed_axioms(said: str, name: str = r"(?:«[^»]*»|\S)+") -> tuple[str, ...] | None:
    """The axioms in what `#print axioms` says of a constant whose full name has this form; None if it says no such."""
    found = re.fullmatch(rf"'{name}' (?:does not depend on any axioms|depends on axioms: \[(.+)\])", said, re.DOTALL)
    return None if found is None else tuple(re.split(r",\s+", found[1])) if found[1] else ()


def _messages(output: str) -> list[dict[str, Any]]:
    """Lean's diagnostics, one JSON object a line; other lines are none of them."""
    found = []
    for line in output.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict):
            found.append(message)
    return found


def _message(found: Mapping[str, Any]) -> Message:
    return Message(_line(found), str(found.get("severity")), str(found.get("data")), _place(found, "column"))


def _line(message: Mapping[str, Any]) -> int:
    return _place(message, "line")


def _place(message: Mapping[str, Any], what: str) -> int:
    position = message.get("pos")
    return int(position.get(what, 0)) if isinstance(position, dict) else 0


def _readable(run: Run) -> str:
    said = [f"line {_line(one)}: {one.get('severity')}: {one.get('data')}" for one in _messages(run.output)]
    return "\n".join([*said, run.errors]).strip()


def _error(run: Run) -> str:
    errors = [str(one.get("data")) for one in _messages(run.output) if one.get("severity") == "error"]
    return textwrap.shorten((errors or [run.errors])[0], REASON, placeholder=" …") or "no message"
