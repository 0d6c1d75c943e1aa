"""Sketches of Rocq proofs: what holds is kept, what is broken becomes a hole, and the statement is never touched."""

import shutil

import pytest
from rocq_texts import BEFORE, SQUARES, compile_errors, structured

from tendsto.assistants import Failure, Goal, Opening, RocqSession, State, sentences
from tendsto.proof.blocks import Block, Claim, block_tree
from tendsto.proof.sketch import Sketch, Unusable, mask_errors, sketch

needs_rocq = pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")

GOOD = """
  assert (h1 : n * n <= n * m). { nia. }
  assert (h2 : n * m <= m * m) by nia.
  lia."""


@pytest.fixture(scope="module")
def session():
    with RocqSession() as one:
        yield one


def texts(items):
    """The tree as nested lists of texts; a claim is marked."""
    return [
        [item.opener.text, *texts(item.items), *([item.closer.text] if item.closer else [])]
        if isinstance(item, Block)
        else ("claim " if isinstance(item, Claim) else "") + item.sentence.text
        for item in items
    ]


@pytest.mark.parametrize(
    ("script", "tree"),
    [
        ("a. assert (h : P). { b. } c.", ["a.", "claim assert (h : P).", ["{", "b.", "}"], "c."]),
        ("d. - a. + b. + c. - e.", ["d.", ["-", "a.", ["+", "b."], ["+", "c."]], ["-", "e."]]),
        ("- { - a. - b. } - c.", [["-", ["{", ["-", "a."], ["-", "b."], "}"]], ["-", "c."]]),
        ("2: { a. } b.", [["2: {", "a.", "}"], "b."]),
        ("{ a. } } b.", [["{", "a.", "}"], "}", "b."]),
        (
            "assert (h := f x). assert (x = y) by (rewrite z by t).",
            ["assert (h := f x).", "claim assert (x = y) by (rewrite z by t)."],
        ),
        ("have h : P by []. have -> : x = y; first by t.", ["claim have h : P by [].", "have -> : x = y; first by t."]),
        ('assert (s = " by {"). (* { *) a.', ['claim assert (s = " by {").', "a."]),
        ("enough P. cut Q. suff: R. sufficient.", ["claim enough P.", "claim cut Q.", "claim suff: R.", "sufficient."]),
    ],
)
def test_the_block_tree_follows_braces_and_bullets(script, tree):
    assert texts(block_tree(sentences(script))) == tree


def test_only_a_claim_of_its_own_knows_its_justification():
    (one,) = block_tree(sentences("assert (x = y) by (rewrite z by t)."))
    assert one.sentence.text[one.by :] == " by (rewrite z by t)."


def test_deep_nesting_is_a_value():
    assert isinstance(sketch("{ " * 5000 + "} " * 5000, None, SQUARES), Unusable)


@pytest.mark.parametrize(
    ("granularity", "expected"),
    [
        (
            "leaf",
            "d. - { admit. } - assert (h : P). { admit. } assert (g : Q). { assert (i : R). { admit. } admit. } admit.",
        ),
        ("block", "d. - admit. - admit."),
    ],
)
def test_without_an_assistant_every_leaf_is_a_hole(granularity, expected):
    script = "d. - { a. } - assert (h : P) by x. assert (g : Q). { b. assert (i : R) by y. c. } e. f."
    expected = expected.replace("Q). { ", "Q). { b. ") if granularity == "leaf" else expected
    found = sketch(script, None, SQUARES, granularity)
    assert found.text == expected
    originals = (
        ["a.", " by x.", " by y.", "c.", "e. f."]
        if granularity == "leaf"
        else ["{ a. }", script[script.index("assert") :]]
    )
    assert [hole.original for hole in found.holes] == originals
    assert all(found.text[slice(*hole.span)] == "admit." for hole in found.holes)
    assert {hole.goal for hole in found.holes} == {None}


def test_bullets_alone_are_structure_and_steps_alone_are_none():
    assert sketch("induction n. - a. b. - c.", None, SQUARES).text == "induction n. - admit. - admit."
    assert sketch("intros. rewrite x. ring.", None, SQUARES).text == "admit."


