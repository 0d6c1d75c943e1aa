r"""Which of a library's lemmas a proof will need: data from a proof assistant, and a retriever trained on it.

A library is traced: what each file defines, and what each proof uses, resolved by the assistant itself. A proof may
use what is *accessible* to it, by position: what is imported, or stands before it in its file. Premise selection ranks
these for a goal. The paper's retriever is one encoder of goals and premises, trained so that cosines tend to 1 for the
premises that a proof uses and to 0 for others, some of them from the very file that defines the right one; and its
benchmark has a split where every theorem held out needs a premise that no training proof uses. There is no theorem; the
claims are invariants of the data and comparisons of rankings. Here the library is mathcomp in Rocq; the paper's is
mathlib in Lean.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import permutations
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from tendsto.assistants import Failure, Opening, Rocq, RocqSession, State, sentences
from tendsto.evidence import Budget, Check, Estimate, Finding, NotRun, Paper, at_least, at_most, claim, equal_to
from tendsto.proof import (
    BM25Retriever,
    CombinedRetriever,
    Corpus,
    DualEncoderRetriever,
    IndexSet,
    NearestNeighbourRetriever,
    Premise,
    Query,
    RecencyRetriever,
    ScoringRetriever,
    Split,
    Theorem,
    mean_reciprocal_rank,
    queries,
    recall_at,
    recalls_at,
)
from tendsto.proof.automation import PremiseAutomation
from tendsto.proof.policies import Suggestion
from tendsto.proof.search import AccessiblePremises, BestFirstProver, PremiseSelector, SearchStats
from tendsto.proof.tree import Node, ProofTree

CARD = Paper(
    slug="leandojo",
    title="LeanDojo: Theorem Proving with Retrieval-Augmented Language Models",
    authors=(
        "Kaiyu Yang",
        "Aidan M. Swope",
        "Alex Gu",
        "Rahul Chalamala",
        "Peiyang Song",
        "Shixing Yu",
        "Saad Godil",
        "Ryan Prenger",
        "Anima Anandkumar",
    ),
    arxiv="2306.15626",
    date=date(2023, 6, 27),
    field="proof",
    method=(
        "proof.Corpus",
        "proof.DualEncoderRetriever",
        "proof.BM25Retriever",
        "proof.NearestNeighbourRetriever",
        "proof.TransformersRetriever",
    ),
)

_SEEDS = 3


def _library() -> Path:
    """Where mathcomp lies on disk."""
    compiler = shutil.which("coqc")
    if compiler is not None:
        where = subprocess.run([compiler, "-where"], capture_output=True, text=True, check=True).stdout.strip()
        folder = Path(where) / "user-contrib" / "mathcomp"
        if (folder / "ssreflect" / "ssrnat.glob").is_file():
            return folder
    raise NotRun("needs mathcomp: apt install libcoq-mathcomp")


@functools.cache
def _mathcomp(part: str = "") -> Corpus:
    return Corpus.from_glob(_library() / part)


@functools.cache
def _lemmas(part: str = "") -> Corpus:
    """The library whose premises are its theorems alone: what a proof step names to rewrite with or apply."""
    return _mathcomp(part).of_kinds(["theorem"])


def _everything_but(corpus: Corpus, query: Query) -> IndexSet:
    """All premises of the corpus but the theorem itself, whose statement is the query."""
    theorem = corpus.theorems[query.theorem]
    file = corpus.file(theorem.path)
    names = [it.full_name for it in corpus.premises[file.first : file.stop]]
    own = file.first + names.index(theorem.full_name)
    return IndexSet(np.array([0, own + 1]), np.array([own, len(corpus.premises)]))


# --- accessible premises


def _violations(corpus: Corpus, accessible: Callable[[Theorem], IndexSet]) -> NDArray[np.int64]:
    """For each theorem, how many premises of its proof are not accessible."""
    return np.array(
        [
            np.count_nonzero(~accessible(theorem).contains(np.asarray(theorem.premises, dtype=np.int64)))
            for theorem in corpus.theorems
        ]
    )


def _soundness(rule: str) -> Finding:
    corpus = _mathcomp()

    def later(theorem: Theorem) -> IndexSet:
        file = corpus.file(theorem.path)
        own = np.array([it.start >= theorem.end for it in corpus.premises[file.first : file.stop]], dtype=bool)
        places = file.first + np.flatnonzero(own)
        imported = corpus.accessible(theorem.path, -1)
        return IndexSet(np.append(imported.starts, places), np.append(imported.stops, places + 1))

    rules: dict[str, Callable[[Theorem], IndexSet]] = {
        "imported, or earlier in the file": corpus.accessible_to,
        "imported": lambda theorem: corpus.accessible(theorem.path, -1),
        "imported, or later in the file": later,
    }
    outside = _violations(corpus, rules[rule])
    counts = {
        "files": len(corpus.files),
        "premises": len(corpus.premises),
        "theorems with proofs": len(corpus.theorems),
        "of them using premises": sum(bool(it.premises) for it in corpus.theorems),
        "premises a proof, on average": np.mean([len(it.premises) for it in corpus.theorems]),
        "premises accessible to one, on average": np.mean([len(corpus.accessible_to(it)) for it in corpus.theorems]),
    }
    table = pd.DataFrame(counts.items(), columns=["what", "count"])
    return Finding(
        [Check(f"premises used that are not {rule}", equal_to(0), Estimate.exact(outside.sum()))],
        tables={"Mathematical Components": table},
        note=f"{np.count_nonzero(outside)} of {len(outside):,} proofs use such a premise.",
    )


@claim(
    statement="Every premise that a proof uses is accessible to it: it is defined in a file imported directly or not, "
    "or ends before the theorem begins in the same file",
    source="Section 4, accessible premises",
    evidence="measured",
)
def proofs_use_accessible_premises(budget: Budget) -> Finding:
    """All proofs of mathcomp, with every premise that Rocq's compiler resolves in them; the definition by positions."""
    return _soundness("imported, or earlier in the file")


