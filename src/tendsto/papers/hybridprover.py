r"""Whole proofs and single tactics together: a proof that fails becomes a sketch, whose holes are filled.

One policy writes whole proofs. Those that the assistant rejects are reduced to their structure, a hole in the place of
each justification; automation closes the holes, or a policy for tactics, searched best first. What whole proofs prove
alone is proved by construction. The paper's system works in Isabelle with fine-tuned language models; here the
assistant is Rocq, and the whole proofs are known ones with damage in their justifications, so that what is measured is
the method and not a model. The rules by which a Rocq script becomes a sketch are this library's own.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tendsto.assistants import (
    Certificate,
    Failure,
    NotInstalled,
    Opening,
    ProofSession,
    Rocq,
    RocqSession,
    State,
    sentences,
)
from tendsto.evidence import (
    Budget,
    Check,
    Estimate,
    Finding,
    NotRun,
    Paper,
    at_least,
    at_most,
    claim,
    equal_to,
)
from tendsto.proof.automation import Closer, Portfolio
from tendsto.proof.filling import HoleCache, fill_holes
from tendsto.proof.hybrid import HoleBudget, HybridProver
from tendsto.proof.policies import MixedPolicy, PremiseTemplates
from tendsto.proof.rocq_file import WrittenProof, written_proofs
from tendsto.proof.search import BestFirstProver, ProofResult
from tendsto.proof.search import Check as ProofCheck
from tendsto.proof.sketch import Sketch, sketch

CARD = Paper(
    slug="hybridprover",
    title="HybridProver: Augmenting Theorem Proving with LLM-Driven Proof Synthesis and Refinement",
    authors=("Jilin Hu", "Jianyu Zhang", "Yongwang Zhao", "Talia Ringer"),
    arxiv="2505.15740",
    date=date(2025, 5, 21),
    field="proof",
    method=("proof.HybridProver", "proof.sketch.sketch", "proof.fill_holes"),
)

TEXTS = Path(__file__).parent / "sketches"

QUICK = tuple(
    Closer(tactic, 1.0)
    for tactic in (
        *("reflexivity.", "assumption.", "easy.", "lia.", "ring.", "nia.", "auto with *.", "eauto.", "congruence."),
        *("Z.to_euclidean_division_equations; lia.", "firstorder."),
    )
)
"""Rocq's own automation, each tactic for a second at most."""

CERTIFIED = functools.partial(Rocq().check_proof, recheck=False)
"""The final check, by a fresh compiler and the list of axioms; the second checker is left out for time."""


_UNCHECKED = Certificate("crashed", {}, "not asked", 0.0, "", "", "")


def structured_proofs() -> list[WrittenProof]:
    """Forty short theorems with structured proofs, each stated after the imports alone."""
    found = written_proofs((TEXTS / "structured_proofs.v").read_text(encoding="utf-8"))
    imports = found[0].opening.before
    return [replace(it, opening=Opening(imports, it.opening.statement)) for it in found]


def lent(session: ProofSession) -> Callable[[], AbstractContextManager[ProofSession]]:
    """What hands out one session again and again, and leaves it open."""
    return lambda: nullcontext(session)


@contextmanager
def rocq() -> Iterator[RocqSession]:
    """A session with Rocq.

    **Raises** `NotRun` without it.
    """
    try:
        session = RocqSession()
    except NotInstalled as error:
        raise NotRun(str(error)) from None
    with session:
        yield session


def finishes(session: ProofSession, opening: Opening, script: str) -> State | Failure:
    """The state that a script ends in, or what broke it."""
    state = session.start("\n".join(opening.before), opening.statement)
    for sentence in sentences(script):
        if isinstance(state, Failure):
            break
        state = session.run(state, sentence.text)
    return state


def kernel_of(session: ProofSession) -> ProofCheck:
    """A quick final check: the session's kernel accepts the end of the proof; the list of axioms is not asked for."""

    def check(before: str, statement: str, proof: str) -> Certificate:
        ended = finishes(session, Opening(tuple(it.text for it in sentences(before)), statement), proof)
        accepted = isinstance(ended, State) and ended.finished
        return replace(_UNCHECKED, outcome="accepted" if accepted else "rejected")

    return check