@needs_rocq
def test_a_proof_that_holds_is_kept_as_it_is(session):
    for script in (GOOD, f"Proof. {GOOD} Qed.", f"{SQUARES.statement} Proof. {GOOD} Qed."):
        found = mask_errors(script, session, SQUARES)
        assert (found.text, found.holes, found.masked, found.passes) == (GOOD.strip(), (), (), 1)


@needs_rocq
def test_every_hole_knows_its_goal_and_where_it_stands(session):
    found = sketch(GOOD, session, SQUARES)
    context = (("n", "nat"), ("m", "nat"), ("H", "n <= m"))
    assert [hole.goal for hole in found.holes] == [
        Goal(context, "n * n <= n * m"),
        Goal((*context, ("h1", "n * n <= n * m")), "n * m <= m * m"),
        Goal((*context, ("h1", "n * n <= n * m"), ("h2", "n * m <= m * m")), "n * n <= m * m"),
    ]
    assert [hole.original for hole in found.holes] == ["nia.", " by nia.", "lia."]
    assert [hole.path for hole in found.holes] == [(1, 0), (3, 0), (4,)]


# What a script is turned into; each line of the list is one way to be broken.
BROKEN = {
    "a justification": (GOOD.replace("{ nia. }", "{ foo. }"), GOOD.replace("{ nia. }", "{ admit. }")),
    "a last step": (GOOD.replace("{ nia. }", "{ idtac. foo. }"), GOOD.replace("{ nia. }", "{ admit. }")),
    "a by": (GOOD.replace(" by nia.", " by foo."), GOOD.replace(" by nia.", ". { admit. }")),
    "the last leaf": (GOOD.replace("lia.", "bar. lia."), GOOD.replace("lia.", "admit.")),
    "a claim": (GOOD.replace("n * m)", "n * z)"), "assert (h2 : n * m <= m * m) by nia.\n  admit."),
    "a syntax error": (GOOD.replace("(h1 :", "(h1"), "assert (h2 : n * m <= m * m) by nia.\n  admit."),
    "a step before": ("rewrite foo." + GOOD, GOOD),
    "a goal left open": (GOOD.replace("lia.", ""), GOOD.replace("lia.", "admit.")),
    "a block left open": (GOOD.replace("{ nia. }", "{ idtac. }"), GOOD.replace("{ nia. }", "{ idtac. admit. }")),
    "a brace not closed": (GOOD.replace("{ nia. }", "{ nia."), GOOD),
    "a brace not opened": (GOOD.replace("{ nia. }", "nia. }"), GOOD.replace("{ nia. }", "nia.")),
    "a brace too many": (GOOD.replace("{ nia. }", "{ nia. } }"), GOOD),
    "steps after the end": (GOOD + " lia. foo.", GOOD),
    "a missing case": ("destruct n. - lia.", "destruct n. - lia. - admit."),
    "a missing inner case": ("destruct n. - destruct m. + lia. - nia.",
                             "destruct n. - destruct m. + lia. + admit. - nia."),
    "a case too many": ("destruct n. - lia. - nia. - lia.", "destruct n. - lia. - nia."),
    "a broken case": ("destruct n. - foo. - nia.", "destruct n. - admit. - nia."),
    "open claims": ("assert (h : n * n <= n * m). foo. assert (g : n * m <= m * m). nia. lia.",
                    "assert (h : n * n <= n * m). { admit. } assert (g : n * m <= m * m). nia. lia."),
    "a hidden admit": (GOOD.replace("{ nia. }", "{ first [ admit ]. }"), GOOD.replace("{ nia. }", "{ admit. }")),
    "a command": (GOOD.replace("lia.", "Axiom f : False. lia."), GOOD.replace("lia.", "admit.")),
    "nothing that can be done": ("eexists ?[x]. lia.", "admit."),
}  # fmt: skip


@needs_rocq
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_becomes_a_hole_and_the_rest_stays(name, session):
    script, expected = BROKEN[name]
    found = mask_errors(script, session, SQUARES)
    assert found.text.split() == expected.split()
    assert [found.text[slice(*hole.span)] for hole in found.holes] == ["admit."] * expected.count("admit.")
    again = mask_errors(found.text, session, SQUARES)
    assert (again.text, again.masked, again.passes) == (found.text, (), 1)
    assert [(it.goal, it.span) for it in again.holes] == [(it.goal, it.span) for it in found.holes]
    state = session.start(BEFORE, SQUARES.statement)
    for sentence in sentences(found.text):
        state = session.run(state, sentence.text)
        assert isinstance(state, State)
    assert state.given_up == bool(found.holes)
    assert state.finished != bool(found.holes)