@proofs_use_accessible_premises.control
def without_the_same_file(budget: Budget) -> Finding:
    """The same count where only imported files are accessible."""
    return _soundness("imported")


@proofs_use_accessible_premises.control
def with_the_order_reversed(budget: Budget) -> Finding:
    """The same count where what is later in the file is accessible in place of what is earlier."""
    return _soundness("imported, or later in the file")


# --- fewer candidates


class Ranked(NamedTuple):
    """What a retriever found: R@10 of each query; and R@1, R@10, MRR."""

    name: str
    recalls: NDArray[np.float64]
    summary: dict[str, float]


def _ranking_metrics(
    retriever: ScoringRetriever, asked: Sequence[Query], candidates: Sequence[IndexSet]
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """R@10 of each query; and R@1, R@10, MRR."""
    rankings = retriever.rank_batch([it.text for it in asked], candidates, 100)
    used = [it.premises for it in asked]
    each = np.asarray(recalls_at(10, rankings, used))
    summary = {"R@1": recall_at(1, rankings, used), "R@10": float(each.mean())}
    return each, summary | {"MRR": mean_reciprocal_rank(rankings, used)}


def _restriction(budget: Budget, restrict: Callable[[np.random.Generator, Query], IndexSet]) -> Finding:
    corpus = _lemmas()
    retriever = BM25Retriever().fit(corpus)
    gains, beyond, rows = [], [], []
    for seed in range(_SEEDS):
        generator = np.random.default_rng([budget.seed, seed])
        drawn = generator.permutation(len(corpus.theorems))[: budget.pick(400, 1800, 14000)]
        asked = queries(corpus, drawn.tolist())
        whole, of_whole = _ranking_metrics(retriever, asked, [_everything_but(corpus, it) for it in asked])
        few, of_few = _ranking_metrics(retriever, asked, [restrict(generator, it) for it in asked])
        gains.append(few - whole)
        beyond.append(few - 1.2 * whole)
        rows += [{"seed": seed, "candidates": "all"} | of_whole, {"seed": seed, "candidates": "few"} | of_few]
    return Finding(
        [
            Check("least gain in R@10 of one query", at_least(0), Estimate.exact(np.concatenate(gains).min())),
            Check("R@10 among few − 1.2 × R@10 among all", at_least(0), Estimate.mean(np.concatenate(beyond))),
        ],
        tables={f"BM25 on {len(asked):,} theorems a seed": pd.DataFrame(rows)},
    )


@claim(
    statement="Ranking only accessible premises never lowers recall, and raises BM25's R@10 by a fifth or more",
    source="Section 4 and Table 1 (BM25: 17.2 % against 11.9 % among all premises)",
    evidence="measured",
)
def accessible_premises_are_easier_to_rank(budget: Budget) -> Finding:
    """BM25 over the lemmas of mathcomp, on random theorems and three seeds; the query is the statement without name."""
    return _restriction(budget, lambda _, query: query.accessible)


@accessible_premises_are_easier_to_rank.control
def random_premises_in_their_place(budget: Budget) -> Finding:
    """The same with as many premises drawn at random as are accessible."""

    def drawn(generator: np.random.Generator, query: Query) -> IndexSet:
        return IndexSet.of(generator.choice(len(_lemmas().premises), len(query.accessible), replace=False))

    return _restriction(budget, drawn)


# --- novel premises


def _novel(corpus: Corpus, split: Split, asked: Sequence[Query]) -> list[tuple[int, ...]]:
    """Of the premises of each query those that no training proof uses."""
    seen = {premise for number in split.train for premise in corpus.theorems[number].premises}
    return [tuple(it for it in query.premises if it not in seen) for query in asked]


def _novelty(budget: Budget, *, leak: bool) -> Finding:
    corpus = _lemmas(budget.pick("ssreflect", "", ""))
    words = BM25Retriever().fit(corpus)
    rows, gaps = [], []
    for seed in range(_SEEDS):
        at_ten: list[float] = []
        for strategy in ("random", "novel_premises"):
            split = corpus.split(strategy, val=0, test=budget.pick(0.1, 0.04, 0.04), seed=budget.seed + seed)
            asked = queries(corpus, split.test.tolist())
            novel = _novel(corpus, split, asked)
            memory = NearestNeighbourRetriever().fit(corpus, [*split.train, *split.test] if leak else split.train)
            for name, retriever in (("nearest proofs", memory), ("words", words)):
                rankings = retriever.rank_batch([it.text for it in asked], [it.accessible for it in asked], 100)
                # A score of 0 is no choice: of premises that nothing speaks for the first of the library come first.
                chosen = [[pair for pair in ranking if pair[1] > 0] for ranking in rankings]
                with_novel = [number for number, it in enumerate(novel) if it]
                at_novel = recall_at(10, [chosen[it] for it in with_novel], [novel[it] for it in with_novel])
                at_ten.append(recall_at(10, chosen, [it.premises for it in asked]))
                rows.append(
                    {
                        "split": strategy,
                        "seed": seed,
                        "retriever": name,
                        "R@10": at_ten[-1],
                        "R@10, novel": at_novel,
                        "share with novel": len(with_novel) / len(asked),
                    }
                )
        random_memory, random_words, novel_memory, novel_words = at_ten
        gaps.append((random_memory - novel_memory) - (random_words - novel_words))
    table = pd.DataFrame(rows)
    held_out = table[table["split"] == "novel_premises"]
    found = held_out.loc[held_out["retriever"] == "nearest proofs", "R@10, novel"]
    return Finding(
        [
            Check("R@10 of nearest proofs on novel premises", equal_to(0), Estimate.exact(found.max())),
            Check(
                "share of the novel split with a novel premise",
                equal_to(1),
                Estimate.exact(held_out["share with novel"].min()),
            ),
            Check("R@10 lost from random to novel, nearest proofs − words", at_least(0), Estimate.mean(gaps)),
        ],
        tables={"Two splits": table},
    )


@claim(
    statement="In the novel_premises split every theorem held out uses a premise that no training proof uses; "
    "selection from remembered proofs never finds such a premise, and loses more than selection by words",
    source="Section 4, splits; Table 1",
    evidence="measured",
)
def memory_fails_on_novel_premises(budget: Budget) -> Finding:
    """Nearest training proofs and BM25 over mathcomp (at the quick budget its part ssreflect); three seeds a split."""
    return _novelty(budget, leak=False)


@memory_fails_on_novel_premises.control
def with_the_proofs_that_are_tested_on(budget: Budget) -> Finding:
    """The same where the proofs held out are remembered too."""
    return _novelty(budget, leak=True)


# --- the trained encoder


def _dealt_out(corpus: Corpus, seed: int) -> Corpus:
    """The corpus in which every theorem has the used premises of another one, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(corpus.theorems))
    theorems = tuple(
        replace(it, premises=corpus.theorems[other].premises) for it, other in zip(corpus.theorems, order, strict=True)
    )
    return replace(corpus, theorems=theorems)


@functools.cache
def _trained(budget: Budget, seed: int, *, in_file: int = 1, dealt_out: bool = False) -> tuple[Ranked, ...]:
    """What the encoder finds on a random split, and the others beside it; trained on true proofs or on false ones."""
    corpus = _lemmas(budget.pick("ssreflect", "", ""))
    split = corpus.split("random", val=0, test=budget.pick(0.2, 0.04, 0.04), seed=seed)
    asked = queries(corpus, split.test.tolist())
    encoder = DualEncoderRetriever(steps=budget.pick(450, 2000, 60_000), in_file=in_file, seed=seed)
    contenders: dict[str, ScoringRetriever] = {"encoder": encoder}
    if in_file and not dealt_out:
        three = [BM25Retriever(), NearestNeighbourRetriever(), RecencyRetriever()]
        contenders |= {"BM25": three[0], "nearest proofs": three[1], "recency": three[2]}
        contenders["sum of the last three"] = CombinedRetriever(three)
    learnt = _dealt_out(corpus, seed) if dealt_out else corpus
    found = []
    for name, retriever in contenders.items():
        retriever.fit(learnt, split.train.tolist())
        each, summary = _ranking_metrics(retriever, asked, [it.accessible for it in asked])
        found.append(Ranked(name, each, summary))
    return tuple(found)


def _gain(budget: Budget, quantity: str, better: dict[str, Any], than: Callable[[int], Ranked]) -> Finding:
    """The encoder trained with the settings `better` beside what `than` gives for each seed."""
    seeds = range(budget.seed, budget.seed + budget.pick(1, _SEEDS, _SEEDS))
    gains, rows = [], []
    for seed in seeds:
        found, rival = _trained(budget, seed, **better), than(seed)
        gains.append(found[0].recalls - rival.recalls)
        rows += [{"seed": seed, "retriever": it.name} | it.summary for it in (*found, rival)]
    table = pd.DataFrame(rows).drop_duplicates().reset_index(drop=True)
    return Finding([Check(quantity, at_least(0), Estimate.mean(np.concatenate(gains)))], tables={"Random split": table})


@claim(
    statement="A dual encoder trained by the mean squared error of cosines, with negatives of which one is from the "
    "positive's file, has a higher R@10 than BM25",
    source="Section 5, Table 1 (random: 38.4 % against 17.2 %)",
    evidence="measured",
)
def the_trained_encoder_beats_bm25(budget: Budget) -> Finding:
    """A small encoder of byte n-grams on the random split of mathcomp, at the quick budget of its part ssreflect."""
    return _gain(budget, "gain in R@10 over BM25", {}, lambda seed: _trained(budget, seed)[1])


@the_trained_encoder_beats_bm25.control
def trained_on_the_proofs_of_others(budget: Budget) -> Finding:
    """The same encoder, trained on theorems with the premises of other theorems."""
    return _gain(budget, "gain in R@10 over BM25", {"dealt_out": True}, lambda seed: _trained(budget, seed)[1])


@claim(
    statement="Negatives from the file that defines the positive raise the R@10 of the encoder",
    source="Section 5, Table 1 (random: 38.4 % against 33.1 % without)",
    evidence="measured",
)
def negatives_of_the_same_file_help(budget: Budget) -> Finding:
    """The encoder trained with one of three negatives from the positive's file, and with none."""
    return _gain(budget, "gain in R@10 by in-file negatives", {}, lambda seed: _without(budget, seed))


@negatives_of_the_same_file_help.control
def with_false_proofs_to_learn_from(budget: Budget) -> Finding:
    """In-file negatives, but theorems with the premises of others, against true proofs without in-file negatives."""
    return _gain(budget, "gain in R@10 by in-file negatives", {"dealt_out": True}, lambda seed: _without(budget, seed))


def _without(budget: Budget, seed: int) -> Ranked:
    return _trained(budget, seed, in_file=0)[0]._replace(name="encoder without in-file negatives")


# --- proving with premises


class _Given(NamedTuple):
    """Selects the same premises in every state."""

    premises: Sequence[Premise]

    def select(self, state: State, k: int) -> Sequence[Premise]:
        return self.premises[:k]


_Arm = Callable[[np.random.Generator, Theorem], PremiseSelector | None]
"""Which premises a theorem is tried with."""

_LEAST_ACCESSIBLE = 16  # so that eight premises drawn at random are a choice
_SHOWN = 8  # premises for one tactic
_LIMIT = 100  # a tenth of what hauto searches by default, about a second; steps, not time, so that load has no say
_WATCHDOG = 30.0  # seconds for a tactic that hangs
_ENVIRONMENT = "From Hammer Require Import Tactics."


@functools.cache
def _lists() -> tuple[bytes, Corpus]:
    """The standard library's `List.v`: its text, and its lemmas."""
    compiler = shutil.which("coqc")
    if compiler is None:
        raise NotRun("needs Rocq: apt install coq")
    where = subprocess.run([compiler, "-where"], capture_output=True, text=True, check=True).stdout.strip()
    source = Path(where) / "theories" / "Lists" / "List.v"
    return source.read_bytes(), Corpus.from_sources(source).of_kinds(["theorem"])


def _drawn_lemmas(budget: Budget, number: int) -> list[Theorem]:
    """Lemmas whose proof uses one of the file's own, and that have at least 16 of those before them."""
    _, corpus = _lists()
    fit = [it for it in corpus.theorems if it.premises and len(corpus.accessible_to(it)) >= _LEAST_ACCESSIBLE]
    order = np.random.default_rng([budget.seed, 5]).permutation(len(fit))
    return [fit[place] for place in sorted(order[:number])]


def _opening(theorem: Theorem, *, leak: bool) -> Opening:
    """A lemma in the environment of the file up to it; with `leak`, of the file that already has it."""
    before = _lists()[0][: theorem.end if leak else theorem.start].decode()
    statement = theorem.statement
    if leak:
        name = theorem.full_name.rpartition(".")[2]
        statement = statement.replace(name, f"{name}_again", 1)
    return Opening((*(it.text for it in sentences(before)), _ENVIRONMENT), statement)


def _known_by_name(session: RocqSession, state: State, theorem: Theorem) -> bool:
    """Whether the environment of a lemma proves it by its own name."""
    name = theorem.full_name.rpartition(".")[2]
    tried = session.run(state, f"solve [ intros; eapply {name}; eassumption | intros; apply {name} ].", seconds=10.0)
    return isinstance(tried, State) and tried.finished


def _solved(budget: Budget, arms: Mapping[str, _Arm], *, leak: bool = False) -> tuple[pd.DataFrame, Counter[str], int]:
    """Which lemmas each choice of premises proves; what came of the tactics; and how many lemmas leak."""
    generator = np.random.default_rng([budget.seed, 6])
    check = functools.partial(Rocq().check_proof, recheck=False)
    rows, known = [], 0
    answers: Counter[str] = Counter()
    with RocqSession() as session:
        for theorem in _drawn_lemmas(budget, budget.pick(64, 64, 1000)):
            opening = _opening(theorem, leak=leak)
            state = session.start("\n".join(opening.before), opening.statement)
            if isinstance(state, Failure):
                raise NotRun(f"needs CoqHammer: apt install libcoq-hammer ({state.message})")
            known += _known_by_name(session, state, theorem)
            row: dict[str, object] = {"lemma": theorem.full_name.rpartition(".")[2]}
            for name, arm in arms.items():
                prover = BestFirstProver(
                    session,
                    PremiseAutomation(_SHOWN, limit=_LIMIT),
                    arm(generator, theorem),
                    check=check,
                    num_premises=_SHOWN,
                    tactic_seconds=_WATCHDOG,
                    max_expansions=1,
                )
                result = prover.prove(state)
                row[name] = result.outcome == "proved"
                answers += result.stats.tactics
            rows.append(row)
    return pd.DataFrame(rows, columns=["lemma", *arms]), answers, known


def _random_premises(generator: np.random.Generator, theorem: Theorem) -> PremiseSelector:
    corpus = _lists()[1]
    drawn = generator.choice(np.asarray(corpus.accessible_to(theorem)), _SHOWN, replace=False)
    return _Given([corpus.premises[number] for number in drawn.tolist()])


def _ranked_premises(_: np.random.Generator, theorem: Theorem) -> PremiseSelector:
    corpus = _lists()[1]
    return AccessiblePremises(BM25Retriever().fit(corpus), corpus, corpus.accessible_to(theorem))


def _human_premises(_: np.random.Generator, theorem: Theorem) -> PremiseSelector:
    corpus = _lists()[1]
    return _Given([corpus.premises[number] for number in theorem.premises])


def _sign_test(table: pd.DataFrame) -> Check:
    wins, losses = (int((table[one] & ~table[other]).sum()) for one, other in permutations(["ranked", "random"]))
    p_value = stats.binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
    quantity = f"p-value of the sign test, {wins} lemmas by ranked premises alone, {losses} by random ones alone"
    return Check(quantity, at_most(0.05), Estimate.exact(p_value))


@claim(
    statement="Premises that a retriever ranks highest help to prove: automation proves more theorems with them than "
    "with random accessible ones, and no more than with those of the human proof",
    source="Section 6, Table 2 (51.2 % with retrieval, 47.6 % without)",
    evidence="measured",
)
def retrieval_helps_to_prove(budget: Budget) -> Finding:
    """Lemmas of Rocq's `List.v`, in the file up to each; CoqHammer's `hauto` with 8 premises, alone or by induction."""
    if budget.name == "quick":
        raise NotRun("needs the standard budget: half an hour")
    arms: dict[str, _Arm] = {
        "none": lambda *_: None,
        "random": _random_premises,
        "ranked": _ranked_premises,
        "of the human proof": _human_premises,
    }
    table, answers, known = _solved(budget, arms)
    counts = table.drop(columns="lemma").sum()
    ahead = counts["of the human proof"] - counts["ranked"]
    summary = pd.DataFrame({"premises": counts.index, "lemmas proved": counts.to_numpy(dtype=int)})
    return Finding(
        [
            Check("lemmas proved, human premises − ranked", at_least(0), Estimate.exact(ahead)),
            _sign_test(table),
            Check("proofs that the compiler does not accept", equal_to(0), Estimate.exact(answers["rejected"])),
            Check("lemmas that their environment proves by name", equal_to(0), Estimate.exact(known)),
        ],
        tables={f"{len(table)} lemmas about lists": summary, "Each lemma": table},
        note=f"Of {answers.total()} tactics {answers['timed out']} were stopped after {_WATCHDOG:g} s.",
    )


@retrieval_helps_to_prove.control
def random_premises_instead_of_ranked(budget: Budget) -> Finding:
    """The same where what stands for the ranked premises is drawn at random too."""
    return Finding([_sign_test(_solved(budget, {"random": _random_premises, "ranked": _random_premises})[0])])


@retrieval_helps_to_prove.control
def where_the_lemma_is_there_already(budget: Budget) -> Finding:
    """How many lemmas their environment proves by name, in the file up to the end of each lemma's own proof."""
    _, _, known = _solved(budget, {}, leak=True)
    return Finding([Check("lemmas that their environment proves by name", equal_to(0), Estimate.exact(known))])


# --- the search itself

_ANSWERS = ("finished", "given up", "error", "refused", "timed out", "crashed")


class _Graph:
    """A proof assistant for one random graph of states: what each tactic does is drawn once.

    With `hurried`, a tactic that times out is taken for one that does not work.
    """

    def __init__(self, generator: np.random.Generator, states: int = 14, *, hurried: bool = False) -> None:
        self.hurried = hurried
        self.tactics: dict[str, dict[str, tuple[str, float]]] = {}
        for number in range(states):
            targets = [f"s{it}" for it in range(states)]
            self.tactics[f"s{number}"] = {
                f"s{number}.{it}": (
                    str(generator.choice(targets if generator.random() < 0.6 else list(_ANSWERS))),
                    float(generator.uniform(0.01, 0.24)),
                )
                for it in range(int(generator.integers(0 if number else 1, 5)))
            }

    def start(self, before: str, statement: str, *, seconds: float = 600.0) -> State | Failure:
        return State(Opening((before,), statement), (), (), "s0")

    def run(self, state: State, tactic: str, *, seconds: float = 10.0) -> State | Failure:
        answer, _ = self.tactics[state.text][tactic]
        path = (*state.path, tactic)
        if answer in ("finished", "given up"):
            return State(state.opening, path, (), answer, finished=answer == "finished", given_up=answer == "given up")
        if answer == "timed out" and self.hurried:
            return Failure("error", "")
        if answer in ("error", "refused", "timed out", "crashed"):
            return Failure(cast(Literal["error", "refused", "timed out", "crashed"], answer), "")
        return State(state.opening, path, (), answer)

    def close(self) -> None:
        """There is no process to end."""

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        return [Suggestion(tactic, float(np.log(share))) for tactic, (_, share) in self.tactics[state.text].items()][:k]

    def unanswered(self, tree: ProofTree) -> bool:
        """Whether a tactic that was run never answered."""
        tried = [tactic for node in tree.nodes for tactic in (() if node.edges is None else node.edges)]
        return any(self.tactics[it.tactic.partition(".")[0]][it.tactic][0] in ("timed out", "crashed") for it in tried)


def _deviations(tree: ProofTree, graph: _Graph, expansions: int) -> Counter[str]:
    """How often a tree is not what the definitions say."""
    found: Counter[str] = Counter()
    explored = [node for node in tree.nodes if node.edges is not None]
    found["explored nodes that are not expansions"] += abs(len(explored) - expansions)
    for node in explored:
        edges = node.edges or ()
        child_proved = any(
            it.answer == "finished" if it.target is None else tree.nodes[it.target].status == "proved" for it in edges
        )
        found["nodes proved without a proved child, or not with one"] += (node.status == "proved") != child_proved
        proof = tree.shortest_proof(node.number)
        length = float("inf") if proof is None else float(len(proof))
        found["distances that are not the length of the proof"] += node.distance != length
        state: State | Failure = node.state
        for tactic in proof or ():
            assert isinstance(state, State)
            state = graph.run(state, tactic)
        found["proofs that do not run"] += proof is not None and not (isinstance(state, State) and state.finished)
    return found


def _search_finding(budget: Budget, *, hurried: bool) -> Finding:
    graphs = budget.pick(200, 2000, 20_000)
    generator = np.random.default_rng([budget.seed, 7])
    total: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    premature = 0
    for _ in range(graphs):
        graph = _Graph(generator, hurried=hurried)

        def look(tree: ProofTree, node: Node, spent: SearchStats, graph: _Graph = graph) -> None:
            total.update(_deviations(tree, graph, spent.expansions))

        result = BestFirstProver(graph, graph, on_expansion=look).prove(Opening((), "Theorem t : reachable."))
        outcomes[result.outcome] += 1
        assert result.tree is not None
        premature += result.outcome == "failed" and graph.unanswered(result.tree)
    quantities = {**total, "searches that have failed with a tactic that never answered": premature}
    return Finding(
        [Check(quantity, equal_to(0), Estimate.exact(count)) for quantity, count in quantities.items()],
        tables={
            f"Outcomes on {graphs:,} random graphs": pd.DataFrame(
                {"outcome": list(outcomes), "graphs": list(outcomes.values())}
            )
        },
    )


@claim(
    statement="At every step of best-first search a node is proved if and only if one of its children is, its distance "
    "is the length of the proof found from it, as many nodes are explored as were expanded, and a tactic that gave no "
    "answer is no failure",
    source="Section 5 and Appendix C.3",
    evidence="measured",
)
def the_search_keeps_its_books(budget: Budget) -> Finding:
    """All expansions of searches on random graphs of states, circles included; each proof is replayed."""
    return _search_finding(budget, hurried=False)


@the_search_keeps_its_books.control
def time_outs_taken_for_failures(budget: Budget) -> Finding:
    """The same where a tactic that times out is reported as one that does not work."""
    return _search_finding(budget, hurried=True)
