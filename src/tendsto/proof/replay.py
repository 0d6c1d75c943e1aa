"""Run finished proofs again, tactic by tactic, to see the states between them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tendsto.assistants.protocol import Failure, ProofSession, State
from tendsto.assistants.sentences import sentences
from tendsto.proof.corpus import Corpus, Tactic, Theorem
from tendsto.validation import positive


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


def replay(session: ProofSession, before: str, statement: str, proof: str, *, seconds: float = 30.0) -> Replay:
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
    session: ProofSession, corpus: Corpus, path: str, source: str | os.PathLike[str], *, seconds: float = 30.0
) -> Iterator[tuple[int, Replay]]:
    """Run the proofs of one file of a corpus again, in its order: the theorem's number, and what came of it.

    **Arguments**

    - `path`: the file's name in the corpus; `source`: where it lies on disk.

    **Raises** `OSError` if the file cannot be read, `ValueError` if it is not the one that the corpus was built from.
    """
    data = Path(source).read_bytes()
    for number, theorem in enumerate(corpus.theorems):
        if theorem.path == path:
            stated = theorem.statement.encode()
            if data[theorem.start : theorem.start + len(stated)] != stated:
                raise ValueError(f"source: {source} is not the file that holds {theorem.full_name} in the corpus")
            before = data[: theorem.start].decode()
            yield number, replay(session, before, theorem.statement, theorem.proof, seconds=seconds)


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