@needs_rocq
def test_what_was_taken_out_is_told_with_the_reason(session):
    found = mask_errors(GOOD.replace("nia. }", "foo. }"), session, SQUARES)
    (masked,) = found.masked
    assert (masked.text, masked.kind) == ("foo.", "error")
    assert "foo was not found" in masked.message


@needs_rocq
def test_a_justification_that_runs_out_of_time_is_not_called_wrong(session):
    slow = "{ do 3 (try (timeout 100 (do 1000000000 idtac))). nia. }"
    found = mask_errors(GOOD.replace("{ nia. }", slow), session, SQUARES, seconds=0.2)
    assert [(it.kind, it.text) for it in found.masked] == [("timed out", slow[2:-2])]
    assert found.text == GOOD.strip().replace("{ nia. }", "{ admit. }")


@needs_rocq
def test_giving_up_under_another_name_is_a_hole(session):
    opening = Opening((BEFORE, "Ltac sorry := admit."), SQUARES.statement)
    found = mask_errors("sorry.", session, opening)
    assert (found.text, len(found.holes)) == ("admit.", 1)
    assert "gives a goal up" in found.masked[0].message


class Dead:
    """A session whose process dies at one tactic."""

    def __init__(self, session, tactic):
        self.session, self.tactic = session, tactic

    def start(self, before, statement, *, seconds=600.0):
        return self.session.start(before, statement, seconds=seconds)

    def run(self, state, tactic, *, seconds=10.0):
        if tactic == self.tactic:
            return Failure("crashed", "gone")
        return self.session.run(state, tactic, seconds=seconds)


@needs_rocq
def test_a_crash_costs_one_justification(session):
    found = mask_errors(GOOD, Dead(session, "nia."), SQUARES)
    assert [(it.kind, it.text) for it in found.masked] == [("crashed", "nia.")]


@needs_rocq
def test_an_assistant_that_takes_no_admit_leaves_nothing_to_sketch(session):
    assert isinstance(mask_errors("foo.", Dead(session, "admit."), SQUARES), Unusable)


STATEMENTS = {
    "Lemma t (n m : nat) (H : n <= m) : n * n <= m * m + 0.": "n * n <= m * m",
    "Lemma t (n m : nat) (H : n <= m) : n * n <= m * z.": "z was not found",
    "Lemma t (n m : nat (H : n <= m) : n * n <= m * m.": "Syntax error",
    "Lemma t (n m : nat) : n * n <= m * m.": "n <= m",
    "Lemma t (n m : Z) (H : (n <= m)%Z) : (n * n <= m * m)%Z.": "nat",
    "Lemmma t (n m : nat) (H : n <= m) : n * n <= m * m.": "expected one sentence",
    "Axiom t : forall (n m : nat) (H : n <= m), n * n <= m * m.": "expected one sentence",
    '(* Lemma t (n m : nat) (H : n <= m) : n * n <= m * m. *) Lemma t : True.': "True",
    'Notation "x <= y" := (x = x). Lemma t (n m : nat) (H : n <= m) : n * n <= m * m.': "expected one sentence",
    'Lemma t (n m : nat) (H : n <= m) : ltac:(Redirect "x" idtac).': "Redirect",
}  # fmt: skip


@needs_rocq
@pytest.mark.parametrize("statement", STATEMENTS)
def test_another_statement_is_unusable_and_never_masked(statement, session):
    for make in (mask_errors, sketch):
        found = make(f"{statement} Proof. {GOOD} Qed.", session, SQUARES)
        assert isinstance(found, Unusable)
        assert STATEMENTS[statement] in found.reason
    assert isinstance(sketch(f"{statement} Proof. {GOOD} Qed.", None, SQUARES), Unusable)


@needs_rocq
@pytest.mark.parametrize(
    "statement",
    [
        "Theorem other (n m : nat) (H : n <= m) : n*n <= m*m.",
        "Lemma t : forall a b, a <= b -> (a * a) <= Nat.mul b b.",
        "#[local] Lemma t (n m : nat) (* both *) (H : n <= m) : n * n <= m * m.",
    ],
)
def test_the_same_statement_in_other_words_is_the_same(statement, session):
    assert isinstance(mask_errors(f"{statement} Proof. intros. nia. Qed.", session, SQUARES), Sketch)


