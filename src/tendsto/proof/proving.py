"""Prove what a project leaves open, with all means at hand: automation, what is left of earlier attempts, search.

For Rocq that is all of it; the gaps of a Lean file are filled by Lean's own automation, then by search."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tendsto.assistants import Certificate, Failure, Lean, ProofSession, Rocq, RocqSession, State
from tendsto.files import write_atomically
from tendsto.proof.automation import IMPORTS, Portfolio, PremiseAutomation
from tendsto.proof.filling import fill_holes
from tendsto.proof.hybrid import HybridProver
from tendsto.proof.lean_file_session import ADDRESS_SPACE
from tendsto.proof.lean_proving import LEAN_CLOSERS, LeanSearch, fill_gaps
from tendsto.proof.nearest_tactics import NearestNeighbourTactics
from tendsto.proof.policies import (
    MixedPolicy,
    PolicyUnavailable,
    PremiseTemplates,
    TacticPolicy,
    WholeProofPolicy,
)
from tendsto.proof.project import (
    OpenLeanTheorem,
    OpenTheorem,
    Project,
    lean_around,
    patch,
    with_imports,
    with_proofs,
)
from tendsto.proof.rocq_file import written_proofs
from tendsto.proof.search import BestFirstProver
from tendsto.proof.sketch import Unusable, mask_errors
from tendsto.proof.surroundings import known_tactics, ranked_premises
from tendsto.validation import integer, positive
from tendsto.workers import Failure as Lost
from tendsto.workers import run_tasks

LEARNED = 50
"""How many of the proofs before a theorem the search learns its tactics from, the last ones."""

QUICK = ("reflexivity.", "assumption.", "easy.", "lia.", "lra.", "ring.", "auto with *.")
"""The automation that is tried in every state of a search, for it fails fast."""

CANDIDATES = 8
"""How many whole proofs a model is asked for."""

TACTIC_SECONDS = 2.0
"""Wall time for one tactic in a search."""

Outcome = Literal["proved", "open", "broken"]


@dataclass(frozen=True)
class Means:
    """What may be used to prove a theorem.

    **Arguments**

    - `seconds`: wall time for each theorem. The final check is not counted, nor, in Rocq, what the file before the
      theorem takes.
    - `corpus`: a folder that `Corpus.to_leandojo` wrote; None for the file's own theorems only.
    - `imports`: sentences that may be put before a theorem for its proof; what is not installed is left out, and so is
      in the end what a proof does without.
    - `policy`: suggests tactics beside those at hand, and whole proofs if it can: a language model, `ChatModel`.
    - `closers`: what is tried first in the gaps of a Lean proof, `by omega`; `imports` are not for Lean.
    """

    seconds: float = 60.0
    corpus: str | None = None
    imports: tuple[str, ...] = IMPORTS
    policy: TacticPolicy | None = None
    closers: tuple[str, ...] = LEAN_CLOSERS

    def __post_init__(self) -> None:
        positive("seconds", self.seconds)


@dataclass(frozen=True)
class Finding:
    """What came of one theorem.

    **Arguments**

    - `path`, `name`: the theorem.
    - `outcome`: `proved`; `open`; or `broken`: the assistant does not accept the file before it.
    - `by`: what found the proof: `automation`, `attempt` (what stood there already, its gaps filled), `model` (a whole
      proof of the policy, or its sketch, its gaps filled) or `search`.
    - `proof`: the text between `Proof.` and `Qed.`; in Lean, what follows the theorem's name.
    - `imports`: what has to stand before the theorem for it.
    - `axioms`: what the proof rests on.
    - `reason`: why there is no proof.
    - `seconds`: wall time.
    """

    path: str
    name: str
    outcome: Outcome
    by: str = ""
    proof: str = ""
    imports: tuple[str, ...] = ()
    axioms: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Task:
    theorem: OpenTheorem
    project: Project | Lean
    means: Means
    place: Path | None


def prove(
    theorems: Sequence[OpenTheorem],
    means: Means,
    *,
    store: str | os.PathLike[str] | None = None,
    retry: bool = False,
    workers: int = 1,
    cluster: str | None = None,
    on_start: Callable[[OpenTheorem], None] | None = None,
) -> Iterator[tuple[OpenTheorem, Finding]]:
    """Try to prove theorems, several at a time; each as its finding lands.

    A proof counts only if `Rocq().check_proof` accepts it, in a fresh process, where the theorem stands; one in Lean as
    `fill_gaps` says.

    **Arguments**

    - `theorems`: of one or several files.
    - `store`: a folder for findings, one file each; a theorem whose finding is there with the same text before it and
      the same means is not tried again. A killed run so loses the theorems in flight only.
    - `retry`: try again what the store says is open.
    - `workers`, `cluster`: as in `run_tasks`.
    - `on_start`: called as a theorem is begun.

    Where an attempt itself goes wrong (a worker dies, the corpus is damaged), the theorem is `open` for this reason.
    That is not stored, and the others go on.

    **Raises** `NotInstalled` without the assistant; `OSError` for a store that cannot be read or written, or a corpus
    that is not there; `ValueError` for a project file or a finding in the store that is malformed.
    """
    integer("workers", workers, low=1)
    of_files = {theorem.path: theorem for theorem in theorems}
    projects = {path: _project(theorem) for path, theorem in of_files.items()}
    if means.corpus is not None and not (known_corpus := Path(means.corpus) / "corpus.jsonl").is_file():
        raise FileNotFoundError(f"corpus: {known_corpus} is missing; `tendsto corpus build` writes one")
    tasks = []
    for theorem in theorems:
        project = projects[theorem.path]
        place = None if store is None else Path(store) / _file_name(theorem, project, means)
        known = _stored(place, theorem)
        if known is not None and not (retry and known.outcome != "proved"):
            yield theorem, known
        else:
            tasks.append(_Task(theorem, project, means, place))

    def begin(task: _Task) -> None:
        if on_start is not None:
            on_start(task.theorem)

    try:
        for task, result in run_tasks(_attempted, tasks, workers=workers, cluster=cluster, on_start=begin):
            if isinstance(result, Lost):
                yield task.theorem, Finding(str(task.theorem.path), task.theorem.name, "open", reason=result.reason)
                continue
            if task.place is not None:
                with write_atomically(task.place) as stream:
                    stream.write(json.dumps(asdict(result), ensure_ascii=False, indent=1).encode())
            yield task.theorem, result
    finally:
        while _SESSIONS:
            _SESSIONS.popitem()[1].close()


def _project(theorem: OpenTheorem) -> Project | Lean:
    if isinstance(theorem, OpenLeanTheorem):
        return lean_around(theorem.path)
    RocqSession()  # says so at once if Rocq is missing
    return Project.around(theorem.path)


def _file_name(theorem: OpenTheorem, project: Project | Lean, means: Means) -> str:
    if isinstance(project, Lean):
        told: list[Any] = [
            project.command,
            [str(it) for it in project.path],
            project.options,
            means.seconds,
            means.closers,
        ]
        told += [means.corpus, repr(means.policy)] if means.corpus or means.policy else []
    else:
        told = [project.options, means.seconds, means.corpus, means.imports, repr(means.policy)]
    key = json.dumps([theorem.before, theorem.statement, theorem.attempt, *told])
    return f"{theorem.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _stored(place: Path | None, theorem: OpenTheorem) -> Finding | None:
    if place is None or not place.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(place.read_bytes())
        lists = {name: tuple(content[name]) for name in ("imports", "axioms")}
        return replace(Finding(**{**content, **lists}), path=str(theorem.path))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"store: {place} holds no finding ({error}); remove it to try the theorem again") from None


@dataclass(frozen=True)
class Patch:
    """What was written.

    **Arguments**

    - `path`: the patch; `root`: the folder that the paths in it are relative to.
    """

    path: Path
    root: Path


def write_patch(found: Mapping[OpenTheorem, Finding], folder: str | os.PathLike[str]) -> Patch:
    """Write `proofs.patch` with what is proved.

    **Raises** `OSError` if it cannot be written, `ValueError` if a file has changed in the meantime.
    """
    proofs, imports = _proved(found)
    root = Path(os.path.commonpath([theorem.path.resolve().parent for theorem in proofs])) if proofs else Path.cwd()
    target = Path(folder) / "proofs.patch"
    with write_atomically(target) as stream:
        stream.write(patch(proofs, imports, root=root).encode())
    return Patch(target, root)


def troubles(found: Mapping[OpenTheorem, Finding], *, seconds: float = 600.0) -> Iterator[tuple[Path, str]]:
    """The files that do not compile with all their proofs together, and what the assistant says against each.

    Each proof was checked alone; this is for all of them, with the imports of all.

    **Arguments**

    - `seconds`: wall time for each file.

    **Raises** `ValueError` if a file has changed in the meantime.
    """
    proofs, imports = _proved(found)
    for path in sorted({theorem.path for theorem in proofs}):
        own = {theorem: proof for theorem, proof in proofs.items() if theorem.path == path}
        whole = with_proofs(path.read_text(encoding="utf-8"), own, imports)
        if path.suffix == ".lean":
            yield from _lean_troubles(path, whole, seconds)
            continue
        project = Project.around(path)
        certificate = Rocq().check_proof(
            whole,
            "Lemma whole_file : True.",
            "exact I.",
            options=project.options,
            directories=project.directories,
            recheck=False,
            seconds=seconds,
        )
        if not certificate.accepted:
            yield path, next(iter(certificate.theorems.values())).reason


def _lean_troubles(path: Path, whole: str, seconds: float) -> Iterator[tuple[Path, str]]:
    outcome, said = lean_around(path).read(whole, seconds=seconds, memory=ADDRESS_SPACE)
    if outcome != "accepted":
        yield path, next((message.text for message in said if message.severity == "error"), outcome)


def _proved(
    found: Mapping[OpenTheorem, Finding],
) -> tuple[dict[OpenTheorem, str], dict[OpenTheorem, tuple[str, ...]]]:
    proved = {theorem: finding for theorem, finding in found.items() if finding.outcome == "proved"}
    return (
        {theorem: finding.proof for theorem, finding in proved.items()},
        {theorem: finding.imports for theorem, finding in proved.items()},
    )


_SESSIONS: dict[Project, RocqSession] = {}
"""This process's own: theorems of one file follow each other in one, and what stands between them is run once."""


