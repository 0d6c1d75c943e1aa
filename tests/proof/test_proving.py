"""What a project admits is proved: which means find what, what is kept, and that nothing uncertified counts."""

import shutil
import subprocess
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tendsto.assistants import NotInstalled, RocqSession
from tendsto.proof import Corpus, proving
from tendsto.proof.policies import PolicyUnavailable
from tendsto.proof.project import open_theorems, with_proofs
from tendsto.proof.proving import Means, prove
from tendsto.proof.sketch import mask_errors

pytestmark = pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")

FILE = """From Coq Require Import Arith.
Lemma linear (a b : nat) : a < b -> a + 1 <= b.
Proof.
Admitted.
Inductive tree := leaf | node (l r : tree).
Fixpoint mirror t := match t with leaf => leaf | node l r => node (mirror r) (mirror l) end.
Lemma twice t : mirror (mirror t) = t.
Admitted.
Definition opaque (n : nat) : nat. Proof. exact (n * n). Qed.
Lemma from_attempt (n m : nat) : opaque n = m -> opaque (n + 0) = m /\\ mirror leaf = leaf.
Proof.
  intros h. split.
  - assert (z : n + 0 = n).
    { nonsense. }
    rewrite z. exact h.
  - admit.
Admitted.
Lemma wrong (n : nat) : n < n.
Admitted.
"""
MEANS = Means(seconds=6.0, imports=("From Coq Require Import Lia.",))


@pytest.fixture(scope="module")
def proved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "file.v").write_text(FILE)
    store = folder / "store"
    return folder, store, dict(prove(open_theorems(folder / "file.v"), MEANS, store=store))


def test_each_means_finds_what_it_can(proved):
    _, _, found = proved
    said = {theorem.name: (finding.outcome, finding.by) for theorem, finding in found.items()}
    assert said == {
        "linear": ("proved", "automation"),
        "twice": ("proved", "search"),
        "from_attempt": ("proved", "attempt"),
        "wrong": ("open", ""),
    }
    by_name = {theorem.name: finding for theorem, finding in found.items()}
    assert by_name["linear"].imports == MEANS.imports
    assert by_name["twice"].imports == ()
    assert "exact h" in by_name["from_attempt"].proof  # what held of the attempt is kept
    assert by_name["wrong"].reason


def test_rocq_accepts_the_file_with_the_proofs(proved):
    folder, _, found = proved
    proofs = {theorem: finding.proof for theorem, finding in found.items() if finding.outcome == "proved"}
    imports = {theorem: finding.imports for theorem, finding in found.items()}
    text = with_proofs(FILE, proofs, imports) + "Print Assumptions from_attempt.\n"
    (folder / "patched.v").write_text(text)
    run = subprocess.run(["coqc", "patched.v"], cwd=folder, capture_output=True, text=True, check=True)
    assert "Closed under the global context" in run.stdout


class Tried(BaseException):
    """Raised in the place of an attempt."""


def test_what_is_in_the_store_is_not_tried_again(proved, monkeypatch):
    folder, store, found = proved

    def never(task):
        raise Tried(task.theorem.name)

    monkeypatch.setattr(proving, "_prove", never)
    theorems = open_theorems(folder / "file.v")
    assert dict(prove(theorems, MEANS, store=store)) == found
    with pytest.raises(Tried, match="wrong"):
        list(prove(theorems, MEANS, store=store, retry=True))
    with pytest.raises(Tried, match="linear"):  # other means
        list(prove(theorems, Means(seconds=7.0), store=store))


def test_a_finding_is_for_the_text_before_it(proved, monkeypatch):
    folder, store, _ = proved
    monkeypatch.setattr(proving, "_prove", lambda task: proving.Finding("", task.theorem.name, "open"))
    (folder / "other.v").write_text(FILE.replace("node l r => node (mirror r) (mirror l)", "node l r => node l r"))
    again = {
        theorem.name: finding.outcome
        for theorem, finding in prove(open_theorems(folder / "other.v"), MEANS, store=store)
    }
    assert again == {"linear": "proved", "twice": "open", "from_attempt": "open", "wrong": "open"}


def test_a_proof_that_is_not_certified_does_not_count(tmp_path, monkeypatch):
    (tmp_path / "file.v").write_text("Lemma easy_one : 1 = 1. Admitted.")
    monkeypatch.setattr(proving._Prover, "_automation", lambda self, start: ("idtac.", ""))
    monkeypatch.setattr(proving._Prover, "_search", lambda self, start: ("", "nothing"))
    ((_, finding),) = prove(open_theorems(tmp_path), MEANS)
    assert finding.outcome == "open"
    assert "is not accepted" in finding.reason
    assert "incomplete proof" in finding.reason


def test_a_file_that_does_not_compile_is_told(tmp_path):
    (tmp_path / "file.v").write_text("Definition a := nowhere.\nLemma t : True. Admitted.")
    ((_, finding),) = prove(open_theorems(tmp_path), MEANS)
    assert finding.outcome == "broken"
    assert "nowhere" in finding.reason


