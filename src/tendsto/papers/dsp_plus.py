r"""Draft, sketch, prove, without training: errors in sketches are masked, and holes are filled under hints.

A reasoning model drafts a proof on paper, a second model turns it into a sketch whose holes name the hypotheses that
suffice, and automation with tree search fills the holes. A sketch that breaks in places is not thrown away: what the
assistant rejects is masked until the rest holds. The paper's system works in Lean with large language models; here the
assistant is Rocq, sketches come from known proofs with damage, and what is measured is what happens after the models:
masking, hints, filling, and the check of what came out.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tendsto.assistants import Failure, Opening, ProofSession, State
from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_least, at_most, between, claim, equal_to
from tendsto.papers.hybridprover import (
    CERTIFIED,
    QUICK,
    TEXTS,
    Damager,
    finishes,
    kernel_of,
    lent,
    rocq,
    soundness,
    structured_proofs,
    textual_check,
)
from tendsto.proof.automation import Closer, Portfolio
from tendsto.proof.draft import DraftSketchProve, pass_at_k
from tendsto.proof.filling import FillReport, HoleCache, fill_holes
from tendsto.proof.rocq_file import WrittenProof, written_proofs
from tendsto.proof.sketch import Sketch, mask_errors, sketch

CARD = Paper(
    slug="dsp-plus",
    title="Reviving DSP for Advanced Theorem Proving in the Era of Reasoning Models",
    authors=("Chenrui Cao", "Liangcheng Song", "Zenan Li", "Xinyi Le", "Xian Zhang", "Hui Xue", "Fan Yang"),
    arxiv="2506.11487",
    date=date(2025, 6, 13),
    field="proof",
    method=("proof.DraftSketchProve", "proof.mask_errors", "proof.fill_holes"),
)

PORTFOLIO = Portfolio(QUICK)


def sketched_goals() -> list[WrittenProof]:
    """Twelve goals, each with a sketch in the place of its proof."""
    found = written_proofs((TEXTS / "sketched_goals.v").read_text(encoding="utf-8"))
    return [replace(it, opening=Opening(found[0].opening.before, it.opening.statement)) for it in found]


# --- masking

_IDENTIFIER = re.compile(r"(?<![\w'.])[a-z]\w*(?=[ ).;])")
_KEYWORDS = {"assert", "forall", "exists", "as", "in", "admit", "destruct", "induction", "rewrite", "split", "intros"}


def _corrupted(line: str, kind: int, generator: np.random.Generator) -> str | None:
    """A line with an unknown name, a wrong type, a bracket or a brace missing; None if it has no place for it."""
    if kind == 0:
        names = [it for it in _IDENTIFIER.finditer(line) if it[0] not in _KEYWORDS]
        if not names:
            return None
        chosen = names[int(generator.integers(len(names)))]
        return f"{line[: chosen.start()]}no_such_name{line[chosen.end() :]}"
    if kind == 1:
        return line.replace("). {", " /\\ 0). {", 1) if "). {" in line else None
    if kind == 2:
        return line.replace(")", "", 1) if ")" in line else None
    return line.replace("}", "", 1) if "}" in line else None


def _broken(text: str, generator: np.random.Generator) -> tuple[str, set[int]]:
    """A sketch with one to three lines corrupted, and which."""
    lines = text.split("\n")
    hit: set[int] = set()
    for n in generator.permutation(len(lines))[: int(generator.integers(1, 4))]:
        for kind in generator.permutation(4):
            worse = _corrupted(lines[n], int(kind), generator)
            if worse is not None:
                lines[n] = worse
                hit.add(int(n))
                break
    return "\n".join(lines), hit


def _claims(text: str, without: Iterable[int] = ()) -> list[str]:
    lines = [line for n, line in enumerate(text.split("\n")) if n not in set(without)]
    return re.findall(r"assert \(\w+ : .*?\)\.(?= \{|$)", "\n".join(lines), re.MULTILINE)


def _masking(budget: Budget, *, statement: bool) -> Finding:
    generator = np.random.default_rng(budget.seed)
    rows = []
    with rocq() as session:
        for proof in structured_proofs():
            whole = sketch(proof.proof, session, proof.opening)
            assert isinstance(whole, Sketch), whole
            text, hit = _broken(whole.text, generator)
            stated = proof.opening.statement
            if statement:
                stated = stated.replace("(", "(no_such_name : no_such_type) (", 1)
            if not isinstance(finishes(session, proof.opening, text), Failure):
                continue  # what was changed does not matter to it
            masked = mask_errors(f"{stated} Proof. {text} Qed.", session, proof.opening)
            kept = clean = passes = 0
            sound = _claims(text, hit)
            if isinstance(masked, Sketch):
                ended = finishes(session, proof.opening, masked.text)
                clean = isinstance(ended, State) and (ended.given_up or ended.finished)
                kept = sum(one in masked.text for one in sound)
                passes = masked.passes - len(text.split("\n")) - 3
            rows.append((proof.name, len(hit), clean, len(sound), kept, passes))
    table = pd.DataFrame(
        rows,
        columns=[
            "theorem",
            "lines corrupted",
            "clean",
            "claims left alone",
            "kept",
            "passes beyond lines + 3",
        ],
    )
    survived = table["kept"].sum() / table["claims left alone"].sum()
    return Finding(
        [
            Check(
                "masked sketches that hold but for their holes, share",
                equal_to(1),
                Estimate.exact(table["clean"].mean()),
            ),
            Check("claims on lines left alone that survive, share", at_least(0.8), Estimate.exact(survived)),
            Check(
                "passes beyond the number of lines and three",
                at_most(0),
                Estimate.exact(table["passes beyond lines + 3"].max()),
            ),
        ],
        tables={"Masking": table},
        note=f"{len(table)} sketches, {table['lines corrupted'].sum()} lines corrupted; "
        f"{table['kept'].sum()} of {table['claims left alone'].sum()} claims survive, of whole sketches none.",
    )


@claim(
    statement="Masking turns every broken sketch into one that holds but for its holes, and keeps what was not broken",
    source="Method: masking of error lines",
    evidence="measured",
)
def masking_saves_broken_sketches(budget: Budget) -> Finding:
    """In each sketch one to three lines get an unknown name, a wrong type, a bracket or a brace missing."""
    return _masking(budget, statement=False)


@masking_saves_broken_sketches.control
def broken_statement(budget: Budget) -> Finding:
    """The same, with the statement broken as well: nothing may be saved."""
    return _masking(budget, statement=True)


# --- sketches against automation alone


def _against_automation(budget: Budget, shift: int) -> Finding:
    goals = sketched_goals()[: budget.pick(5, 12, 12)]
    rows = []
    with rocq() as session:
        for n, goal in enumerate(goals):
            start = session.start("\n".join(goal.opening.before), goal.opening.statement)
            assert isinstance(start, State), start
            clock = time.perf_counter()
            alone = PORTFOLIO.solve(session, start)
            direct = time.perf_counter() - clock
            clock = time.perf_counter()
            masked = mask_errors(goals[(n + shift) % len(goals)].proof, session, goal.opening)
            report = _filled(masked, session, budget) if isinstance(masked, Sketch) else None
            proved = report is not None and report.proved
            rows.append((goal.name, alone.outcome == "proved", direct, proved, time.perf_counter() - clock))
    table = pd.DataFrame(rows, columns=["goal", "alone", "seconds alone", "with sketch", "seconds with sketch"])
    return Finding(
        [
            Check(
                "goals proved with their sketch, share", at_least(10 / 12), Estimate.exact(table["with sketch"].mean())
            ),
            Check("goals proved by automation alone, share", at_most(3 / 12), Estimate.exact(table["alone"].mean())),
        ],
        tables={"Goals": table},
        note=f"Automation gives up after {table['seconds alone'].max():.1f} s at most: each tactic of it was tried.",
    )


def _filled(made: Sketch, session: ProofSession, budget: Budget) -> FillReport:
    check = kernel_of(session) if budget.name == "quick" else CERTIFIED
    return fill_holes(made, lent(session), PORTFOLIO.solve, check=check, all_or_none=True)


@claim(
    statement="A sketch lets automation prove what it does not prove alone",
    source="Abstract; results on miniF2F",
    evidence="measured",
)
def sketches_beat_automation_alone(budget: Budget) -> Finding:
    """Goals of arithmetic, divisibility and lists, `imo_1959_p1` among them, with sketches without any proof."""
    return _against_automation(budget, 0)


@sketches_beat_automation_alone.control
def sketches_of_other_goals(budget: Budget) -> Finding:
    """Each goal with the sketch of the next one, its errors masked."""
    return _against_automation(budget, 1)


# --- hints


NOISE = " ".join(
    f"(r{n} : x{n % 10} * x{(n * n + 1) % 10} <= {n + 2} * x{(n + 3) % 10} + x{n % 10} * x{(n + 4) % 10})"
    for n in range(20)
)
"""Twenty irrelevant hypotheses, about ten irrelevant variables."""

NONLINEAR = {
    "(n m : nat) (H : n <= m)": ("H", "n * n <= n * m"),
    "(a b c : nat) (H : a <= b) (K : 1 <= c)": ("H, K", "a * c <= b * c * c"),
    "(a b : nat) (H : 1 <= b)": ("H", "a <= a * b"),
    "(a b c d : nat) (H : a <= b) (K : c <= d)": ("H, K", "a * c <= b * d"),
    "(a b : nat) (H : 2 <= a) (K : 2 <= b)": ("H, K", "a + b <= a * b"),
    "(p q r : nat) (H : p < q) (K : q < r)": ("H, K", "p * q < q * r"),
}
"""Goals that `nia` closes, by their hypotheses, with the hints that suffice."""

_NIA = Portfolio((Closer("nia.", 4.0),))


def _hints(budget: Budget, *, wrong: bool) -> Finding:
    imports = ("From Coq Require Import Arith Lia.",)
    variables = " ".join(f"x{n}" for n in range(10))
    rows = []
    with rocq() as session:
        for binders, (names, conclusion) in list(NONLINEAR.items())[: budget.pick(4, 6, 6)]:
            opening = Opening(imports, f"Lemma t ({variables} : nat) {NOISE} {binders} : {conclusion}.")
            hints = "r0" if wrong else names
            made = mask_errors(f"admit. (* using: {hints} *)", session, opening)
            assert isinstance(made, Sketch), made
            seconds = {}
            for use in (True, False):
                report = fill_holes(made, lent(session), _NIA.solve, use_hints=use, check=kernel_of(session))
                seconds[use] = sum(it.seconds for it in report.fillings)
                if use:
                    cleared, proved = report.fillings[0].cleared, report.proved
                else:
                    without = report.proved
            rows.append((conclusion, cleared, seconds[True], seconds[False], proved, without))
    table = pd.DataFrame(
        rows,
        columns=[
            "goal",
            "proved under hints",
            "seconds with hints",
            "seconds without",
            "proved in the end",
            "proved without",
        ],
    )
    ratio = table["seconds without"].median() / table["seconds with hints"].median()
    return Finding(
        [
            Check(
                "holes proved from the hints alone, share",
                at_least(0.9),
                Estimate.exact(table["proved under hints"].mean()),
            ),
            Check("median time without hints / with hints", at_least(2), Estimate.exact(ratio)),
        ],
        tables={"Holes with twenty irrelevant hypotheses": table},
        note=f"In the end {table['proved in the end'].mean():.2f} of the holes are proved with hints, "
        f"{table['proved without'].mean():.2f} without.",
    )


@claim(
    statement="Clearing what the hints do not name makes holes easier: with twenty irrelevant hypotheses, nonlinear "
    "arithmetic needs less than half the time",
    source="Method: hints, a clear before each hole",
    evidence="measured",
)
def hints_make_holes_easier(budget: Budget) -> Finding:
    """Holes that `nia` closes, four seconds each; the time is that of the hole, with its second pass."""
    return _hints(budget, wrong=False)


@hints_make_holes_easier.control
def wrong_hints(budget: Budget) -> Finding:
    """Hints that leave out what is needed: the first pass fails, and the second, without them, has to do the work."""
    return _hints(budget, wrong=True)


# --- soundness


@claim(
    statement="What is reported as proved is proved: no sketch that gives a goal up, states an axiom, switches a check "
    "off or changes the statement is accepted",
    source="Method: verification of the whole, check against tampering",
    evidence="measured",
)
def forged_sketches_are_rejected(budget: Budget) -> Finding:
    """Ten forgeries of a false theorem as sketches; statements are compared as terms."""
    with rocq() as session:

        def accepts(opening: Opening, file: str) -> bool:
            pipeline = DraftSketchProve(lent(session), sketch=file, automation=PORTFOLIO, check=CERTIFIED)
            return bool(pipeline.prove(opening).proof)

        return soundness(accepts)


@forged_sketches_are_rejected.control
def statements_compared_by_their_words(budget: Budget) -> Finding:
    """The paper's own check: the statement without blanks is looked for in the proof without blanks."""
    with rocq() as session:
        return soundness(lambda opening, file: textual_check(session, opening, file))


