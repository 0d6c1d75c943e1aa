"""Check Rocq (Coq) files from strangers: compiled, compared with trusted statements, and checked a second time."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from tendsto.assistants.sandbox import Run, Sandbox
from tendsto.assistants.sentences import sentences, without_comments
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
_NAME = r"[^\W\d][\w']*"
_STATEMENT = re.compile(
    r"(?:#\[[^\]]*\]\s*)?(?:(?:Local|Global|Polymorphic|Monomorphic)\s+)?"
    r"(?:Theorem|Lemma|Fact|Remark|Corollary|Proposition|Property|Example)\s+" + rf"(?P<name>{_NAME})"
)
_OPENS = re.compile(
    rf"(?P<kind>Section|Module\s+Type|Module)(?:\s+Import|\s+Export)?\s+(?P<name>{_NAME})(?!.*:=)", re.DOTALL
)
_ENDS = re.compile(rf"End\s+(?P<name>{_NAME})\s*\.")
# A tactic, a bullet or a brace, perhaps with the goals it is for. All commands of Rocq's begin with a capital or "#".
_TACTIC = re.compile(rf"\s*(?:(?:all|par|!|[\d\s,-]+|\[\s*{_NAME}\s*\])\s*:)?\s*[^\sA-Z\d#]")
_SOURCE = "submission"
_TRUSTED = "trusted"


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
        validate(source, theorems, preamble, seconds, memory, name=_IDENTIFIER, language="Rocq")
        tools = _tools()
        sandbox = Sandbox(memory=memory, programs=tools.directories)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="tendsto-rocq-") as directory:
            session = _Session(tools, sandbox, Path(directory).resolve(), started + seconds)
            outcome, messages, found = session.examine(source, theorems, preamble, self.axioms)
        return Certificate(
            outcome, found, messages, time.perf_counter() - started, "Rocq", tools.version, sandbox.isolation
        )

    def check_proof(
        self,
        before: str,
        statement: str,
        proof: str,
        *,
        options: Sequence[str] = (),
        directories: Iterable[str | os.PathLike[str]] = (),
        recheck: bool = True,
        seconds: float = 120.0,
        memory: int = 4 * 2**30,
    ) -> Certificate:
        """Decide whether `proof`, of which nothing is trusted, proves a theorem where it stands in a trusted file.

        The theorem counts as proved only if all of this holds:

        1. `proof` consists of tactics, bullets and braces, one sentence each; no sentence of it is a command;
        2. the file with it compiles in a fresh process, and in the file the kernel accepts the theorem as a proof of
           the statement that was read *before* the proof was, under a name that the proof cannot know;
        3. `Print Assumptions` lists nothing but `axioms` and what `before` itself leaves unproved (its axioms and
           admitted theorems; the certificate names them), and no check that was switched off;
        4. with `recheck`, `coqchk` checks the compiled file again, and finds no axiom in it that is not also in the
           file without the proof.

        A theorem in a functor or a module type is rejected: there its axioms cannot be listed.

        **Arguments**

        - `before`: the file up to the theorem.
        - `statement`: the sentence that states it, such as `Lemma t (n : nat) : n + 0 = n.`
        - `proof`: the sentences between `Proof.` and `Qed.`
        - `options`: what the file needs on Rocq's command line (`-Q`, a directory, a name, …).
        - `directories`: the directories that they name; readable in the sandbox.
        - `recheck`: ask `coqchk` as well.
        - `seconds`: wall time for all of it; `memory`: address space of each process, in bytes.

        **Raises** `NotInstalled` without Rocq; `TypeError` or `ValueError` for malformed arguments, also for a
        `statement` that is not one sentence beginning with `Theorem`, `Lemma` or a synonym, and a name.
        """
        for name, text in (("before", before), ("statement", statement), ("proof", proof)):
            if not isinstance(text, str):
                raise TypeError(f"{name}: expected a text, got {type(text).__name__}")
        positive("seconds", seconds)
        integer("memory", memory, low=2**20)
        name = theorem_name(statement)
        frame = open_blocks(before)
        tools = _tools()
        places = [str(Path(directory).resolve()) for directory in directories]
        sandbox = Sandbox(memory=memory, programs=(*tools.directories, *places))
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="tendsto-rocq-") as directory:
            session = _Session(tools, sandbox, Path(directory).resolve(), started + seconds, tuple(options))
            task = _ProofTask(name, before, statement, proof, frame, f"tendsto_{secrets.token_hex(8)}")
            outcome, messages, found = session.examine_proof(task, self.axioms, recheck)
        return Certificate(
            outcome, {name: found}, messages, time.perf_counter() - started, "Rocq", tools.version, sandbox.isolation
        )

    def version(self) -> str:
        """The version that Rocq says it is.

        **Raises** `NotInstalled` without Rocq.
        """
        return _tools().version


def theorem_name(statement: str) -> str:
    """The name of the theorem that a sentence states.

    **Raises** `ValueError` if it is not one sentence that states a theorem with a name.
    """
    found = _STATEMENT.match(statement.strip())
    if found is None or len(sentences(statement)) != 1:
        shown = textwrap.shorten(statement, 80, placeholder=" …")
        raise ValueError(f"statement: expected one sentence such as `Theorem t : True.`, got {shown!r}")
    return found["name"]


def open_blocks(before: str) -> tuple[tuple[str, str], ...]:
    """The blocks that a text leaves open, outermost first, with their names: `Section`, `Module` or `Functor`.

    A functor is a module with parameters, or a module type: what stands in it has no content of its own yet.

    **Raises** `ValueError` if the text does not consist of whole sentences, or ends a block that is not open.
    """
    found: list[tuple[str, str]] = []
    for sentence in sentences(before):
        text = without_comments(sentence.text)
        if opened := _OPENS.match(text):
            kind = "Module" if opened["kind"].startswith("Module") else "Section"
            abstract = "Type" in opened["kind"] or (kind == "Module" and "(" in text)
            found.append(("Functor" if abstract else kind, opened["name"]))
        elif ended := _ENDS.match(text):
            if not found or found[-1][1] != ended["name"]:
                raise ValueError(f"before: `{text}` ends what is not open")
            found.pop()
    return tuple(found)


def refusal(tactic: str) -> str:
    """Why a text is not run as a tactic, for it is not one, or reaches outside; empty if it is."""
    try:
        found = sentences(tactic)
    except ValueError as error:
        return str(error)
    if len(found) != 1:
        return f"expected one sentence, got {len(found)}"
    if command := forbidden_command(tactic):
        return command
    if not _TACTIC.match(without_comments(found[0].text)):
        return f"a command, not a tactic: {textwrap.shorten(found[0].text, 80, placeholder=' …')}"
    return ""


@dataclass(frozen=True)
class _ProofTask:
    name: str
    before: str
    statement: str
    proof: str
    blocks: tuple[tuple[str, str], ...]
    secret: str

    @property
    def target(self) -> str:
        """Where the proof of what was stated lies in the compiled file."""
        modules = [name for kind, name in self.blocks if kind == "Module"]
        return ".".join([_SOURCE, *modules, f"{self.secret}_proved"])

    def file(self, proof: str | None) -> str:
        """The trusted text around a proof; without one, the text alone."""
        stated = sentences(self.statement)[0].text
        found = _STATEMENT.match(stated)
        assert found is not None  # theorem_name has seen it
        twin = f"Lemma {self.secret}_expected{stated[found.end() :]}"
        parts = [
            self.before,
            f"{twin}\nAdmitted.",
            f"Definition {self.secret}_statement := ltac:(let T := type of @{self.secret}_expected in exact T).",
        ]
        if proof is not None:
            parts += [
                f"{stated}\nProof.\n{proof}\nQed.",
                f"Definition {self.secret}_proved : {self.secret}_statement := @{self.name}.",
            ]
        parts += [f"End {name}." for _, name in reversed(self.blocks)]
        return "\n".join(parts) + "\n"


@dataclass(frozen=True)
class _Tools:
    compiler: str
    checker: str
    version: str

    @property
    def directories(self) -> tuple[str, ...]:
        return installation(self.compiler, self.checker)


def tool(name: str) -> str | None:
    """Where one of Rocq's programs lies, if it is installed."""
    return shutil.which(name)


