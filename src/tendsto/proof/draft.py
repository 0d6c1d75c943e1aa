"""Draft, sketch and prove: a sketch from a language model or a user, its errors masked, its holes filled."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from tendsto.assistants import Opening, ProofSession, State
from tendsto.evidence import Estimate
from tendsto.files import write_atomically
from tendsto.proof.filling import FillReport, HoleCache, Solver, Worker, fill_holes
from tendsto.proof.hybrid import Automation
from tendsto.proof.policies import PolicyUnavailable, TacticPolicy
from tendsto.proof.search import BestFirstProver, Check, PremiseSelector, ProofResult
from tendsto.proof.sketch import Unusable, mask_errors
from tendsto.validation import integer

DRAFT_PROMPT = """Prove the following theorem on paper. Answer with numbered steps, each under a heading `### Step i:`.
A step holds exactly one equation or inequality, with all of its calculation; leave out explanations.

{statement}
"""

SKETCH_PROMPT = """Turn a proof on paper into a sketch for the Rocq prover. Each step becomes a claim, such as
`assert (step1 : P). {{ prove_with [h, step0]. }}`; `prove_with` names the hypotheses and earlier steps that suffice.
Make many small claims. Use `induction`, `destruct` and bullets where the proof does. State a claim of the integers with
the scope `%Z` and one of the reals with `%R`. Divisions and subtractions need a type. Give the tactics between `Proof.`
and `Qed.`, in one code block, and nothing else. For example:

```
assert (step1 : n * n <= n * m). {{ prove_with [H]. }}
assert (step2 : n * m <= m * m). {{ prove_with [H]. }}
prove_with [step1, step2].
```

The theorem:

{statement}

The proof on paper:

