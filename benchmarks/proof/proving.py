"""How many theorems held back from mathcomp's ssreflect and the standard library each prover proves.

Each theorem is attempted where it stands: what is loaded is its file up to it. Neither it nor what was proved from it
is there, and each attempt asks Rocq that it is not: `lia` and `hammer` load half of the standard library, so only files
that they do not load are drawn from. What counts as proved was accepted by `Rocq().check_proof`, in a fresh process. Of
other proofs only those of files that the theorem's file imports, and those before it in its own, are known to a prover.

The provers: `portfolio` (closing tactics, no hammer), `hammer` alone (CoqHammer with E), best-first search with
templates, `hauto` and closing tactics on `random` accessible premises and on `retrieved` ones, the same with tactics of
the `neighbours` (learnt from the proofs before the theorem in its file), and `hybrid` (HybridProver: the nearest
theorems' proofs, their sketches, holes filled by the portfolio and by the search).

    python -m benchmarks.proof.proving --record benchmarks/proof/attempts.jsonl

writes what it finds attempt by attempt, and goes on from there when run again. The record holds the attempts of earlier
runs, with the proofs that were found; they are not repeated, and the new ones are added.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tendsto.assistants import Failure, Opening, Rocq, RocqSession, State, sentences
from tendsto.assistants.rocq import theorem_name
from tendsto.files import write_atomically
from tendsto.proof import BM25Retriever, CombinedRetriever, Corpus, NearestNeighbourRetriever, RecencyRetriever
from tendsto.proof.automation import HAMMER_WITH_E, Closer, Portfolio, PremiseAutomation
from tendsto.proof.corpus import Premise
from tendsto.proof.hybrid import HoleBudget, HybridProver
from tendsto.proof.nearest_proofs import NearestProofs
from tendsto.proof.nearest_tactics import NearestNeighbourTactics
from tendsto.proof.policies import MixedPolicy, PremiseTemplates, TacticPolicy
from tendsto.proof.search import AccessiblePremises, BestFirstProver
from tendsto.workers import Failure as Lost
from tendsto.workers import run_tasks

PROVERS = ("portfolio", "hammer", "random", "retrieved", "neighbours", "hybrid")
DRAWN_FROM = tuple(
    f"{folder}/{name}.v"
    for folder, names in {
        "Arith": "Cantor Euclid",
        "ZArith": "Zgcd_alt Zpow_facts Zquot Zeuclid",
        "Lists": "ListDec ListSet SetoidList SetoidPermutation Streams",
        "Sorting": "Permutation CPermutation Mergesort Sorted PermutSetoid Heap",
    }.items()
    for name in names.split()
)
"""Files of the standard library whose theorems are attempted."""

BESIDE = ("Arith/PeanoNat.v", "Lists/List.v", "ZArith/BinInt.v", "ZArith/Zorder.v", "ZArith/Zdiv.v", "Bool/Bool.v")
"""Files of the standard library that only give premises."""

IMPORTS = f"\nFrom Coq Require Import Lia.\nFrom Hammer Require Import Tactics.\n{HAMMER_WITH_E}\n"
HAMMER = Closer("hammer.", 60.0)
QUICK = ("reflexivity.", "assumption.", "easy.", "lia.", "ring.", "auto with *.")
LEARNED = 60


@dataclass(frozen=True)
class Task:
    """One file of a corpus, and the theorems of it that are attempted."""

    out: Path
    corpus: Path
    path: str
    numbers: tuple[int, ...]
    seconds: float
    provers: tuple[str, ...]


@functools.cache
def libraries() -> Path:
    return Path(subprocess.run(["coqc", "-where"], capture_output=True, text=True, check=True).stdout.strip())


def on_disk(path: str) -> Path:
    """Where a file of the corpus lies."""
    if path.startswith("Coq/"):
        return libraries() / "theories" / path.removeprefix("Coq/")
    return libraries() / "user-contrib" / path


@functools.cache
def load(folder: Path) -> Corpus:
    return Corpus.from_leandojo(folder)


def held_back(corpus: Corpus, number: int, seed: int = 0) -> list[int]:
    """The theorems that are attempted: drawn once, by a seed, of those with a proof of tactics that ends in `Qed`."""
    candidates = []
    for each, theorem in enumerate(corpus.theorems):
        try:
            theorem_name(theorem.statement)
        except ValueError:
            continue
        drawn = theorem.path.startswith("mathcomp") or theorem.path.removeprefix("Coq/") in DRAWN_FROM
        if drawn and theorem.tactics and theorem.proof.endswith("Qed."):
            candidates.append(each)
    order = np.random.default_rng(seed).permutation(len(candidates))
    return [candidates[place] for place in order[:number]]


class Attempts:
    """The theorems of one file, in their order, with one session."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.corpus = load(task.corpus)
        self.session = RocqSession()
        self.text = on_disk(task.path).read_bytes()
        imported = set(self.corpus.imported(task.path))
        self.own = [number for number, theorem in enumerate(self.corpus.theorems) if theorem.path == task.path]
        self.known = [number for number, theorem in enumerate(self.corpus.theorems) if theorem.path in imported]
        self.learned = NearestNeighbourTactics()
        self.next = 0

    def before(self, number: int) -> str:
        return self.text[: self.corpus.theorems[number].start].decode()

    def learn(self, number: int) -> None:
        """Replay the proofs between the last theorem and this one."""
        between = [
            it for it in self.own if self.next <= self.corpus.theorems[it].start < self.corpus.theorems[number].start
        ]
        for each in between[-LEARNED:]:
            theorem = self.corpus.theorems[each]
            opening = Opening(tuple(it.text for it in sentences(self.before(each))), theorem.statement)
            self.learned.learn_proof(self.session, opening, theorem.proof, seconds=10.0)
        self.next = self.corpus.theorems[number].start

    def retriever(self, number: int) -> CombinedRetriever:
        earlier = [it for it in self.own if self.corpus.theorems[it].end <= self.corpus.theorems[number].start]
        parts = [BM25Retriever(), RecencyRetriever(), NearestNeighbourRetriever()]
        proofs = [it for it in (*self.known, *earlier) if self.corpus.theorems[it].premises]
        return CombinedRetriever(parts if proofs else parts[:2]).fit(self.corpus, proofs)

    def search(self, policies: Sequence[TacticPolicy], start: State, selector: Any) -> tuple[str, float]:
        prover = BestFirstProver(
            self.session,
            MixedPolicy(policies),
            selector,
            num_premises=16,
            seconds=self.task.seconds,
            tactic_seconds=min(2.0, self.task.seconds),
        )
        result = prover.prove(start)
        return result.script, result.stats.seconds

    def attempt(self, prover: str, number: int) -> dict[str, Any]:
        theorem = self.corpus.theorems[number]
        before = f"{self.before(number)}{IMPORTS}Fail Check {theorem.full_name}.\n"
        start = self.session.start(before, theorem.statement)
        if isinstance(start, Failure):
            return {"proved": False, "reason": start.message}
        if prover == "hammer":
            start = self.warmed(start)
            if isinstance(start, Failure):
                return {"proved": False, "reason": start.message}
        began = time.monotonic()
        proof = getattr(self, prover)(number, start)
        spent = time.monotonic() - began
        if not proof:
            return {"proved": False, "seconds": spent}
        certificate = Rocq().check_proof(before, theorem.statement, proof, recheck=False, seconds=600.0)
        return {"proved": certificate.accepted, "seconds": spent, "proof": proof, "checked": certificate.outcome}

    def portfolio(self, number: int, start: State, share: float = 1.0) -> str:
        closers = [it for it in Portfolio().closers if it.tactic != "hammer."]
        limit = share * self.task.seconds / len(closers)
        capped = tuple(it._replace(seconds=min(it.seconds, limit)) for it in closers)
        return Portfolio(capped).solve(self.session, start).script

    def warmed(self, start: State) -> State | Failure:
        """The same state after a first call of `hammer`, which reads all that is loaded; it is not counted."""
        before = "\n".join(start.opening.before)
        trivial = self.session.start(before, "Goal True /\\ True.")
        if isinstance(trivial, State):
            self.session.run(trivial, "hammer.", seconds=120.0)
        return self.session.start(before, start.opening.statement)

    def hammer(self, number: int, start: State) -> str:
        return Portfolio((HAMMER._replace(seconds=self.task.seconds),)).solve(self.session, start).script

    def base(self, start: State) -> list[TacticPolicy]:
        flavour = "ssreflect" if self.task.path.startswith("mathcomp") else "vanilla"
        quick = tuple(it for it in Portfolio().loaded(self.session, start) if it.tactic in QUICK)
        return [PremiseTemplates(flavour), Portfolio(quick), PremiseAutomation()]

    def random(self, number: int, start: State) -> str:
        accessible = np.asarray(self.corpus.accessible_to(self.corpus.theorems[number]))
        return self.search(self.base(start), start, Drawn(self.corpus, accessible, number))[0]

    def select(self, number: int) -> AccessiblePremises:
        theorem = self.corpus.theorems[number]
        return AccessiblePremises(self.retriever(number), self.corpus, self.corpus.accessible_to(theorem))

    def retrieved(self, number: int, start: State) -> str:
        return self.search(self.base(start), start, self.select(number))[0]

    def neighbours(self, number: int, start: State) -> str:
        policies = self.base(start) + ([self.learned] if len(self.learned) else [])
        return self.search(policies, start, self.select(number))[0]

    def hybrid(self, number: int, start: State) -> str:
        earlier = [it for it in self.own if self.corpus.theorems[it].end <= self.corpus.theorems[number].start]
        known = [*self.known, *earlier]
        if not known:
            return ""
        closers = tuple(it for it in Portfolio().closers if it.tactic in QUICK)
        prover = HybridProver(
            lambda: nullcontext(self.session),
            NearestProofs().fit(self.corpus, known),
            MixedPolicy(self.base(start) + ([self.learned] if len(self.learned) else [])),
            Portfolio(tuple(it._replace(seconds=1.0) for it in closers)),
            n_candidates=16,
            n_tactics=32,
            hole_budget=HoleBudget(expansions=8, seconds=self.task.seconds / 4),
            max_sketches=3,
            temperature=0.0,
            retriever=self.select(number),
            tactic_seconds=2.0,
        )
        began = time.monotonic()
        report = prover.prove(start.opening)
        return report.proof if time.monotonic() - began <= self.task.seconds else ""


