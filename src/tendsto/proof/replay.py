"""Run finished proofs again, tactic by tactic, to see the states between them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tendsto.assistants import Rocq, RocqSession
from tendsto.assistants.protocol import Failure, ProofSession, State
from tendsto.assistants.sentences import sentences
from tendsto.proof.corpus import Corpus, Tactic, Theorem
from tendsto.proof.project import Project
from tendsto.proof.running import FileRun, digests, run_files
from tendsto.validation import positive

TACTIC_SECONDS = 30.0
"""Wall time for one tactic of a proof that is run again."""


class Step(NamedTuple):
    """A tactic of a proof between the states before and after it; bullets and braces are steps too."""

    before: State
    tactic: str
    after: State


@dataclass(frozen=True)
class Replay:
    """A proof that was run again.

    **Arguments**

    - `steps`: its tactics with their states, as far as they went.
    - `failure`: why it went no further; None if the proof was finished.
    """

    steps: tuple[Step, ...]
    failure: Failure | None = None


def replay(
    session: ProofSession, before: str, statement: str, proof: str, *, seconds: float = TACTIC_SECONDS
) -> Replay:
    """Run a proof again in a session.

    A command within the proof (`Local Notation …`) ends the replay, for a session runs tactics only.

    **Arguments**

    - `before`, `statement`: the file up to the theorem, and the sentence that states it.
    - `proof`: its tactics; `Proof.` before and `Qed.` after them may be there.
    - `seconds`: wall time for each tactic.

    **Raises** `ValueError` for texts that do not consist of whole sentences, or a time that is not positive.
    """
    positive("seconds", seconds)
    tactics = [it.text for it in sentences(proof)]
    if tactics and tactics[0].startswith("Proof"):
        del tactics[0]
    if tactics and tactics[-1] in ("Qed.", "Defined.", "Save."):
        del tactics[-1]
    state = session.start(before, statement)
    if isinstance(state, Failure):
        return Replay((), state)
    steps: list[Step] = []
    for tactic in tactics:
        after = session.run(state, tactic, seconds=seconds)
        if isinstance(after, Failure):
            return Replay(tuple(steps), after)
        steps.append(Step(state, tactic, after))
        state = after
    return Replay(tuple(steps), None if state.finished else Failure("error", "the proof is not finished"))


def replay_file(
    session: ProofSession, corpus: Corpus, path: str, source: str | os.PathLike[str], *, seconds: float = TACTIC_SECONDS
) -> Iterator[tuple[int, Replay]]:
    """Run the proofs of one file of a corpus again, in its order: the theorem's number, and what came of it.

    **Arguments**

    - `path`: the file's name in the corpus; `source`: where it lies on disk.

    **Raises** `OSError` if the file cannot be read, `ValueError` if it is not the one that the corpus was built from.
    """
    own = {number: theorem for number, theorem in enumerate(corpus.theorems) if theorem.path == path}
    yield from zip(own, _replays(session, own.values(), source, seconds), strict=True)


def _replays(
    session: ProofSession, theorems: Iterable[Theorem], source: str | os.PathLike[str], seconds: float
) -> Iterator[Replay]:
    data = Path(source).read_bytes()
    for theorem in theorems:
        stated = theorem.statement.encode()
        if data[theorem.start : theorem.start + len(stated)] != stated:
            raise ValueError(f"source: {source} is not the file that holds {theorem.full_name} in the corpus")
        before = data[: theorem.start].decode()
        yield replay(session, before, theorem.statement, theorem.proof, seconds=seconds)


def with_states(theorem: Theorem, replayed: Replay) -> Theorem:
    """The theorem with the states that its replay met before and after each of its tactics."""
    met = iter(replayed.steps)
    tactics: list[Tactic] = []
    for tactic in theorem.tactics:
        step = next((it for it in met if it.tactic == tactic.text), None)
        if step is None:
            tactics += theorem.tactics[len(tactics) :]
            break
        tactics.append(tactic._replace(state_before=step.before.text, state_after=step.after.text))
    return replace(theorem, tactics=tuple(tactics))


class Located(NamedTuple):
    """Where a file of a corpus lies, and what Rocq is told about it."""

    source: Path
    project: Project


class _Rerun(NamedTuple):
    """What came of a proof that was run again: the states around each tactic, and why it went no further if so."""

    states: Sequence[tuple[str, str]]
    failure: str


def replay_corpus(
    corpus: Corpus,
    files: Mapping[str, Located],
    *,
    seconds: float = 600.0,
    memory: int = 4 * 2**30,
    store: str | os.PathLike[str] | None = None,
    workers: int = 1,
    on_file: Callable[[Path], None] | None = None,
    on_failure: Callable[[Theorem, str], None] | None = None,
) -> Corpus:
    """The corpus with the goals around every tactic: all its proofs are run again, file by file.

    **Arguments**

    - `files`: for the path of every file where it lies; what it imports has been compiled.
    - `seconds`, `memory`: wall time for all files, address space of each process in bytes.
    - `store`, `workers`, `on_file`: as in `run_files`; a file is run anew if its text has changed, that of one of the
      corpus which it imports, or Rocq.
    - `on_failure`: called with a theorem whose proof does not run again to its end, and why. Its tactics have goals as
      far as it went.

    **Raises** `OSError` for a file that cannot be read, `ValueError` for one that is missing or not the corpus's, or of
    which no proof runs (what it imports has not been compiled); `TimeoutError`; `RuntimeError` for a worker that dies;
    `NotInstalled`.
    """
    positive("seconds", seconds)
    if missing := {it.path for it in corpus.files} - files.keys():
        raise ValueError(f"files: must say where {min(missing)} lies")
    deadline = time.monotonic() + seconds
    texts = {path: located.source.read_bytes() for path, located in files.items()}
    keys = digests(texts, {it.path: it.imports for it in corpus.files}, besides=Rocq().version())
    own: dict[str, list[int]] = {}
    for number, theorem in enumerate(corpus.theorems):
        own.setdefault(theorem.path, []).append(number)
    numbers = {keys[path]: of_file for path, of_file in own.items()}
    runs = [
        FileRun(
            files[path].source,
            keys[path],
            partial(_rerun, files[path], [corpus.theorems[it] for it in of_file], deadline, memory),
        )
        for path, of_file in own.items()
    ]
    theorems = list(corpus.theorems)
    for run, found in run_files(runs, store=store, workers=workers, on_file=on_file):
        for number, (states, failure) in zip(numbers[run.key], found, strict=True):
            theorem = theorems[number]
            if failure and on_failure is not None:
                on_failure(theorem, failure)
            tactics = [
                tactic._replace(state_before=before, state_after=after)
                for tactic, (before, after) in zip(theorem.tactics, states, strict=True)
            ]
            theorems[number] = replace(theorem, tactics=tuple(tactics))
    return replace(corpus, theorems=tuple(theorems))


def _rerun(located: Located, theorems: Sequence[Theorem], deadline: float, memory: int) -> list[_Rerun]:
    source, project = located
    found, failures = [], []
    with RocqSession(project.options, directories=project.directories, memory=memory) as session:
        replays = _replays(session, theorems, source, TACTIC_SECONDS)
        for theorem in theorems:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{source}: Rocq ran out of time")
            replayed = next(replays)
            if replayed.failure and not replayed.steps:
                failures.append(replayed.failure.message)
            tactics = with_states(theorem, replayed).tactics
            states = [(it.state_before, it.state_after) for it in tactics]
            found.append(_Rerun(states, replayed.failure.message if replayed.failure else ""))
    if len(failures) == len(theorems):
        raise ValueError(f"{source}: none of its proofs runs again: {failures[0]}")
    return found