# --- known proofs, damaged


_CLAIM = re.compile(r"assert \((\w+) : (.*)\)\.", re.DOTALL)


@dataclass(frozen=True)
class Damager:
    """A policy for whole proofs: known ones, in which sentences of justifications are wrong.

    One of three things happens to a sentence: a lemma that does not exist is applied in its place, it is left out, or
    another one of the proof stands there. At temperature $T$ the number of damaged sentences is Poisson with mean $T$,
    at least `least`; and a claim is left out, with what proves it, with probability $T/(T+8)$ each.

    **Arguments**

    - `proofs`: by statement.
    - `seed`: of the damage.
    - `least`: the smallest number of damaged sentences; the first of them always names what does not exist.
    - `structure`: damage the statements of claims instead, so that they are false.
    """

    proofs: dict[str, str]
    seed: int = 0
    least: int = 0
    structure: bool = False

    def propose(self, opening: Opening, n: int, temperature: float) -> list[str]:
        """See `WholeProofPolicy.propose`."""
        proof = self.proofs[opening.statement]
        generator = np.random.default_rng([self.seed, len(opening.statement), len(proof)])
        return [self._damaged(proof, temperature, generator) for _ in range(n)]

    def _damaged(self, proof: str, temperature: float, generator: np.random.Generator) -> str:
        found = [it.text for it in sentences(proof)]
        claims = [n for n, text in enumerate(found) if _CLAIM.fullmatch(text)]
        if self.structure:
            for n in claims:
                found[n] = _CLAIM.sub(rf"assert (\1 : (\2) /\\ {generator.integers(10**9)} = 0).", found[n])
            return " ".join(found)
        for n in reversed(claims):
            if n + 1 < len(found) and generator.random() < temperature / (temperature + 8):
                del found[n : _after_block(found, n + 1)]
        inside = _justifying(found)
        number = min(max(self.least, int(generator.poisson(temperature))), len(inside))
        chosen = generator.permutation(inside)[:number]
        for rank, n in enumerate(chosen):
            kind = 0 if rank == 0 and self.least else int(generator.integers(3))
            if kind == 0:
                found[n] = f"apply no_such_lemma_{generator.integers(3)}."
            elif kind == 1:
                found[n] = "idtac."
            else:
                found[n] = found[int(generator.choice(inside))]
        return " ".join(found)


def _after_block(found: Sequence[str], opener: int) -> int:
    """Where a pair of braces ends."""
    depth = 0
    for n in range(opener, len(found)):
        depth += (found[n] == "{") - (found[n] == "}")
        if depth == 0:
            return n + 1
    return len(found)


def _justifying(found: Sequence[str]) -> list[int]:
    """The sentences within braces that state and distinguish nothing."""
    depth, inside = 0, []
    for n, text in enumerate(found):
        depth += (text == "{") - (text == "}")
        if depth and text not in "{}" and not _CLAIM.fullmatch(text):
            inside.append(n)
    return inside


def _damageable(budget: Budget, number: int) -> list[WrittenProof]:
    """Theorems with claims, drawn by the budget's seed."""
    found = [it for it in structured_proofs() if _justifying([one.text for one in sentences(it.proof)])]
    order = np.random.default_rng(budget.seed).permutation(len(found))[:number]
    return [found[n] for n in sorted(order)]


def _known(proofs: Sequence[WrittenProof]) -> dict[str, str]:
    return {it.opening.statement: it.proof for it in proofs}


# --- gain over both parts


_TACTICS = MixedPolicy([Portfolio(QUICK), PremiseTemplates()])