@dataclass(frozen=True)
class Drawn:
    """Random accessible premises, the same for all states of a theorem."""

    corpus: Corpus
    accessible: np.ndarray
    seed: int

    def select(self, state: State, k: int) -> list[Premise]:
        chosen = np.random.default_rng(self.seed).permutation(self.accessible)[:k]
        return [self.corpus.premises[number] for number in chosen]


def place(task: Task, prover: str, number: int, name: str) -> Path:
    return task.out / prover / f"{number:05}-{name.rpartition('.')[2]}.json"


def attempt_file(task: Task) -> str:
    attempts = Attempts(task)
    with attempts.session:
        for number in task.numbers:
            theorem = attempts.corpus.theorems[number]
            left = [it for it in task.provers if not place(task, it, number, theorem.full_name).exists()]
            if not left:
                continue
            if {"neighbours", "hybrid"} & set(left):
                attempts.learn(number)
            for prover in left:
                found = {"theorem": theorem.full_name, "limit": task.seconds} | attempts.attempt(prover, number)
                with write_atomically(place(task, prover, number, theorem.full_name)) as stream:
                    stream.write(json.dumps(found, ensure_ascii=False).encode())
    return task.path


def unpack(record: Path, out: Path, seconds: float) -> None:
    """Put the attempts of a record where a run looks for them."""
    for line in record.read_bytes().splitlines() if record.exists() else []:
        found = json.loads(line)
        if found["limit"] != seconds:
            raise SystemExit(f"{record}: holds attempts with {found['limit']:g} s, not {seconds:g} s")
        file = out / found.pop("attempt")
        if not file.exists():
            with write_atomically(file) as stream:
                stream.write(json.dumps(found, ensure_ascii=False).encode())