class Model:
    """Writes a whole proof with a mistake in it, as models do."""

    def __repr__(self):
        return "Model()"

    def suggest(self, state, premises, k):
        return []

    def propose(self, opening, n, temperature):
        return ["this is no proof", "intros h. exists (fun m => m + 1). { intros m. foo. }"]


def test_a_model_is_asked_and_what_it_gets_wrong_is_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(proving._Prover, "_automation", lambda self, start: ("", ""))
    statement = "Lemma t : True -> exists f : nat -> nat, forall n, f n = 1 + n."
    (tmp_path / "file.v").write_text(f"{statement} Admitted.")
    means = Means(seconds=10.0, imports=("From Coq Require Import Lia.",), policy=Model())
    ((_, finding),) = prove(open_theorems(tmp_path), means)
    assert (finding.outcome, finding.by) == ("proved", "model")
    assert "exists (fun m => m + 1)." in finding.proof
    assert "foo" not in finding.proof


def test_a_model_that_does_not_answer_does_not_end_the_search(tmp_path, monkeypatch):
    class Silent(Model):
        def propose(self, opening, n, temperature):
            raise PolicyUnavailable("nobody is there")

        def suggest(self, state, premises, k):
            raise PolicyUnavailable("nobody is there")

    monkeypatch.setattr(proving._Prover, "_automation", lambda self, start: ("", ""))
    (tmp_path / "file.v").write_text("Lemma t (n : nat) : n + 0 = n + 0. Admitted.")
    ((_, finding),) = prove(open_theorems(tmp_path), replace(MEANS, policy=Silent()))
    assert (finding.outcome, finding.by) == ("proved", "search")


ENDLESS = "do 1000000000 (try fail)."


@pytest.mark.parametrize("by", ["attempt", "model"])
def test_what_does_not_end_leaves_time_for_the_search(by, tmp_path, monkeypatch):
    """A dozen sentences, each of which would run until it is stopped: ten seconds, or two in a model's proof."""
    slow = " ".join(f"assert (h{n} : True). {{ {ENDLESS} }}" for n in range(12))

    class Slow(Model):
        def propose(self, opening, n, temperature):
            return [slow, f"idtac. {slow}"]

    monkeypatch.setattr(proving._Prover, "_automation", lambda self, start: ("", ""))
    attempt = f"Proof. {slow}" if by == "attempt" else ""
    (tmp_path / "file.v").write_text(f"Lemma t (n : nat) : n + 0 = n + 0. {attempt} Admitted.")
    means = Means(seconds=8.0, imports=(), policy=Slow() if by == "model" else None)
    ((_, finding),) = prove(open_theorems(tmp_path), means)
    assert (finding.outcome, finding.by) == ("proved", "search")
    assert finding.seconds < 18.0


@pytest.fixture
def late(monkeypatch):
    """By how many seconds the prover's clock is fast."""
    seconds = [0.0]
    monkeypatch.setattr(proving, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + seconds[0]))
    return seconds


def test_what_the_file_before_a_theorem_takes_is_not_its_time(tmp_path, monkeypatch, late):
    start = RocqSession.start

    def slow(self, *arguments, **named):
        late[0] = 1000.0
        return start(self, *arguments, **named)

    monkeypatch.setattr(RocqSession, "start", slow)
    (tmp_path / "file.v").write_text("Lemma easy_one : 1 = 1. Admitted.")
    ((_, finding),) = prove(open_theorems(tmp_path), replace(MEANS, imports=()))
    assert finding.outcome == "proved"
    assert finding.seconds > 1000.0


def test_nothing_is_run_once_time_is_up(tmp_path, monkeypatch, late):
    """Not in the gaps of an attempt whose masking took it all, and not of a proof that tactics are learned from."""
    file = "Lemma before : 1 = 1 /\\ True. Proof. split. - reflexivity. - exact I. Qed.\n"
    (tmp_path / "file.v").write_text(f"{file}Lemma t : True /\\ 1 = 2. Proof. split. exact I. foo. Admitted.")
    (theorem,) = open_theorems(tmp_path)
    run, ran = RocqSession.run, []

    def recorded(self, state, tactic, **named):
        ran.append(tactic)
        late[0] += leap[0]
        return run(self, state, tactic, **named)

    def masked(*arguments, **named):
        sketch = mask_errors(*arguments, **named)
        late[0], ran[:] = 1000.0, []
        return sketch

    leap = [0.0]
    monkeypatch.setattr(RocqSession, "run", recorded)
    monkeypatch.setattr(proving, "mask_errors", masked)
    with RocqSession() as session:
        prover = proving._Prover(theorem, theorem.path, MEANS, session, None, time.monotonic() + 60.0)
        start = session.start(theorem.before, theorem.statement)
        assert prover._attempt(start) == ("", "1 of 1 gaps are left")
        assert ran == []
        leap[0] = 1000.0
        assert len(prover._learned(proving.time.monotonic() + 60.0)) == 1
        assert ran == ["split."]


