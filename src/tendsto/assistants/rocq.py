"""Check Rocq (Coq) files from strangers: compiled, compared with trusted statements, and checked a second time."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tendsto.assistants.protocol import Certificate, NotInstalled, Outcome, Theorem
from tendsto.assistants.sandbox import Run, Sandbox
from tendsto.validation import integer, positive

CLASSICAL_REALS = (
    "ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
    "Classical_Prop.classic",
)
"""The axioms from which Rocq's standard library builds the real numbers and classical analysis.

In order: a decidable property of the natural numbers fails somewhere or holds everywhere; the negation of a
proposition is decidable; functions that agree everywhere are equal; excluded middle. Together they are
consistent with Rocq's logic (they hold in its set-theoretic model).
"""

MESSAGES = 20_000
"""How many characters of what Rocq says about a source a certificate keeps."""

REASON = 500
"""How many characters of an error message stand in a theorem's reason."""

# Words of the commands that read, write or run something outside the proof. They are looked for in the whole text,
# comments and strings included, and inside longer words: a file can redefine where its own comments begin (a
# notation may contain "(*"), so no reading of it short of Rocq's own can tell a comment from a command. Each entry
# is one word, for between two words a file may put anything that Rocq skips.
_COMMANDS = {
    "Load": "loads another file",
    "LoadPath": "changes where files are found",
    "ML": "runs machine code",
    "Drop": "leaves Rocq for its host language",
    "Cd": "changes the working directory",
    "Redirect": "writes a file",
    "Extraction": "writes and compiles program text",
    "Universes": "can write a file",
    "Dump": "writes a file",
    "Profile": "writes a file",
    "Dependency": "looks for files",
    "NativeCompute": "profiles machine code",
    "native_compute": "compiles and runs machine code",
    "native_cast_no_check": "compiles and runs machine code",
}
_FORBIDDEN = re.compile(f"({'|'.join(_COMMANDS)})(?![A-Za-z0-9_'])")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_']*(\.[A-Za-z_][A-Za-z0-9_']*)*")
_SOURCE = "submission"


@dataclass(frozen=True)
class Rocq:
    """The Rocq prover, formerly Coq, through its compiler and its independent checker.

    A theorem counts as proved only if all of this holds:

    1. the source contains no word of a command that reads, writes or runs something (`Load`, `Redirect`,
       `Extraction`, `ML`, …; not in comments either), and compiles;
    2. in a second file, the expected statement is read *before* the source is loaded, and the kernel accepts the
       source's theorem as its proof. Notations, coercions, hints or shadowed names of the source come too late to
       change what the statement means;
    3. `Print Assumptions` lists nothing but `axioms`, neither an axiom nor a check that was switched off;
    4. `coqchk`, which shares neither parser nor tactics with the compiler, checks the compiled source and that
       second file again, and finds in them no axiom and no check switched off. An axiom that the source itself
       states fails the whole file here, whatever its name, and whether or not a theorem uses it.

    The installed libraries, which the source may import, are trusted as they lie on disk.

    **Arguments**

    - `axioms`: the axioms of installed libraries that a proof may rest on, each as Rocq prints it where nothing is
      imported (library and name); by default those of the standard library's real numbers.
    """

    axioms: tuple[str, ...] = CLASSICAL_REALS

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

        - `source`: a Rocq file.
        - `theorems`: the statement, a Rocq term of type `Prop`, that each name must prove.
        - `preamble`: Rocq commands before the statements, `From Coq Require Import Reals. Open Scope R_scope.`

        **Raises** `NotInstalled` without Rocq; `TypeError` or `ValueError` for malformed arguments.
        """
        _validate(source, theorems, preamble, seconds, memory)
        tools = _tools()
        sandbox = Sandbox(memory=memory, programs=tools.directories)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="tendsto-rocq-") as directory:
            session = _Session(tools, sandbox, Path(directory).resolve(), started + seconds)
            outcome, messages, found = session.examine(source, theorems, preamble, self.axioms)
        return Certificate(
            outcome, found, messages, time.perf_counter() - started, "Rocq", tools.version, sandbox.isolation
        )


@dataclass(frozen=True)
class _Tools:
    compiler: str
    checker: str
    version: str

    @property
    def directories(self) -> tuple[str, ...]:
        roots = {str(Path(tool).resolve().parent.parent) for tool in (self.compiler, self.checker)}
        return tuple(sorted(roots - {"/", "/usr"}))


def _tools() -> _Tools:
    compiler, checker = shutil.which("coqc"), shutil.which("coqchk")
    if compiler is None or checker is None:
        raise NotInstalled("needs Rocq: apt install coq")
    answer = subprocess.run([compiler, "--print-version"], capture_output=True, text=True, check=True)
    return _Tools(compiler, checker, answer.stdout.split()[0])


class _Stop(Exception):
    """The check ends here, with this outcome for the whole file."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome


