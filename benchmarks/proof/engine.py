"""The tactic engine: how many tactics a second one process runs, how long a hung one lasts, and what memory it takes.

    python -m benchmarks.proof.engine

The peer is `coqc` on one file that runs the same tactics in the same state, each undone: what Rocq itself needs for
them, without a conversation.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.contest import Row, options, show
from tendsto.assistants import RocqSession, State

BEFORE = "From Coq Require Import Arith Lia."
STATEMENT = "Lemma t (n m k : nat) : n + m + k = k + (m + n) /\\ n = n."
TACTICS = {
    "rewrite": "rewrite (Nat.add_comm n m).",
    "apply, in vain": "apply Nat.add_assoc.",
    "split, two goals": "split.",
    "lia": "split; [lia | reflexivity].",
}
HOLES = 8
_PIGEONS = [f"x{n}" for n in range(HOLES + 1)]
_APART = [f"{one} <> {other}" for one, other in itertools.combinations(_PIGEONS, 2)]
HUNG = {
    "a loop": "do 1000000000 (try fail).",
    "lia, pigeons in holes": "assert (forall "
    + " ".join(_PIGEONS)
    + " : nat, "
    + " -> ".join([*(f"{each} < {HOLES}" for each in _PIGEONS), *_APART])
    + " -> False) by lia.",
    "conversion": "assert (h : Nat.pow 3 16 = 1) by (vm_compute; reflexivity).",
}


def resident(process: int) -> int:
    """Bytes in memory of the youngest of a line of processes."""
    while children := Path(f"/proc/{process}/task/{process}/children").read_text().split():
        process = int(children[0])
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def alone(tactic: str, times: int) -> float:
    """Seconds that `coqc` needs to run a tactic so often, beyond what it needs for the file around it."""

    def compiled(script: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            text = f"{BEFORE}\n{STATEMENT}\nProof.\n{script}\nAbort.\n"
            (Path(folder) / "a.v").write_text(text)
            began = time.perf_counter()
            subprocess.run(["coqc", "-q", "a.v"], cwd=folder, check=True, capture_output=True)
            return time.perf_counter() - began

    undone = f"try assert_succeeds ({tactic.removesuffix('.')})."
    return compiled("\n".join([undone] * times)) - compiled("")


def main() -> None:
    arguments = options(__doc__)
    times = 300 if arguments.quick else 3000
    with RocqSession() as session:
        start = session.start(BEFORE, STATEMENT)
        assert isinstance(start, State)
        speed: list[Row] = []
        for name, tactic in TACTICS.items():
            session.run(start, tactic)
            began = time.perf_counter()
            for _ in range(times):
                session.run(start, tactic)
            ours = (time.perf_counter() - began) / times
            theirs = alone(tactic, times) / times
            speed.append({"tactic": name, "a second": round(1 / ours), "coqc alone": round(1 / theirs)})
        show("tactics a second, one process", speed, as_json=arguments.json)

        hung: list[Row] = []
        for name, tactic in HUNG.items():
            began = time.perf_counter()
            answer = session.run(start, tactic, seconds=1.0)
            spent = time.perf_counter() - began
            kind = answer.kind if not isinstance(answer, State) else "went through"
            hung.append({"tactic": name, "limit": 1.0, "seconds": round(spent, 2), "answer": kind})
        show("tactics that hang", hung, as_json=arguments.json)

        session.run(start, TACTICS["rewrite"])
        assert session._process is not None
        memory: list[Row] = []
        for done in (0, 1000, 10_000):
            for _ in range(done - (int(str(memory[-1]["tactics"])) if memory else 0)):
                session.run(start, TACTICS["rewrite"])
            memory.append({"tactics": done, "MiB": round(resident(session._process.pid) / 2**20)})
        show("memory of Rocq's process", memory, as_json=arguments.json)


if __name__ == "__main__":
    main()
