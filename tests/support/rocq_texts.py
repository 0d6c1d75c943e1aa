"""Rocq texts and a small portfolio for the tests of sketches."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import tendsto
from tendsto.assistants import Opening, State
from tendsto.proof.rocq_file import WrittenProof, written_proofs
from tendsto.proof.search import ProofResult

STRUCTURED = Path(tendsto.__file__).parent / "papers" / "sketches" / "structured_proofs.v"
BEFORE = "From Coq Require Import Arith Lia ZArith."
SQUARES = Opening((BEFORE,), "Lemma t (n m : nat) (H : n <= m) : n * n <= m * m.")


def structured() -> dict[str, WrittenProof]:
    return {it.name: it for it in written_proofs(STRUCTURED.read_text())}


def compile_errors(directory: Path, proofs: Iterable[tuple[Opening, str, str]]) -> str:
    """What coqc says about a file of theorems, each with its proof and its end."""
    imports: list[str] = []
    parts = []
    for n, (opening, proof, end) in enumerate(proofs):
        imports += [it for it in opening.before if it.startswith(("From", "Import", "Open")) and it not in imports]
        parts.append(f"Module M{n}.\n{opening.statement}\nProof.\n{proof}\n{end}\nEnd M{n}.")
    (directory / "whole.v").write_text("\n".join([*imports, *parts]))
    run = subprocess.run(["coqc", "-q", "-w", "none", "whole.v"], cwd=directory, capture_output=True, text=True)
    return run.stderr if run.returncode else ""


class Tries:
    """A solver that tries each of a few tactics once, and remembers what it was asked."""

    def __init__(self, *tactics: str) -> None:
        self.tactics = tactics or ("assumption.", "lia.", "nia.")
        self.asked: list[State] = []

    def __call__(self, session, state):
        self.asked.append(state)
        for tactic in self.tactics:
            found = session.run(state, tactic, seconds=5)
            if isinstance(found, State) and found.finished:
                return ProofResult("proved", found.path)
        return ProofResult("failed", reason="nothing works")

    solve = __call__