@dataclass(frozen=True)
class _Session:
    tools: _Tools
    sandbox: Sandbox
    directory: Path
    deadline: float
    certificates: list[str] = field(default_factory=list)

    def examine(
        self, source: str, theorems: Mapping[str, str], preamble: str, allowed: tuple[str, ...]
    ) -> tuple[Outcome, str, dict[str, Theorem]]:
        found = [Theorem(name, statement) for name, statement in theorems.items()]
        messages = ""
        try:
            _refuse_commands(source)
            compiled = self._compile(_SOURCE, source)
            messages = (compiled.output + compiled.errors).strip()[:MESSAGES]
            _stop_unless_exited_well(compiled, "the source")
            found = self._certify("certificate", found, preamble, allowed)
            self._recheck([_SOURCE, *self.certificates])
        except _Stop as stop:
            failed = {theorem.name: replace(theorem, reason=theorem.reason or str(stop)) for theorem in found}
            return stop.outcome, messages or str(stop), failed
        accepted = all(theorem.accepted for theorem in found)
        return "accepted" if accepted else "rejected", messages, {theorem.name: theorem for theorem in found}

    def _certify(self, file: str, theorems: list[Theorem], preamble: str, allowed: tuple[str, ...]) -> list[Theorem]:
        """Compare the theorems with their statements: all in one file, and each in its own if that does not compile."""
        run = self._compile(file, _certificate(theorems, preamble))
        if run.status == "exited" and run.code == 1:
            if len(theorems) > 1:
                alone = [[theorem] for theorem in theorems]
                return [self._certify(f"{file}_{n}", one, preamble, allowed)[0] for n, one in enumerate(alone)]
            return [replace(theorems[0], reason=f"the source does not prove this statement: {_error(run)}")]
        _stop_unless_exited_well(run, "the comparison with the statements")
        self.certificates.append(file)
        listed = _assumptions(run.output)
        if len(listed) != len(theorems):
            raise _Stop("crashed", f"the lists of axioms cannot be read: {run.output[:200]!r}")
        return [_audited(theorem, axioms, allowed) for theorem, axioms in zip(theorems, listed, strict=True)]

    def _recheck(self, files: list[str]) -> None:
        command = [self.tools.checker, "-o", *(word for file in files for word in ("-norec", file))]
        run = self._run(command)
        _stop_unless_exited_well(run, "the independent checker")
        report = run.output + run.errors
        missing = [file for file in files if not re.search(rf"^Checking library: {file}$", report, re.MULTILINE)]
        if missing:
            raise _Stop("rejected", f"the independent checker left out {', '.join(missing)}")
        if surplus := _surplus_of_summary(report, files):
            raise _Stop("rejected", f"the source states or switches off: {', '.join(surplus)}")

    def _compile(self, file: str, text: str) -> Run:
        (self.directory / f"{file}.v").write_text(text, encoding="utf-8")
        return self._run([self.tools.compiler, "-q", "-noglob", "-w", "none", f"{file}.v"])

    def _run(self, command: list[str]) -> Run:
        left = self.deadline - time.perf_counter()
        if left <= 0:
            raise _Stop("timed out", "the check ran out of time")
        return self.sandbox.run(command, self.directory, seconds=left)


def _certificate(theorems: list[Theorem], preamble: str) -> str:
    # The statements are read before the source is loaded. The module around them ends the preamble's imports,
    # which would abbreviate the names of axioms.
    statements = "".join(f"Definition s{n} : Prop := (\n{one.statement}\n).\n" for n, one in enumerate(theorems))
    proofs = "".join(
        f"Theorem t{n} : Expected.s{n}.\nProof @{_SOURCE}.{one.name}.\nPrint Assumptions t{n}.\n"
        for n, one in enumerate(theorems)
    )
    return (
        f"Module Expected.\n{preamble}\n{statements}End Expected.\n"
        f"Require {_SOURCE}.\nSet Printing Width 1000000.\n{proofs}"
    )