{draft}
"""

_THOUGHT = re.compile(r".*</think>", re.DOTALL)
_FENCED = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL)


class TextModel(Protocol):
    """A language model that answers a prompt; `ChatModel` is one."""

    def complete(self, prompt: str, *, temperature: float, top_p: float, max_tokens: int) -> str:
        """The answer to one prompt."""
        ...


@dataclass(frozen=True)
class Attempt:
    """One run of draft, sketch and prove.

    **Arguments**

    - `number`: from 0.
    - `draft`, `sketch`: what the models, or the user, wrote.
    - `outcome`: `proved`; `open` (some hole stays so); `unusable` (no sketch could be made); or `rejected` (the final
      check does not accept the whole).
    - `script`: the sketch with what was filled in.
    - `masked`, `holes`, `filled`: how many parts were taken out, and how many holes there were and were filled.
    - `reason`: why it is not proved.
    """

    number: int
    draft: str
    sketch: str
    outcome: Literal["proved", "open", "unusable", "rejected"]
    script: str = ""
    masked: int = 0
    holes: int = 0
    filled: int = 0
    reason: str = ""


@dataclass(frozen=True)
class DraftReport:
    """All attempts at a theorem, in their order.

    **Arguments**

    - `attempts`: those that were made.
    """

    attempts: tuple[Attempt, ...]

    @property
    def proof(self) -> str:
        """The first proof that was accepted; empty if none was."""
        return next((it.script for it in self.attempts if it.outcome == "proved"), "")

    @property
    def successes(self) -> int:
        """How many attempts proved the theorem."""
        return sum(it.outcome == "proved" for it in self.attempts)


@dataclass(frozen=True)
class DraftSketchProve:
    """Draft, sketch, prove, with errors masked and holes filled under hints (DSP+).

    An attempt asks one model for a terse proof on paper, cuts its thoughts off, asks another for a sketch, masks what
    the assistant does not accept of that, and fills the holes: with what the hints name alone, then with all
    (`fill_holes`). The whole is checked at the end, the statement compared as a term and not as a text.

    With `draft=None` and a user's own text as `sketch` no language model is needed, and one attempt is all.

    **Arguments**

    - `session_factory`: opens a session, one for each worker; `RocqSession` is one.
    - `draft`: writes proofs on paper; None for none.
    - `sketch`: writes sketches: a model, or the sketch itself, or a function from the theorem, the draft and the number
      of the attempt to one.
    - `step_policy`: suggests tactics for what automation leaves open; may be None.
    - `automation`: proves goals by itself, a `Portfolio`; may be None.
    - `attempts`: how many (the paper: 32, and 1 to 1024).
    - `folder`: each attempt is written there, draft and sketch before they are used; a run that is stopped goes on
      from what is there.
    - `stop_at_first`: make no further attempt after one that proves the theorem.
    - `use_hints`: see `fill_holes`.
    - `num_tactics`, `step_seconds`, `max_expansions`: of the search for each hole (the paper keeps 4 tactics of 8 in a
      state, in trees of 64).
    - `retriever`: selects premises for the step policy.
    - `workers`: how many holes are worked at together.
    - `check`: the final check, by default `Rocq().check_proof`.

    **Raises** `ValueError` or `TypeError` for arguments out of range.

    Source: Cao et al., "Reviving DSP for Advanced Theorem Proving in the Era of Reasoning Models" (2025), for Lean.
    Here: the masking is on the syntax tree; automation is tried before the step policy, both on one state.
    """

    session_factory: Callable[[], Worker]
    draft: TextModel | None = None
    sketch: str | TextModel | Callable[[Opening, str, int], str] = ""
    step_policy: TacticPolicy | None = None
    automation: Automation | None = None
    attempts: int = 32
    folder: Path | None = None
    stop_at_first: bool = True
    use_hints: bool = True
    num_tactics: int = 4
    step_seconds: float = 60.0
    max_expansions: int = 64
    retriever: PremiseSelector | None = None
    workers: int = 1
    check: Check | None = None

    def __post_init__(self) -> None:
        for name in ("attempts", "num_tactics", "max_expansions", "workers"):
            integer(name, getattr(self, name), low=1)
        if isinstance(self.sketch, str) and not self.sketch.strip():
            raise ValueError("sketch: must not be empty; a model, or the text of a sketch")
        if self.automation is None and self.step_policy is None:
            raise ValueError("automation: must not be None where step_policy is; nothing would fill a hole")

    def prove(self, opening: Opening, *, on_attempt: Callable[[Attempt], None] | None = None) -> DraftReport:
        """Make attempts at a theorem; those that lie in the folder count as made.

        A model that does not answer, or has spent its budget, ends them; the last attempt says so.

        **Raises** `ValueError` if the folder holds attempts at another theorem.
        """
        made: list[Attempt] = []
        cache = HoleCache()
        alone = isinstance(self.sketch, str)
        for number in range(1 if alone else self.attempts):
            try:
                attempt = self._attempt(opening, number, cache)
            except PolicyUnavailable as error:  # not kept: the next run asks again
                made.append(Attempt(number, "", "", "open", reason=str(error)))
                break
            made.append(attempt)
            if on_attempt is not None:
                on_attempt(attempt)
            if attempt.outcome == "proved" and self.stop_at_first:
                break
        return DraftReport(tuple(made))

    def _attempt(self, opening: Opening, number: int, cache: HoleCache) -> Attempt:
        record = _Record.open(self.folder, number, opening)
        if "outcome" in record.found:
            return Attempt(**{name: record.found[name] for name in Attempt.__dataclass_fields__})
        draft = record.once("draft", lambda: self._draft(opening))
        text = record.once("sketch", lambda: self._sketch(opening, draft, number))
        attempt = self._prove(opening, Attempt(number, draft, text, "open"), cache)
        record.write(**asdict(attempt))
        return attempt

    def _draft(self, opening: Opening) -> str:
        if self.draft is None:
            return ""
        prompt = DRAFT_PROMPT.format(statement=_shown(opening))
        return after_thought(self.draft.complete(prompt, temperature=0.6, top_p=0.95, max_tokens=32_768))

    def _sketch(self, opening: Opening, draft: str, number: int) -> str:
        if isinstance(self.sketch, str):
            return self.sketch
        if callable(self.sketch):
            return self.sketch(opening, draft, number)
        prompt = SKETCH_PROMPT.format(statement=_shown(opening), draft=draft or "(none)")
        return code_block(self.sketch.complete(prompt, temperature=0.7, top_p=0.95, max_tokens=32_768))

    def _prove(self, opening: Opening, attempt: Attempt, cache: HoleCache) -> Attempt:
        with self.session_factory() as session:
            masked = mask_errors(attempt.sketch, session, opening)
        if isinstance(masked, Unusable):
            return Attempt(attempt.number, attempt.draft, attempt.sketch, "unusable", reason=masked.reason)
        report = fill_holes(
            masked,
            self.session_factory,
            self._solvers(),
            use_hints=self.use_hints,
            workers=self.workers,
            cache=cache,
            check=self.check,
        )
        return Attempt(
            attempt.number,
            attempt.draft,
            attempt.sketch,
            "proved" if report.proved else "open" if report.certificate is None else "rejected",
            report.script,
            len(masked.masked),
            len(masked.holes),
            sum(bool(it.proof) for it in report.fillings),
            _reason(report),
        )

    def _solvers(self) -> Mapping[str, Solver]:
        solvers: dict[str, Solver] = {}
        if self.automation is not None:
            solvers["automation"] = self.automation.solve
        if (policy := self.step_policy) is not None:

            def search(session: ProofSession, state: State) -> ProofResult:
                prover = BestFirstProver(
                    session,
                    policy,
                    self.retriever,
                    num_tactics=self.num_tactics,
                    seconds=self.step_seconds,
                    max_expansions=self.max_expansions,
                )
                return prover.prove(state)

            solvers["tactic"] = search
        return solvers


def after_thought(answer: str) -> str:
    """What a reasoning model says once it has thought: all that comes after its last `</think>`."""
    return _THOUGHT.sub("", answer).strip()


def code_block(answer: str) -> str:
    """The last block of code in an answer, its thoughts cut off; the whole answer if there is none."""
    said = after_thought(answer)
    blocks = _FENCED.findall(said)
    return (blocks[-1] if blocks else said).strip()


def pass_at_k(successes: ArrayLike, attempts: int, k: int, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    r"""The probability that one of `k` attempts succeeds, over all theorems, from `attempts` made at each.

    With $c$ of $n$ attempts that succeeded, $1 - \binom{n-c}{k} / \binom{n}{k}$ is an unbiased estimate for a theorem;
    it does not depend on the order of the attempts. The mean over the theorems has a bootstrap interval (percentiles,
    theorems drawn with replacement).

    **Arguments**

    - `successes`: for each theorem how many attempts proved it, integers in `[0, attempts]`.
    - `attempts`: $n$.
    - `k`: at most `attempts`.
    - `confidence`: of the interval. `seed`: of the bootstrap.

    **Raises** `ValueError` or `TypeError` for numbers out of range.
    """
    integer("attempts", attempts, low=1)
    integer("k", k, low=1, high=attempts)
    counts = np.asarray(successes)
    if counts.ndim != 1 or counts.size == 0 or not np.issubdtype(counts.dtype, np.integer):
        raise TypeError(f"successes: expected integers, one a theorem, got {successes!r}")
    if counts.min() < 0 or counts.max() > attempts:
        raise ValueError(f"successes: must lie in [0, {attempts}], got {counts.min()} to {counts.max()}")
    chances = 1.0 - stats.hypergeom.pmf(0, attempts, counts, k)
    value = float(chances.mean())
    if np.ptp(chances) == 0.0:
        return Estimate(value, value, value, f"all {counts.size} theorems alike")
    drawn = np.random.default_rng(seed).choice(chances, size=(2000, counts.size)).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, low, high, f"{100 * confidence:.4g}% bootstrap interval, {counts.size} theorems")


def _shown(opening: Opening) -> str:
    return "\n".join([*opening.before, opening.statement])


def _reason(report: FillReport) -> str:
    if report.certificate is not None:
        return "" if report.proved else report.certificate.messages
    left = [it for it in report.fillings if not it.proof]
    return "; ".join(f"hole {it.hole.id}: {it.reason or it.outcome}" for it in left)


@dataclass(frozen=True)
class _Record:
    """The file of one attempt: what is known of it so far."""

    path: Path | None
    found: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | None, number: int, opening: Opening) -> _Record:
        theorem = hashlib.sha256(_shown(opening).encode()).hexdigest()
        if folder is None:
            return cls(None, {"theorem": theorem})
        path = folder / f"attempt-{number:04d}.json"
        if not path.exists():
            return cls(path, {"theorem": theorem})
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("theorem") != theorem:
            raise ValueError(f"folder: {path} is an attempt at another theorem")
        return cls(path, found)

    def once(self, name: str, make: Callable[[], str]) -> str:
        """What is known by this name, or is made now and kept."""
        if name not in self.found:
            self.write(**{name: make()})
        return str(self.found[name])

    def write(self, **more: Any) -> None:
        """Add to the file."""
        self.found.update(more)
        if self.path is not None:
            with write_atomically(self.path) as stream:
                stream.write(json.dumps(self.found, indent=1).encode())