def test_a_theorem_before_which_there_is_nothing(tmp_path):
    (tmp_path / "file.v").write_text("Lemma wrong (n : nat) : n < n. Admitted.")
    ((_, finding),) = prove(open_theorems(tmp_path), replace(MEANS, seconds=3.0))
    assert finding.outcome == "open"
    assert "search: " in finding.reason
    assert "Error" not in finding.reason


def test_imports_that_do_not_go_with_the_file_are_left_out(tmp_path):
    (tmp_path / "file.v").write_text("Definition helper := 0. Lemma t : 1 = 1. Admitted.")
    ((_, finding),) = prove(open_theorems(tmp_path), Means(seconds=30, imports=("Definition helper := tt.",)))
    assert (finding.outcome, finding.imports) == ("proved", ())


def test_an_attempt_that_goes_wrong_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    (tmp_path / "file.v").write_text("Lemma t : True. Admitted. Lemma s : 1 = 1. Admitted.")
    whole = proving._Prover.find
    monkeypatch.setattr(proving._Prover, "find", lambda self: 1 / 0 if self.theorem.name == "t" else whole(self))
    store = tmp_path / "store"
    found = {theorem.name: finding for theorem, finding in prove(open_theorems(tmp_path), MEANS, store=store)}
    assert (found["t"].outcome, found["t"].reason) == ("open", "ZeroDivisionError: division by zero")
    assert found["s"].outcome == "proved"
    assert [path.name[0] for path in store.iterdir()] == ["s"]


def test_proofs_that_do_not_go_together_are_told(tmp_path):
    (tmp_path / "file.v").write_text("Lemma t : True. Admitted.\nLemma s : 1 = 1. Admitted.")
    one, other = open_theorems(tmp_path)
    finding = proving.Finding("", "", "proved", proof="exact I.")
    assert list(proving.troubles({one: finding})) == []
    ((path, reason),) = proving.troubles({one: finding, other: finding})
    assert path == tmp_path / "file.v"
    assert 'has type "True"' in reason


def test_what_is_missing_is_told_before_anything_is_tried(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"corpus: .*corpus\.jsonl is missing"):
        list(prove([], Means(corpus=str(tmp_path))))
    (tmp_path / "file.v").write_text("Lemma t : True. Admitted.")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotInstalled, match="apt install coq"):
        list(prove(open_theorems(tmp_path), MEANS))


def test_two_workers_find_the_same(tmp_path):
    lines = [f"Lemma t{n} : {n} + 1 = {n + 1}. Admitted." for n in range(2)]
    (tmp_path / "file.v").write_text("\n".join(lines))
    found = [(theorem.name, finding.outcome) for theorem, finding in prove(open_theorems(tmp_path), MEANS, workers=2)]
    assert sorted(found) == [(f"t{n}", "proved") for n in range(2)]


def test_a_damaged_store_is_named(tmp_path, monkeypatch):
    (tmp_path / "file.v").write_text("Lemma t : True. Admitted.")
    monkeypatch.setattr(proving, "_prove", lambda task: proving.Finding("", task.theorem.name, "open"))
    store = tmp_path / "store"
    list(prove(open_theorems(tmp_path), MEANS, store=store))
    (finding,) = store.iterdir()
    finding.write_text(finding.read_text()[:20])
    with pytest.raises(ValueError, match=rf"store: .*{finding.name} holds no finding"):
        list(prove(open_theorems(tmp_path), MEANS, store=store))


LIBRARY = """Fixpoint same n := match n with 0 => 0 | S k => S (same k) end.
Lemma same_id n : same n = n.
Proof. induction n as [|k known]. - reflexivity. - simpl. rewrite known. reflexivity. Qed.
Lemma seven : exists n, n * n = 49.
Proof. exists 7. reflexivity. Qed.
"""
USES_PREMISE = """Require Import library.
Lemma by_premise (n m : nat) : same (n + m) + 1 = n + m + 1.
Admitted.
"""
USES_TACTIC = """Lemma by_tactic : exists n, n * n = 49 /\\ n = n.
Admitted.
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two files beside a library, and corpora of that: without its goals, and with them."""
    folder = tmp_path_factory.mktemp("with_a_library")
    (folder / "library.v").write_text(LIBRARY)
    subprocess.run(["coqc", "-Q", ".", "", "library.v"], cwd=folder, check=True)
    (folder / "premise.v").write_text(USES_PREMISE)
    (folder / "tactic.v").write_text(USES_TACTIC)
    for states in (False, True):
        Corpus.from_sources(folder / "library.v", states=states).to_leandojo(folder / str(states))
    return folder


@pytest.mark.parametrize(
    ("file", "corpus", "outcome", "step"),
    [
        ("premise.v", None, "open", ""),
        ("premise.v", "False", "proved", "same_id"),
        ("tactic.v", "False", "open", ""),
        ("tactic.v", "True", "proved", "exists 7."),
    ],
)
def test_a_search_uses_what_a_corpus_has(project, file, corpus, outcome, step):
    means = Means(seconds=8.0, imports=(), corpus=corpus and str(project / corpus))
    ((_, finding),) = prove(open_theorems(project / file), means)
    assert finding.outcome == outcome, finding
    assert step in finding.proof
    assert finding.by == ("search" if step else "")