def _audited(theorem: Theorem, axioms: tuple[str, ...], allowed: tuple[str, ...]) -> Theorem:
    surplus = [axiom for axiom in axioms if axiom not in allowed]
    reason = f"rests on what is not allowed: {', '.join(surplus)}" if surplus else ""
    return replace(theorem, axioms=axioms, reason=reason)


def _refuse_commands(source: str) -> None:
    if found := _FORBIDDEN.search(source):
        line = source.count("\n", 0, found.start()) + 1
        raise _Stop("refused", f"line {line} contains `{found[1]}`, which {_COMMANDS[found[1]]}")


def _stop_unless_exited_well(run: Run, subject: str) -> None:
    if (run.status, run.code) == ("exited", 0):
        return
    if run.status == "timed out":
        raise _Stop("timed out", f"{subject}: ran out of time")
    if re.search(r"(out of|not enough|allocate) memory", run.errors, re.IGNORECASE):
        raise _Stop("out of memory", f"{subject}: needs more memory than allowed")
    if run.status == "killed":
        raise _Stop("crashed", f"{subject}: ended by signal {run.code}")
    if run.code == 1:
        raise _Stop("rejected", f"{subject}: {_error(run)}")
    raise _Stop("crashed", f"{subject}: exit code {run.code}: {_error(run)}")


def _error(run: Run) -> str:
    text = run.errors.partition("Error:")[2] or run.errors
    return textwrap.shorten(text, REASON, placeholder=" …") or "no message"


def _assumptions(output: str) -> list[tuple[str, ...]]:
    """What each `Print Assumptions` lists: names, or sentences such as "f is assumed to be guarded."."""
    listed: list[tuple[str, ...]] = []
    for line in output.splitlines():
        if line in ("Closed under the global context", "Axioms:"):
            listed.append(())
        elif not listed:
            raise _Stop("crashed", f"the lists of axioms cannot be read: {output[:200]!r}")
        elif not line.startswith(" "):  # what is indented continues the type of an axiom
            listed[-1] += (re.split(r"\s+:\s", line, maxsplit=1)[0],)
    return listed


def _surplus_of_summary(output: str, files: Iterable[str]) -> list[str]:
    """What the checker's closing summary holds against the files.

    Of axioms it lists those of every library in memory, so only those of the files themselves count; that a
    proof uses no other is what `Print Assumptions` has shown.
    """
    sections = dict(re.findall(r"^\* ([^:\n]+):(.*?)(?=^\* |\Z)", output, re.MULTILINE | re.DOTALL))
    expected = {
        "Theory",
        "Axioms",
        "Constants/Inductives relying on type-in-type",
        "Constants/Inductives relying on unsafe (co)fixpoints",
        "Inductives whose positivity is assumed",
    }
    if set(sections) != expected:
        raise _Stop("crashed", f"the independent checker's summary has changed: {sorted(sections)}")
    entries = {title: [line for line in text.split("\n") if line.strip()] for title, text in sections.items()}
    own = tuple(f"{file}." for file in files)
    stated = [name.strip() for name in entries.pop("Axioms")]
    surplus = [name for name in stated if name.startswith(own)]
    if [line.strip() for line in entries.pop("Theory")] != ["Set is predicative"]:
        surplus.append("impredicative Set")
    return surplus + [line.strip() for lines in entries.values() for line in lines if line.strip() != "<none>"]


def _validate(source: str, theorems: Mapping[str, str], preamble: str, seconds: float, memory: int) -> None:
    for name, text in (("source", source), ("preamble", preamble), *theorems.items()):
        if not isinstance(text, str):
            raise TypeError(f"{name}: expected a text, got {type(text).__name__}")
    if not theorems:
        raise ValueError("theorems: must not be empty; a check that requests nothing can never fail")
    for name, statement in theorems.items():
        if not _IDENTIFIER.fullmatch(name):
            raise ValueError(f"theorems: {name!r} is not a name of Rocq, such as `bound` or `Section.bound`")
        if not statement.strip():
            raise ValueError(f"theorems: the statement of {name} must not be empty")
    positive("seconds", seconds)
    integer("memory", memory, low=2**20)
