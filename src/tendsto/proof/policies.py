"""What to try next: policies that suggest tactics for a state, or whole proofs for a theorem."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from tendsto.assistants.protocol import Goal, Opening, State
from tendsto.proof.corpus import Premise
from tendsto.validation import integer


class Suggestion(NamedTuple):
    """A tactic, and the natural logarithm of the probability that its policy gives it."""

    tactic: str
    log_probability: float


class PolicyUnavailable(Exception):
    """Raised by a policy that cannot suggest anything now: its model does not answer, its budget is spent."""


class TacticPolicy(Protocol):
    """Suggests what to do next in a proof."""

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        """The `k` most probable tactics in a state, or as many as there are, the most probable first.

        **Arguments**

        - `state`: the proof under way.
        - `premises`: what may help here, the best first.
        - `k`: how many to return at most.

        **Returns** different tactics, in Rocq each one sentence with its dot. Their probabilities sum to at most 1. An
        empty list says that nothing can be done here.

        **Raises** `PolicyUnavailable` if it cannot say.
        """
        ...


@runtime_checkable
class WholeProofPolicy(Protocol):
    """Writes whole proofs."""

    def propose(self, opening: Opening, n: int, temperature: float) -> list[str]:
        """At most `n` proofs of a theorem, each the text between `Proof.` and `Qed.`; none of it is checked.

        **Arguments**

        - `opening`: the theorem, where it stands.
        - `n`: how many are drawn.
        - `temperature`: 0 for the most probable; the higher, the more they differ.
        """
        ...


def ranked(weights: Mapping[str, float], k: int) -> list[Suggestion]:
    """The `k` heaviest tactics; a probability is a share of the weight of all, those left out included.

    Of equally heavy ones the first in `weights` is first. Tactics without weight are left out.
    """
    integer("k", k, low=1)
    total = math.fsum(weights.values())
    order = sorted((tactic for tactic, weight in weights.items() if weight > 0), key=lambda it: -weights[it])
    return [Suggestion(tactic, math.log(weights[tactic] / total)) for tactic in order[:k]]


class MixedPolicy:
    r"""A mixture: $p(t) = \sum_i w_i p_i(t)$.

    **Arguments**

    - `policies`: the parts, by their name or only in order.
    - `weights`: $w_i$, positive, divided by their sum; all equal by default.

    **Raises** `ValueError` if there is no policy, a weight is not positive, or their numbers differ.
    """

    def __init__(self, policies: Sequence[TacticPolicy], weights: Sequence[float] | None = None) -> None:
        if not policies:
            raise ValueError("policies: must not be empty")
        shares = [1.0] * len(policies) if weights is None else list(weights)
        if len(shares) != len(policies) or not all(0 < share < math.inf for share in shares):
            raise ValueError(f"weights: expected {len(policies)} positive numbers, got {shares}")
        self.policies = tuple(policies)
        self.weights = tuple(share / sum(shares) for share in shares)

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        """The `k` most probable tactics of the `k` most probable of each part; see `TacticPolicy.suggest`."""
        mixed: dict[str, float] = {}
        for policy, weight in zip(self.policies, self.weights, strict=True):
            for tactic, log_probability in policy.suggest(state, premises, k):
                mixed[tactic] = mixed.get(tactic, 0.0) + weight * math.exp(log_probability)
        order = sorted(mixed, key=lambda it: -mixed[it])
        return [Suggestion(tactic, math.log(mixed[tactic])) for tactic in order[:k] if mixed[tactic] > 0]


class Local(NamedTuple):
    """A name that only this goal knows: a hypothesis, or a variable that the conclusion begins with."""

    name: str
    what: str


_NAME = r"[^\W\d][\w']*"
_QUANTIFIED = re.compile(r"forall\s+(?P<binders>[^,]*),")
_BINDERS = re.compile(rf"\((?P<inner>{_NAME}(?:\s+{_NAME})*\s*:[^()]*(?:\([^()]*\)[^()]*)*)\)")
_SORTS = frozenset({"Type", "Set", "Prop"})
_WORD = re.compile(rf"{_NAME}(?:\.{_NAME})*")
_KEYWORDS = frozenset(
    ("forall", "exists", "fun", "let", "in", "if", "then", "else", "match", "with", "end", "as", "fix")
)
_STATES = re.compile(r"[=<>~∀∃]|\\/|/\\|\b(?:forall|exists|In|not|is_true)\b")


def local_names(goal: Goal) -> list[Local]:
    """The hypotheses of a goal, and the variables of the `forall` that its conclusion begins with, with their types.

    A variable without a type in the text has the type "".
    """
    found = [Local(name, what) for name, what in goal.hypotheses]
    quantified = _QUANTIFIED.match(goal.conclusion)
    if quantified is None:
        return found
    binders = quantified["binders"]
    groups = [it["inner"] for it in _BINDERS.finditer(binders)] or [binders]
    for group in groups:
        names, _, what = group.partition(":")
        found += [Local(name, what.strip()) for name in names.split() if re.fullmatch(_NAME, name)]
    return found


def data_names(goal: Goal) -> list[str]:
    """The local names of a goal that look like data of a known kind; a guess from their types.

    Neither statements, nor functions, nor types; nor elements of a type that is itself a local name.
    """
    local = local_names(goal)
    own = {it.name for it in local}
    return [it.name for it in local if it.what not in _SORTS | own and not _STATES.search(it.what)]


def short_name(premise: Premise) -> str:
    """The last part of a premise's name, by which a file that imports its library can call it."""
    return premise.full_name.rpartition(".")[2]


class _Templates(NamedTuple):
    """Tactics and their weights: for every goal, for a variable, a hypothesis, a theorem, a definition."""

    goal: Mapping[str, float]
    variable: Mapping[str, float]
    hypothesis: Mapping[str, float]
    theorem: Mapping[str, float]
    definition: Mapping[str, float]