@needs_rocq
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("nia. Defined.", "Defined"),
        ("nia. (* and", "comment"),
        ("nia", "sentence"),
        ("", "no tactics"),
        ("Qed.", "no tactics"),
    ],
)
def test_a_text_that_is_no_proof_is_unusable(script, reason, session):
    for make in (mask_errors, sketch):
        found = make(script, session, SQUARES)
        assert isinstance(found, Unusable)
        assert reason in found.reason


@needs_rocq
def test_a_theorem_that_cannot_be_stated_is_unusable(session):
    assert "nowhere" in mask_errors("auto.", session, Opening((), "Lemma t : nowhere.")).reason


@needs_rocq
def test_what_comes_after_the_end_is_left_out(session):
    found = mask_errors(f"Proof. {GOOD} Qed. Axiom f : False.", session, SQUARES)
    assert found.text == GOOD.strip()


@pytest.mark.parametrize(
    ("script", "hints"),
    [
        ("assert P. { prove_with [a, b]. } admit.", [("a", "b"), None]),
        ("assert P. { prove_with [a,b]. } prove_with [].", [("a", "b"), ()]),
        ("assert P by prove_with [a,  b ,c]. admit.", [("a", "b", "c"), None]),
        ("assert P by (prove_with [H']). admit.", [("H'",), None]),
        ("assert P. { admit. } (* using: a, b *) admit.", [("a", "b"), None]),
        ("assert P. (* using: a *) { admit. } admit. (* using: b *)", [("a",), ("b",)]),
        ("assert P. { admit. (* using: a,b *) } (* using: c *) admit.", [("a", "b"), ("c",)]),
        ("assert P by t. (* using: a *) t.", [("a",), None]),
        ("(* using *) t. (* used: a *)", [None]),
    ],
)
def test_hints_stand_beside_their_hole(script, hints):
    assert [hole.hints for hole in sketch(script, None, SQUARES).holes] == hints


def test_splicing_puts_each_proof_where_its_hole_was():
    found = sketch("assert P. { x. } destruct n. - y. - z.", None, SQUARES)
    assert found.splice({}) == found.text == "assert P. { admit. } destruct n. - admit. - admit."
    filled = found.splice({0: "a. b.", 2: "c. - d. - e."})
    assert filled == "assert P. { a. b. } destruct n. - admit. - { c. - d. - e. }"
    assert found.splice({1: " f. ", 2: "all: g."}) == "assert P. { admit. } destruct n. - f. - { all: g. }"
    originals = {hole.id: hole.original for hole in found.holes}
    assert found.splice(originals) == "assert P. { x. } destruct n. - y. - z."


@pytest.mark.parametrize("proof", ["nia. (* ", 'idtac "', "nia"])
def test_a_proof_that_would_swallow_what_follows_is_not_spliced(proof):
    with pytest.raises(ValueError, match="does not end"):
        sketch("x.", None, SQUARES).splice({0: proof})


def test_arguments_out_of_range_are_named(session):
    with pytest.raises(ValueError, match="solutions: "):
        sketch("x.", None, SQUARES).splice({1: "y."})
    with pytest.raises(ValueError, match="granularity: 'tree'"):
        sketch("x.", None, SQUARES, "tree")
    with pytest.raises(ValueError, match="seconds: "):
        mask_errors("x.", session, SQUARES, seconds=0)


@needs_rocq
def test_every_structured_proof_survives_the_round_trip(session, tmp_path):
    admitted, restored = [], []
    for proof in structured().values():
        found = sketch(proof.proof, session, proof.opening)
        assert not found.masked
        assert len(found.holes) >= 2
        admitted.append((proof.opening, found.text, "Admitted."))
        restored.append(
            (
                proof.opening,
                found.splice({it.id: it.original.strip().removeprefix("by ") for it in found.holes}),
                "Qed.",
            )
        )
    assert len(admitted) == 40
    assert compile_errors(tmp_path, admitted) == ""
    assert compile_errors(tmp_path, restored) == ""