def _gain(budget: Budget, *, structure: bool) -> Finding:
    proofs = _damageable(budget, budget.pick(6, 20, 31))[: 3 if structure else None]
    candidates = budget.pick(2, 8, 8)
    search = HoleBudget(budget.pick(4, 32, 32), budget.pick(0.7, 10.0, 20.0))
    rows = []
    with rocq() as session:
        for proof in proofs:
            damager = Damager(_known([proof]), budget.seed, least=1, structure=structure)
            start = session.start("\n".join(proof.opening.before), proof.opening.statement)
            assert isinstance(start, State)
            alone = BestFirstProver(
                session, _TACTICS, num_tactics=24, seconds=search.seconds, max_expansions=search.expansions
            ).prove(start)
            hybrid = _prover(session, damager, candidates, search)
            automated = replace(hybrid, tactic=None)
            first = automated.prove(proof.opening)
            both = first if first.proved else hybrid.prove(proof.opening)
            whole = both.stage == "whole"
            rows.append((proof.name, whole, alone.outcome == "proved", first.proved, both.proved, both.stage or ""))
    table = pd.DataFrame(rows, columns=["theorem", "whole", "tactics", "sketch+automation", "hybrid", "stage"])
    share = table[["whole", "tactics", "sketch+automation", "hybrid"]].mean()
    better = max(share["tactics"], share["sketch+automation"])
    return Finding(
        [
            Check(
                "hybrid − tactics alone, share of theorems",
                at_least(0.1),
                Estimate.exact(share["hybrid"] - share["tactics"]),
            ),
            Check("hybrid − better part, share of theorems", at_least(0), Estimate.exact(share["hybrid"] - better)),
            Check("whole proofs that hold", equal_to(0), Estimate.exact(share["whole"])),
        ],
        tables={"What proves each theorem": table},
        note=f"{len(proofs)} theorems, {candidates} candidates each: whole {share['whole']:.2f}, tactics "
        f"{share['tactics']:.2f}, sketch and automation {share['sketch+automation']:.2f}, both {share['hybrid']:.2f}.",
    )


def _prover(session: ProofSession, damager: Damager, candidates: int, search: HoleBudget) -> HybridProver:
    return HybridProver(
        lent(session),
        damager,
        _TACTICS,
        Portfolio(QUICK),
        n_candidates=candidates,
        n_tactics=24,
        hole_budget=search,
        max_sketches=candidates,
        check=kernel_of(session),
    )


@claim(
    statement="Sketches of whole proofs that fail, completed by automation and tactics, prove more than tactics alone, "
    "and no less than either part",
    source="Abstract: the combination of whole proofs and tactics",
    evidence="measured",
)
def the_hybrid_gains_over_its_parts(budget: Budget) -> Finding:
    """Each candidate is a known proof with a justification that names a lemma that does not exist."""
    return _gain(budget, structure=False)


@the_hybrid_gains_over_its_parts.control
def damaged_structure(budget: Budget) -> Finding:
    """The same proofs, with statements of claims that are false and justifications as they were."""
    return _gain(budget, structure=True)


# --- round trip


_BRACED = re.compile(r"\{[^{}]*\}")


def _by_pattern(proof: str) -> str:
    """A sketch as a pattern on the text would have it: braces emptied, and what comes after the last of them."""
    head, brace, _ = _BRACED.sub("{ admit. }", proof).rpartition("}")
    return f"{head}{brace} admit."