def pack(record: Path, out: Path) -> None:
    """Write all attempts of a run into a record, an attempt a line."""
    with write_atomically(record) as stream:
        for file in sorted(out.glob("found-*/*/*.json")):
            found = {"attempt": file.relative_to(out).as_posix()} | json.loads(file.read_bytes())
            stream.write(json.dumps(found, ensure_ascii=False).encode() + b"\n")


def tasks(arguments: argparse.Namespace) -> Iterator[Task]:
    for library, share in (("mathcomp", 0.6), ("standard", 0.4)):
        folder = arguments.out / library
        corpus = Corpus.from_leandojo(folder)
        chosen = held_back(corpus, round(share * arguments.theorems))
        for path in sorted({corpus.theorems[number].path for number in chosen}):
            numbers = sorted(number for number in chosen if corpus.theorems[number].path == path)
            out = arguments.out / f"found-{library}"
            yield Task(out, folder, path, tuple(numbers), arguments.seconds, tuple(arguments.provers))


def table(every: Sequence[Task]) -> Table:
    """How many of the theorems attempted by all provers each one proves, in each library and in all."""
    solved: dict[str, dict[str, set[str]]] = {}
    attempted: dict[str, int] = {}
    for task in every:
        corpus = load(task.corpus)
        library = task.corpus.name
        for number in task.numbers:
            name = corpus.theorems[number].full_name
            files = {prover: place(task, prover, number, name) for prover in task.provers}
            if not all(file.exists() for file in files.values()):
                continue
            attempted[library] = attempted.get(library, 0) + 1
            for prover, file in files.items():
                solved.setdefault(prover, {}).setdefault(library, set())
                if json.loads(file.read_bytes())["proved"]:
                    solved[prover][library].add(name)
    solved["union"] = {
        library: set().union(*(by.get(library, set()) for by in solved.values())) for library in attempted
    }
    found = Table(title=f"proved, of {sum(attempted.values())} theorems with {every[0].seconds:g} s each")
    found.add_column("prover")
    for library, count in attempted.items():
        found.add_column(f"{library} ({count})", justify="right")
    found.add_column("all", justify="right")
    for prover, by in solved.items():
        counts = [len(by.get(library, set())) for library in attempted]
        found.add_row(prover, *map(str, counts), str(sum(counts)))
    return found