# --- the budget


@functools.cache
def _attempts(budget: Budget) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Which of many attempts prove each of several theorems: known proofs under damage, masked and filled."""
    proofs = [it for it in structured_proofs() if "assert" in it.proof][: budget.pick(12, 24, 33)]
    number = budget.pick(32, 64, 256)
    found = np.zeros((len(proofs), number), dtype=bool)
    automation = Portfolio(QUICK[:4])
    with rocq() as session:
        for row, proof in enumerate(proofs):
            damager = Damager({proof.opening.statement: proof.proof}, budget.seed, least=1)
            known: dict[str, bool] = {}
            cache = HoleCache()
            for column, text in enumerate(damager.propose(proof.opening, number, 2.0)):
                if text not in known:
                    known[text] = _proves(text, session, proof.opening, automation, cache)
                found[row, column] = known[text]
    return found


def _proves(text: str, session: ProofSession, opening: Opening, automation: Portfolio, cache: HoleCache) -> bool:
    masked = mask_errors(text, session, opening)
    if not isinstance(masked, Sketch):
        return False
    check = kernel_of(session)
    return fill_holes(masked, lent(session), automation.solve, cache=cache, all_or_none=True, check=check).proved


def _curve(budget: Budget, *, one_rate: bool) -> Finding:
    attempts = _attempts(budget)
    half = attempts.shape[1] // 2
    first, second = attempts[:, :half], attempts[:, half:]
    numbers = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= half // 2]
    counts = first.sum(axis=1)
    estimates = [pass_at_k(counts, half, k, seed=budget.seed) for k in numbers]
    if one_rate:
        estimates = [Estimate.exact(1 - (1 - first.mean()) ** k) for k in numbers]
    # Groups of k fresh attempts; errors come from the theorems' differences from their own estimates.
    fresh = np.array([second[:, : half // k * k].reshape(len(second), -1, k).any(axis=2).mean(axis=1) for k in numbers])
    own = np.array([[pass_at_k([count], half, k).value for count in counts] for k in numbers])
    direct = fresh.mean(axis=1)
    spread = (fresh - own).std(axis=1, ddof=1) / np.sqrt(len(first))
    table = pd.DataFrame(
        {
            "attempts": numbers,
            "estimate": [it.value for it in estimates],
            "low": [it.low for it in estimates],
            "high": [it.high for it in estimates],
            "fresh attempts": direct,
        }
    )
    distance = np.abs(direct - table["estimate"]) / np.where(spread > 0, spread, np.inf)
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(table["attempts"], table["low"], table["high"], alpha=0.2)
    axes.plot(table["attempts"], table["estimate"], "-", label="estimate")
    axes.plot(table["attempts"], table["fresh attempts"], "o", label="fresh attempts")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="attempts", ylabel="share of theorems proved", ylim=(-0.03, 1.03))
    axes.legend()
    return Finding(
        [
            Check("fresh attempts against the estimate, standard errors", at_most(3), Estimate.exact(distance.max())),
            Check("smallest step of the estimate", at_least(0), Estimate.exact(np.diff(table["estimate"]).min())),
            Check("estimate at one attempt", between(0.01, 0.99), Estimate.exact(table["estimate"].iloc[0])),
        ],
        tables={"Budget": table},
        figures={"Success by the number of attempts": figure},
    )


@claim(
    statement=r"Success grows with the number of attempts, as $1 - \binom{n-c}{k}/\binom{n}{k}$ foretells from $c$ "
    r"successes in $n$",
    source="Results on miniF2F, pass@1 to pass@1024",
    evidence="measured",
)
def success_grows_with_attempts(budget: Budget) -> Finding:
    """The estimate from one half of the attempts, beside groups of k of the other half; errors over theorems."""
    return _curve(budget, one_rate=False)


@success_grows_with_attempts.control
def one_rate_for_all_theorems(budget: Budget) -> Finding:
    """An estimate that forgets that theorems differ: the rate of all attempts together, as if it were each one's."""
    return _curve(budget, one_rate=True)