def installation(*tools: str) -> tuple[str, ...]:
    """The directories outside the system's own that Rocq's programs read (an opam switch)."""
    return tuple(sorted({str(Path(one).resolve().parent.parent) for one in tools} - {"/", "/usr"}))


def forbidden_command(text: str) -> str:
    """What is said against a text that has a word of a command which reads, writes or runs something; else nothing."""
    return forbidden(text, _FORBIDDEN, _COMMANDS)


def _tools() -> _Tools:
    compiler, checker = tool("coqc"), tool("coqchk")
    if compiler is None or checker is None:
        raise NotInstalled("needs Rocq: apt install coq")
    answer = subprocess.run([compiler, "--print-version"], capture_output=True, text=True, check=True)
    return _Tools(compiler, checker, answer.stdout.split()[0])


@dataclass(frozen=True)
class _Session:
    tools: _Tools
    sandbox: Sandbox
    directory: Path
    deadline: float
    options: tuple[str, ...] = ()
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
            stop_unless_exited_well(compiled, "the source", _error(compiled))
            found = self._certify("certificate", found, preamble, allowed)
            self._recheck([_SOURCE, *self.certificates])
        except Stop as stop:
            failed = {theorem.name: replace(theorem, reason=theorem.reason or str(stop)) for theorem in found}
            return stop.outcome, messages or str(stop), failed
        accepted = all(theorem.accepted for theorem in found)
        return "accepted" if accepted else "rejected", messages, {theorem.name: theorem for theorem in found}

    def examine_proof(self, task: _ProofTask, allowed: tuple[str, ...], recheck: bool) -> tuple[Outcome, str, Theorem]:
        theorem = Theorem(task.name, task.statement)
        messages = ""
        try:
            _refuse_commands_in(task.proof)
            if "Functor" in dict(task.blocks):
                raise Stop("rejected", "in a functor or a module type the axioms of a proof cannot be listed")
            compiled = self._compile(_SOURCE, task.file(task.proof))
            messages = (compiled.output + compiled.errors).strip()[:MESSAGES]
            stop_unless_exited_well(compiled, "the file with the proof", _error(compiled))
            listing = f"Require {_SOURCE}.\nSet Printing Width 1000000.\nPrint Assumptions {task.target}.\n"
            listed = self._compile("listing", listing)
            stop_unless_exited_well(listed, "the list of axioms", _error(listed))
            (axioms,) = _assumptions(listed.output)
            twin = f".{task.secret}_expected"  # it stands where the theorem does, in whatever module
            own = [axiom for axiom in axioms if axiom.startswith(f"{_SOURCE}.") and not axiom.endswith(twin)]
            theorem = audited(theorem, axioms, (*allowed, *own))
            theorem = replace(theorem, axioms=tuple(axiom.removeprefix(f"{_SOURCE}.") for axiom in axioms))
            if theorem.accepted and recheck:
                self._compile(_TRUSTED, task.file(None))
                before = {axiom.partition(".")[2] for axiom in self._second_opinion([_TRUSTED])}
                stated = [axiom for axiom in self._second_opinion([_SOURCE]) if axiom.partition(".")[2] not in before]
                if stated:
                    raise Stop("rejected", f"the proof states or switches off: {', '.join(stated)}")
        except Stop as stop:
            return stop.outcome, messages or str(stop), replace(theorem, reason=theorem.reason or str(stop))
        return "accepted" if theorem.accepted else "rejected", messages, theorem

    def _certify(self, file: str, theorems: list[Theorem], preamble: str, allowed: tuple[str, ...]) -> list[Theorem]:
        """Compare the theorems with their statements: all in one file, and each in its own if that does not compile."""
        run = self._compile(file, _certificate(theorems, preamble))
        if run.status == "exited" and run.code == 1:
            if len(theorems) > 1:
                alone = [[theorem] for theorem in theorems]
                return [self._certify(f"{file}_{n}", one, preamble, allowed)[0] for n, one in enumerate(alone)]
            return [replace(theorems[0], reason=f"the source does not prove this statement: {_error(run)}")]
        stop_unless_exited_well(run, "the comparison with the statements", _error(run))
        self.certificates.append(file)
        listed = _assumptions(run.output)
        if len(listed) != len(theorems):
            raise Stop("crashed", f"the lists of axioms cannot be read: {run.output[:200]!r}")
        return [audited(theorem, axioms, allowed) for theorem, axioms in zip(theorems, listed, strict=True)]

    def _recheck(self, files: list[str]) -> None:
        if surplus := self._second_opinion(files):
            raise Stop("rejected", f"the source states or switches off: {', '.join(surplus)}")

    def _second_opinion(self, files: list[str]) -> list[str]:
        """What the independent checker holds against the files."""
        command = [self.tools.checker, *self.options, "-o", *(word for file in files for word in ("-norec", file))]
        run = self._run(command)
        stop_unless_exited_well(run, "the independent checker", _error(run))
        report = run.output + run.errors
        missing = [file for file in files if not re.search(rf"^Checking library: {file}$", report, re.MULTILINE)]
        if missing:
            raise Stop("rejected", f"the independent checker left out {', '.join(missing)}")
        return _surplus_of_summary(report, files)

    def _compile(self, file: str, text: str) -> Run:
        (self.directory / f"{file}.v").write_text(text, encoding="utf-8")
        return self._run([self.tools.compiler, *self.options, "-q", "-noglob", "-w", "none", f"{file}.v"])

    def _run(self, command: list[str]) -> Run:
        left = self.deadline - time.perf_counter()
        if left <= 0:
            raise Stop("timed out", "the check ran out of time")
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


def _refuse_commands(source: str) -> None:
    if reason := forbidden_command(source):
        raise Stop("refused", reason)


def _refuse_commands_in(proof: str) -> None:
    try:
        found = sentences(proof)
    except ValueError as error:
        raise Stop("refused", str(error)) from None
    for sentence in found:
        if reason := refusal(sentence.text):
            raise Stop("refused", reason)
    _refuse_commands(proof)


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
            raise Stop("crashed", f"the lists of axioms cannot be read: {output[:200]!r}")
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
        raise Stop("crashed", f"the independent checker's summary has changed: {sorted(sections)}")
    entries = {title: [line for line in text.split("\n") if line.strip()] for title, text in sections.items()}
    own = tuple(f"{file}." for file in files)
    stated = [name.strip() for name in entries.pop("Axioms")]
    surplus = [name for name in stated if name.startswith(own)]
    if [line.strip() for line in entries.pop("Theory")] != ["Set is predicative"]:
        surplus.append("impredicative Set")
    return surplus + [line.strip() for lines in entries.values() for line in lines if line.strip() != "<none>"]