_TEMPLATES: Mapping[str, _Templates] = {
    "vanilla": _Templates(
        {
            "reflexivity.": 3,
            "assumption.": 2,
            "easy.": 3,
            "auto.": 2,
            "congruence.": 2,
            "intros.": 6,
            "simpl.": 4,
            "split.": 1,
            "constructor.": 1,
            "left.": 0.5,
            "right.": 0.5,
            "f_equal.": 1,
        },
        {"induction {}.": 3, "destruct {}.": 2},
        {"rewrite {}.": 2, "rewrite <- {}.": 1, "apply {}.": 2, "destruct {}.": 1},
        {"rewrite {}.": 3, "apply {}.": 3, "rewrite <- {}.": 1.5, "exact {}.": 1},
        {"unfold {}.": 1.5},
    ),
    "ssreflect": _Templates(
        {"by [].": 4, "move=> *.": 4, "rewrite /=.": 2, "rewrite //=.": 2, "split.": 1, "congr (_ _).": 0.5},
        {"case: {}.": 2, "elim: {}.": 3},
        {"rewrite {}.": 2, "rewrite -{}.": 1, "apply: {}.": 2, "by apply: {}.": 1, "case: {}.": 1},
        {
            "rewrite {}.": 3,
            "apply: {}.": 2,
            "rewrite -{}.": 1.5,
            "by rewrite {}.": 3,
            "by apply: {}.": 2,
            "exact: {}.": 1,
        },
        {"rewrite /{}.": 1.5},
    ),
    "lean": _Templates(
        {
            "rfl": 3,
            "assumption": 2,
            "simp": 4,
            "simp_all": 3,
            "omega": 3,
            "intros": 2,
            "intro h{}": 5,
            "constructor": 1,
            "left": 0.5,
            "right": 0.5,
            "ext": 0.5,
            "contradiction": 1,
            "norm_num": 1,
            "ring": 1,
            "aesop": 1,
        },
        {"induction {}": 3, "cases {}": 2, "induction {} <;> simp_all": 2},
        {"rw [{}]": 2, "rw [← {}]": 1, "apply {}": 2, "cases {}": 1, "simp at {}": 1},
        {"rw [{}]": 3, "apply {}": 3, "rw [← {}]": 1.5, "exact {}": 1, "simp [{}]": 2, "simp_all [{}]": 1},
        {"unfold {}": 1.5, "simp [{}]": 1.5},
    ),
}


@dataclass(frozen=True)
class PremiseTemplates:
    """A policy without a model: templates filled with the retrieved premises and the names of the goal.

    A template that is filled with the premise of rank r (the best has rank 0) weighs its own weight, written in the
    table of its flavour, over r + 1. One that is filled with one of n local names, or one of n names that the
    conclusion mentions, weighs its own over n. Probabilities are shares of the weight of all.

    - For every goal: `reflexivity`, `assumption`, `easy`, `auto`, `congruence`, `intros`, `simpl`, `split`,
      `constructor`, `left`, `right`, `f_equal`; or `by []`, `move=> *`, `rewrite /=`, `rewrite //=`, `split`, `congr`.
    - For a hypothesis that looks like a statement (it has `=`, `<`, `forall`, …): `rewrite`, in both directions,
      `apply`, `destruct`; for another, or a variable that the conclusion begins with, `induction` and `destruct`; or
      ssreflect's `elim`, `case`.
    - For a premise: `rewrite`, in both directions, `apply`, `exact`; or ssreflect's, also after `by`. For a
      definition, a premise or mentioned in the conclusion: `unfold`, or `rewrite /…`.

    In Lean these are the tactics of the same meaning, with `simp`, `omega` and others beside them; premises go by their
    full names, and `intro` takes a name that has the number of hypotheses in it.

    **Arguments**

    - `flavour`: `vanilla`, Rocq's own tactics, `ssreflect`, or `lean`.

    **Raises** `ValueError` for another flavour.
    """

    flavour: Literal["vanilla", "ssreflect", "lean"] = "vanilla"

    def __post_init__(self) -> None:
        if self.flavour not in _TEMPLATES:
            raise ValueError(f"flavour: must be one of {', '.join(_TEMPLATES)}, got {self.flavour!r}")

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        """The `k` heaviest filled templates; see `TacticPolicy.suggest`."""
        if not state.goals:
            return []
        goal, templates = state.goals[0], _TEMPLATES[self.flavour]
        number = len(goal.hypotheses)
        weights: dict[str, float] = {template.format(number): weight for template, weight in templates.goal.items()}
        data = data_names(goal)
        facts = [name for name, what in goal.hypotheses if _STATES.search(what)]
        _fill(weights, templates.variable, data, 1 / max(1, len(data)))
        _fill(weights, templates.hypothesis, facts, 1 / max(1, len(facts)))
        own = {it.name for it in local_names(goal)}
        words = dict.fromkeys(it for it in _WORD.findall(goal.conclusion) if it not in own | _KEYWORDS | _SORTS)
        _fill(weights, templates.definition, words, 1 / max(1, len(words)))
        for rank, premise in enumerate(premises):
            defined = premise.kind in ("definition", "instance")
            name = premise.full_name if self.flavour == "lean" else short_name(premise)
            _fill(weights, templates.definition if defined else templates.theorem, [name], 1 / (rank + 1))
        return ranked(weights, k)


def _fill(weights: dict[str, float], templates: Mapping[str, float], names: Iterable[str], factor: float) -> None:
    for name in names:
        for template, weight in templates.items():
            tactic = template.format(name)
            weights[tactic] = weights.get(tactic, 0.0) + weight * factor