def _attempted(task: _Task) -> Finding | Lost:
    try:
        return _prove(task)
    except Exception as error:
        return Lost(f"{type(error).__name__}: {error}")


def _prove(task: _Task) -> Finding:
    started = time.monotonic()
    theorem, project, means = task.theorem, task.project, task.means
    if isinstance(project, Lean):
        assert isinstance(theorem, OpenLeanTheorem)
        search = LeanSearch(means.corpus, str(theorem.path), theorem.before)
        proof = fill_gaps(
            theorem,
            project,
            means.closers,
            policy=search,
            premises=search,
            model=means.policy,
            seconds=means.seconds,
        )
        found = Finding(
            str(theorem.path), theorem.name, proof.outcome, proof.by, proof.body, (), proof.axioms, proof.reason
        )
    else:
        session = _SESSIONS.get(project)
        if session is None:
            session = RocqSession(project.options, directories=project.directories)
            _SESSIONS[project] = session
        found = _Prover(theorem, project, means, session, means.policy).find()
    return replace(found, seconds=time.monotonic() - started)


@dataclass
class _Prover:
    theorem: OpenTheorem
    project: Project
    means: Means
    session: RocqSession
    policy: TacticPolicy | None  # None once it is unavailable
    deadline: float = 0.0  # set when the file before the theorem has been read

    def find(self) -> Finding:
        theorem = self.theorem
        none = Finding(str(theorem.path), theorem.name, "open")
        imports = _installed(self.means.imports)
        start = self.session.start(with_imports(theorem.before, imports), theorem.statement)
        if isinstance(start, Failure) and imports:  # they may not go together with what the file has
            imports = ()
            start = self.session.start(theorem.before, theorem.statement)
        if isinstance(start, Failure):
            return replace(none, outcome="broken" if start.kind == "error" else "open", reason=start.message)
        self.deadline = time.monotonic() + self.means.seconds
        reasons = []
        ways = {
            "automation": self._automation,
            "attempt": self._attempt,
            "model": self._model,
            "search": self._search,
        }
        for by, means in ways.items():
            if self._left() <= 0:
                break
            proof, reason = means(start)
            if not proof:
                reasons += [f"{by}: {reason}"] if reason else []
                continue
            needed, certificate = self._certify(proof, imports)
            (said,) = certificate.theorems.values()
            if certificate.accepted:
                return replace(none, outcome="proved", by=by, proof=proof, imports=needed, axioms=said.axioms)
            reasons.append(f"{by}: what it found is not accepted: {said.reason}")
        return replace(none, reason="; ".join(reasons) or "out of time")

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    def _limited(self, share: float) -> _UntilDeadline:
        """The session, for a share of the time that is left."""
        return _UntilDeadline(self.session, time.monotonic() + share * self._left())

    def _portfolio(self, share: float) -> Portfolio:
        """The automation within a share of the time that is left, the hammer with half of it."""
        closers = Portfolio().closers
        half = 0.5 * share * self._left()
        limits = [half if closer.tactic == "hammer." else half / len(closers) for closer in closers]
        return Portfolio(
            tuple(
                closer._replace(seconds=max(0.1, min(closer.seconds, limit)))
                for closer, limit in zip(closers, limits, strict=True)
            )
        )

    def _automation(self, start: State) -> tuple[str, str]:
        result = self._portfolio(0.5).solve(self._limited(0.5), start)
        return result.script, result.reason

    def _attempt(self, start: State) -> tuple[str, str]:
        attempt = self.theorem.attempt
        if not attempt:
            return "", ""
        sketch = mask_errors(attempt, self._limited(0.5), start.opening)
        if isinstance(sketch, Unusable):
            return "", sketch.reason
        portfolio = self._portfolio(0.5 / max(1, len(sketch.holes)))
        report = fill_holes(sketch, lambda: nullcontext(self._limited(0.5)), portfolio.solve, check=_accept)
        left = [filling.hole.goal for filling in report.fillings if not filling.proof]
        if left:
            return "", f"{len(left)} of {len(report.fillings)} gaps are left"
        return report.script, ""

    def _model(self, start: State) -> tuple[str, str]:
        policy: object = self.policy
        if not isinstance(policy, WholeProofPolicy):
            return "", ""
        quick = tuple(closer for closer in self._portfolio(0.2).closers if closer.tactic in QUICK)
        session = functools.cache(lambda: self._limited(0.5))  # of the time that is left once the model has answered
        try:
            report = HybridProver(
                lambda: nullcontext(session()),
                policy,
                automation=Portfolio(quick),
                n_candidates=CANDIDATES,
                max_sketches=CANDIDATES,
                keep_proved=True,
                check=_accept,
                tactic_seconds=TACTIC_SECONDS,
            ).prove(start.opening)
        except PolicyUnavailable as error:
            self.policy = None  # the search goes on without it
            return "", str(error)
        return report.proof, report.reason

    def _search(self, start: State) -> tuple[str, str]:
        theorem = self.theorem
        flavour: Literal["vanilla", "ssreflect"] = "ssreflect" if "ssreflect" in theorem.before else "vanilla"
        session = self._limited(1.0)
        loaded = Portfolio().loaded(session, start)
        policies: list[TacticPolicy] = [PremiseTemplates(flavour)]
        if quick := tuple(closer for closer in loaded if closer.tactic in QUICK):
            policies.append(Portfolio(quick))
        if any("hauto" in closer.tactic for closer in loaded):
            policies.append(PremiseAutomation())
        known = (self._learned(time.monotonic() + 0.25 * self._left()), known_tactics(self.means.corpus))
        policies += [learned for learned in known if len(learned)]
        if self.policy is not None:
            policies.append(self.policy)
        prover = BestFirstProver(
            session,
            MixedPolicy(policies),
            ranked_premises(self.means.corpus, str(theorem.path), theorem.before),
            num_premises=16,
            seconds=max(1.0, self._left()),
            tactic_seconds=TACTIC_SECONDS,
        )
        result = prover.prove(start)
        return result.script, result.reason

    def _learned(self, deadline: float) -> NearestNeighbourTactics:
        """The tactics of the proofs that stand before the theorem in its file."""
        policy, session = NearestNeighbourTactics(), _UntilDeadline(self.session, deadline)
        proofs = [it for it in written_proofs(self.theorem.before) if it.end == "Qed."]
        for written in proofs[-LEARNED:]:
            if time.monotonic() > deadline:
                break
            policy.learn_proof(session, written.opening, written.proof, seconds=5.0)
        return policy

    def _certify(self, proof: str, imports: tuple[str, ...]) -> tuple[tuple[str, ...], Certificate]:
        """The check of a proof with as few of the imports as it needs, and which these are."""
        theorem, project = self.theorem, self.project
        check = functools.partial(Rocq().check_proof, options=project.options, directories=project.directories)
        for needed in dict.fromkeys([(), *((one,) for one in imports), imports]):
            certificate = check(with_imports(theorem.before, needed), theorem.statement, proof)
            if certificate.accepted:
                break
        return needed, certificate


@dataclass(frozen=True)
class _UntilDeadline:
    """A session that runs tactics until a deadline; what was begun by then is stopped."""

    session: ProofSession
    deadline: float

    def start(self, before: str, statement: str, *, seconds: float = 600.0) -> State | Failure:
        return self.session.start(before, statement, seconds=seconds)

    def run(self, state: State, tactic: str, *, seconds: float = 10.0) -> State | Failure:
        left = self.deadline - time.monotonic()
        if left <= 0:
            return Failure("timed out", "no time is left")
        return self.session.run(state, tactic, seconds=min(seconds, left))

    def close(self) -> None:
        self.session.close()


def _accept(before: str, statement: str, proof: str) -> Certificate:
    """No check yet: what is found is certified with all else."""
    del before, statement, proof
    return Certificate("accepted", {}, "", 0.0, "", "", "")


@functools.cache
def _installed(imports: tuple[str, ...]) -> tuple[str, ...]:
    with RocqSession() as session:
        return tuple(one for one in imports if isinstance(session.start(one, "Goal True."), State))