def _round_trip(budget: Budget, sketcher: Callable[[str, ProofSession, Opening], str | Sketch]) -> Finding:
    rows = []
    with rocq() as session:
        for proof in structured_proofs():
            found = sketcher(proof.proof, session, proof.opening)
            text = found.text if isinstance(found, Sketch) else found
            ended = finishes(session, proof.opening, text)
            given_up = len(re.findall(r"^goal \d+ is", ended.text, re.MULTILINE)) if isinstance(ended, State) else -1
            whole = False
            if isinstance(found, Sketch):
                filled = found.splice({it.id: it.original.strip().removeprefix("by ") for it in found.holes})
                after = finishes(session, proof.opening, filled)
                whole = isinstance(after, State) and after.finished
            clean = isinstance(ended, State) and ended.given_up
            rows.append((proof.name, clean, text.count("admit."), given_up, whole))
    table = pd.DataFrame(rows, columns=["theorem", "sketch holds", "holes", "goals given up", "filled again holds"])
    return Finding(
        [
            Check(
                "sketches that hold but for their holes, share",
                equal_to(1),
                Estimate.exact(table["sketch holds"].mean()),
            ),
            Check(
                "sketches with as many holes as goals given up, share",
                equal_to(1),
                Estimate.exact((table["holes"] == table["goals given up"]).mean()),
            ),
            Check(
                "filled with what stood there, they hold, share",
                equal_to(1),
                Estimate.exact(table["filled again holds"].mean()),
            ),
        ],
        tables={"Sketches": table},
    )


def _sketched(proof: str, session: ProofSession, opening: Opening) -> Sketch:
    found = sketch(proof, session, opening)
    assert isinstance(found, Sketch), found
    return found


@claim(
    statement=r"A sketch keeps the structure of its proof: it is accepted but for its holes, and filled with the "
    r"justifications that stood there it is the proof again",
    source="Method: sketches of candidate proofs",
    evidence="measured",
)
def sketches_keep_the_structure(budget: Budget) -> Finding:
    """Forty proofs with claims, bullets and both; Rocq counts the goals given up."""
    return _round_trip(budget, _sketched)


@sketches_keep_the_structure.control
def sketches_by_a_pattern(budget: Budget) -> Finding:
    """Sketches that a pattern on the text makes, which sees braces and no bullets."""
    return _round_trip(budget, lambda proof, *_: _by_pattern(proof))


# --- more candidates


def _diversity(budget: Budget, *, structure: bool) -> Finding:
    proofs = _damageable(budget, budget.pick(8, 20, 31))[: 2 if structure else None]
    largest, temperature = budget.pick(8, 16, 32), 2.0
    numbers = [2**k for k in range(int(np.log2(largest)) + 1)]
    whole, hybrid, distinct = [], [], []
    with rocq() as session:
        for proof in proofs:
            damager = Damager(_known([proof]), budget.seed, structure=structure)
            cache, answers = HoleCache(), {}
            rows = []
            for candidate in damager.propose(proof.opening, largest, temperature):
                if candidate not in answers:
                    ended = finishes(session, proof.opening, candidate)
                    holds = isinstance(ended, State) and ended.finished
                    made = _sketched(candidate, session, proof.opening)
                    completed = holds or _completed(made, session, cache)
                    answers[candidate] = (holds, completed, tuple(str(it.goal) for it in made.holes))
                rows.append(answers[candidate])
            whole.append([any(row[0] for row in rows[:n]) for n in numbers])
            hybrid.append([any(row[1] for row in rows[:n]) for n in numbers])
            distinct.append([len({row[2] for row in rows[:n]}) for n in numbers])
    shares = pd.DataFrame({"candidates": numbers, "whole": np.mean(whole, 0), "hybrid": np.mean(hybrid, 0)})
    shares["sketches"] = np.mean(distinct, 0)
    slopes = [np.polyfit(np.log(numbers), np.log(row), 1)[0] for row in distinct]
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.subplots()
    for name in ("whole", "hybrid"):
        axes.plot(shares["candidates"], shares[name], "o-", label=name)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="candidates", ylabel="share of theorems proved", ylim=(-0.03, 1.03))
    axes.legend()
    return Finding(
        [
            Check(
                "smallest lead of the hybrid over whole proofs, share of theorems",
                at_least(0),
                Estimate.exact((shares["hybrid"] - shares["whole"]).min()),
            ),
            Check(
                "lead at one candidate, share of theorems",
                at_least(0.1),
                Estimate.exact(shares["hybrid"].iloc[0] - shares["whole"].iloc[0]),
            ),
            Check("growth of different sketches with candidates, exponent", at_most(0.9), Estimate.mean(slopes)),
        ],
        tables={"Success by the number of candidates": shares},
        figures={"Success by the number of candidates": figure},
    )