def compared(every: Sequence[Task], one: str, other: str) -> str:
    """How many theorems one prover proves and another does not, and the other way round."""
    proved: dict[str, set[tuple[Path, int]]] = {one: set(), other: set()}
    for task in every:
        for prover in proved:
            files = {place(task, prover, it, load(task.corpus).theorems[it].full_name): it for it in task.numbers}
            found = (it for it in files if it.exists() and json.loads(it.read_bytes())["proved"])
            proved[prover] |= {(task.corpus, files[it]) for it in found}
    more, fewer = len(proved[one] - proved[other]), len(proved[other] - proved[one])
    return f"{one} proves {more} that {other} does not, and misses {fewer}"


def markdown(every: Sequence[Task]) -> str:
    """Which provers prove each theorem that all of them have attempted, and the names of the others."""
    rows, others = [], []
    for task in every:
        for number in task.numbers:
            name = load(task.corpus).theorems[number].full_name
            files = [place(task, prover, number, name) for prover in task.provers]
            if all(file.exists() for file in files):
                marks = ["✓" if json.loads(file.read_bytes())["proved"] else "" for file in files]
                rows.append(f"| `{name}` | {' | '.join(marks)} |")
            else:
                others.append(name)
    head = [f"| theorem | {' | '.join(every[0].provers)} |", f"| --- |{' :-: |' * len(every[0].provers)}"]
    left = ["", "Not attempted yet:", "", "```text", *others, "```"] if others else []
    return "\n".join([*head, *rows, *left])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theorems", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each theorem and prover")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "tendsto-provers")
    parser.add_argument("--record", type=Path, help="a file of attempts that are not repeated, and to which it adds")
    parser.add_argument("--provers", nargs="*", choices=PROVERS, default=list(PROVERS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="only name the theorems")
    parser.add_argument("--markdown", action="store_true", help="only show what was found of each theorem")
    parser.add_argument("--quick", action="store_true", help="20 theorems with 5 s each")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.theorems, arguments.seconds = 20, 5.0
    build_all(arguments.out)
    if arguments.record:
        unpack(arguments.record, arguments.out, arguments.seconds)
    every = list(tasks(arguments))
    if arguments.list:
        for task in every:
            for number in task.numbers:
                print(load(task.corpus).theorems[number].full_name)
        return
    if arguments.markdown:
        print(markdown(every))
        return
    for task, result in run_tasks(attempt_file, every, workers=arguments.workers):
        print(f"{task.path}: {result.reason if isinstance(result, Lost) else 'done'}", flush=True)
    if arguments.record:
        pack(arguments.record, arguments.out)
    Console().print(table(every))
    for one, other in (("neighbours", "hammer"), ("retrieved", "random")):
        if {one, other} <= set(arguments.provers):
            print(compared(every, one, other))


def build_all(out: Path) -> None:
    """Both corpora, kept beside the findings."""
    if not (out / "mathcomp" / "corpus.jsonl").exists():
        Corpus.from_glob(libraries() / "user-contrib" / "mathcomp" / "ssreflect").to_leandojo(out / "mathcomp")
    if not (out / "standard" / "corpus.jsonl").exists():
        Corpus.from_sources(*(libraries() / "theories" / name for name in (*BESIDE, *DRAWN_FROM))).to_leandojo(
            out / "standard"
        )


if __name__ == "__main__":
    from benchmarks.proof import proving  # other processes import what they call from there

    proving.main()