def _completed(made: Sketch, session: ProofSession, cache: HoleCache) -> bool:
    """Whether automation fills every hole."""
    check = kernel_of(session)
    return fill_holes(made, lent(session), Portfolio(QUICK).solve, cache=cache, all_or_none=True, check=check).proved


@claim(
    statement=r"With every number of candidates the hybrid proves more than whole proofs, and different sketches grow "
    r"more slowly than candidates",
    source="Experiments: sampling diversity",
    evidence="measured",
)
def more_candidates_share_sketches(budget: Budget) -> Finding:
    """Damage at temperature 2: some candidates hold as they are."""
    return _diversity(budget, structure=False)


@more_candidates_share_sketches.control
def no_two_sketches_alike(budget: Budget) -> Finding:
    """Damage in the statements of claims, each in its own way: no sketch can be completed, and no two are alike."""
    return _diversity(budget, structure=True)


# --- goals that sketches share


class _ByConclusion(HoleCache):
    """A cache that forgets from what a goal is to be proved."""

    def key(self, state: State) -> object:
        return state.goals[0].conclusion


def _shared(budget: Budget, remembering: Callable[[], HoleCache]) -> Finding:
    """Fill the sketches of many candidates, each hole under no hypothesis first and then under all."""
    proofs = _damageable(budget, budget.pick(4, 20, 31))
    candidates = budget.pick(3, 8, 16)
    rows = []
    with rocq() as session:
        for proof in proofs:
            damager = Damager(_known([proof]), budget.seed, least=1)
            drawn = damager.propose(proof.opening, candidates, 1.0)
            sketches = [_without_hypotheses(_sketched(it, session, proof.opening)) for it in drawn]
            cache, asked, answers = remembering(), Counter[str](), []

            def counted(inner: ProofSession, state: State, asked: Counter[str] = asked) -> ProofResult:
                asked[str(state.goals[0])] += 1
                return Portfolio(QUICK).solve(inner, state)

            for known in (None, cache):
                asked.clear()
                answers.append([_answers(it, session, counted, known) for it in sketches])
            rows.append(
                (proof.name, sum(len(it.holes) for it in sketches), cache.calls, len(asked), answers[0] == answers[1])
            )
    table = pd.DataFrame(rows, columns=["theorem", "holes", "calls", "different goals", "same answers"])
    return Finding(
        [
            Check(
                "sketches' holes answered as without the cache, share of theorems",
                equal_to(1),
                Estimate.exact(table["same answers"].mean()),
            ),
            Check(
                "calls of solvers beyond one a different goal",
                at_most(0),
                Estimate.exact((table["calls"] - table["different goals"]).max()),
            ),
        ],
        tables={"Goals that sketches share": table},
        note=f"{table['holes'].sum()} holes in all, {table['calls'].sum()} calls.",
    )


def _without_hypotheses(made: Sketch) -> Sketch:
    return replace(made, holes=tuple(replace(hole, hints=()) for hole in made.holes))


def _answers(
    made: Sketch,
    session: ProofSession,
    solver: Callable[[ProofSession, State], ProofResult],
    cache: HoleCache | None,
) -> list[tuple[bool, bool]]:
    report = fill_holes(made, lent(session), solver, cache=cache, check=lambda *_: _UNCHECKED)
    return [(bool(it.proof), it.cleared) for it in report.fillings]


@claim(
    statement="Goals that sketches share are solved once: no solver is asked twice for a goal, and the answers are "
    "those without a cache",
    source="Method: refinement of sketches (the cache is this library's)",
    evidence="measured",
)
def shared_goals_are_solved_once(budget: Budget) -> Finding:
    """The sketches of several candidates for one proof; each hole is tried without its hypotheses, then with them."""
    return _shared(budget, HoleCache)


@shared_goals_are_solved_once.control
def goals_known_by_their_conclusion(budget: Budget) -> Finding:
    """A cache that knows a goal by its conclusion alone."""
    return _shared(budget, _ByConclusion)


# --- soundness


FALSE = Opening(("From Coq Require Import Arith Lia.",), "Theorem t : forall n : nat, n < n.")
FORGED = {
    "another theorem, this one in a comment": (
        f"(* {FALSE.statement} *) Theorem t : forall n : nat, n < S n. Proof. intro n. lia. Qed."
    ),
    "an axiom": f"Axiom f : False. {FALSE.statement} Proof. destruct f. Qed.",
    "notation": f'Notation "a < b" := (a = a). {FALSE.statement} Proof. reflexivity. Qed.',
    "an abbreviation": f"Notation lt := (fun _ _ => True). {FALSE.statement} Proof. exact (fun n => I). Qed.",
    "guard checking off": (
        f"Unset Guard Checking. Fixpoint f (n : nat) : False := f n. {FALSE.statement} Proof. destruct (f 0). Qed."
    ),
    "guard checking bypassed": (
        f"#[bypass_check(guard)] Fixpoint f (n : nat) : False := f n. {FALSE.statement} Proof. destruct (f 0). Qed."
    ),
    "given up, in other words": f"{FALSE.statement} Proof. give_up. Admitted.",
    "a type redefined": f"Inductive nat := . {FALSE.statement} Proof. intro n. destruct n. Qed.",
    "an axiom within": f"{FALSE.statement} Proof. Axiom f : False. destruct f. Qed.",
    "an unchecked term": f"{FALSE.statement} Proof. exact_no_check I. Qed.",
}
"""Files that seem to prove a theorem that is false."""


def textual_check(session: ProofSession, opening: Opening, file: str) -> bool:
    """Whether a file holds the theorem's words and not `admit`, and the assistant reads it to its end.

    This is how the reference implementation of DSP+ compares statements, but for commented ones.
    """
    if "".join(opening.statement.split()) not in "".join(file.split()) or re.search(r"\b(?:admit|Axiom)\b", file):
        return False
    return isinstance(session.start("\n".join([*opening.before, file]), "Goal True."), State)


def soundness(accepts: Callable[[Opening, str], bool]) -> Finding:
    """How many forgeries are accepted, and whether an honest proof is."""
    forged = {name: accepts(FALSE, file) for name, file in FORGED.items()}
    honest = Opening(FALSE.before, "Theorem t : forall n : nat, n < S n.")
    sound = accepts(honest, f"{honest.statement} Proof. intro n. lia. Qed.")
    table = pd.DataFrame({"forgery": forged.keys(), "accepted": forged.values()})
    return Finding(
        [
            Check("forged proofs accepted", equal_to(0), Estimate.exact(sum(forged.values()))),
            Check("an honest proof is accepted", equal_to(1), Estimate.exact(sound)),
        ],
        tables={"Forgeries": table},
    )


@dataclass(frozen=True)
class _Says:
    """A policy with one candidate."""

    text: str

    def propose(self, opening: Opening, n: int, temperature: float) -> list[str]:
        return [self.text]


@claim(
    statement="What is reported as proved is proved: no candidate that gives a goal up, states an axiom, switches a "
    "check off or proves another theorem is accepted, neither whole nor by way of its sketch",
    source="Method: candidates and refined proofs are checked by the assistant",
    evidence="measured",
)
def forged_candidates_are_rejected(budget: Budget) -> Finding:
    """Ten forgeries of a false theorem as candidates, their sketches filled by automation."""
    with rocq() as session:

        def accepts(opening: Opening, file: str) -> bool:
            prover = HybridProver(lent(session), _Says(file), automation=Portfolio(QUICK), check=CERTIFIED)
            return prover.prove(opening).proved

        return soundness(accepts)


@forged_candidates_are_rejected.control
def statements_compared_as_text(budget: Budget) -> Finding:
    """The same files, accepted where they compile and contain the statement's words."""
    with rocq() as session:
        return soundness(functools.partial(textual_check, session))
