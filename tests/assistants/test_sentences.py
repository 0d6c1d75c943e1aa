"""Sentences of Rocq: against what Rocq itself runs, against texts put together from known pieces, and by hand."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendsto.assistants.sentences import Sentence, sentences, without_comments

TRICKY = """(* A "comment *)" with (* another. *) inside. *)
Require Import List String Lia.   Import ListNotations. (* a blank before this *)
#[local] Notation "x .+1" := (S x) (at level 2, left associativity, format "x .+1").
Notation "[| x , .. , y |]" := (cons x .. (cons y nil) ..) (at level 0).
Definition quoted := "say ""stop. now"" (* here"%string. (* é. ∀ *)
Definition π : nat := 3. (**)Ltac two := split.
Lemma all_of_it (n : nat) : n.+1 = S n /\\ (List.length (A := nat) nil = 0 /\\ (0 = 0 /\\ True)).
Proof with (idtac).
(* - *) split. { reflexivity. }
- split...
  * idtac(* . *).  exact (eq_refl 0).
  * split.
    ++ reflexivity.
    ++ exact I.
Qed.
Goal True /\\ True. Proof. two. 2:{ exact I. } 1: { exact I. } Qed.
Goal True /\\ True. Proof. refine (conj ?[a] ?[b]). [a]: { exact I. } [ b ]:{ exact I. } Qed.
Check [| 1, 2 |]."""


@pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")
def test_are_those_that_rocq_runs(tmp_path):
    (tmp_path / "tricky.v").write_text(TRICKY, encoding="utf-8")
    command = ["coqc", "-q", "-time", "tricky.v"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    ran = [(int(start), int(end)) for start, end in re.findall(r"^Chars (\d+) - (\d+) \[", answer, re.M)]
    found = [tuple(len(TRICKY[:at].encode()) for at in (it.start, it.end)) for it in sentences(TRICKY)]
    assert found == ran
    assert len(found) > 40


ATOMS = st.sampled_from(
    [
        "x",
        "Nat.add",
        "x.+1",
        "p.(f)",
        "..",
        ":=",
        "(",
        ")",
        "é",
        "'",
        "*",
        "-",
        "{",
        "}",
        "[|",
        "->",
        "/=",
        "1",
        '"a. b"',
    ]
)
STRINGS = st.lists(st.sampled_from(["a", ". ", '""', "(*", "*)", "é", "\n"])).map(lambda parts: f'"{"".join(parts)}"')
COMMENTS = st.recursive(
    st.sampled_from(["", ".", " x. ", '"*)"', '"(*"', "- {", "é", "\n"]),
    lambda part: st.lists(part).map(lambda parts: "(*" + " ".join(parts) + " *)"),
).map(lambda text: f"(* {text} *)")
BLANKS = st.text(" \t\r\n", min_size=1, max_size=2)
GAPS = st.tuples(BLANKS, st.lists(st.tuples(COMMENTS, BLANKS).map("".join), max_size=2).map("".join)).map("".join)
COMMANDS = (
    st.tuples(
        st.sampled_from(["Lemma", "rewrite", "#[local] Def", "by", "2: apply", "(f", "é", '"s"']),
        st.lists(st.tuples(BLANKS, ATOMS | STRINGS | COMMENTS).map("".join), max_size=4).map("".join),
        st.sampled_from([".", "...", " .", " ..."]),
    )
    .map("".join)
    .filter(lambda text: ".. ." not in text and "...." not in text)  # Rocq has no such token
)
ALONE = st.sampled_from(["-", "--", "+", "+++", "*", "**", "{", "}", "2:{", "[a]: {"])


@given(st.lists(st.tuples(COMMANDS | ALONE, GAPS)), GAPS)
def test_of_pieces_are_the_pieces(parts, before):
    text, expected = before, []
    for piece, gap in parts:
        expected.append(Sentence(piece, len(text), len(text) + len(piece)))
        text += piece + gap
    assert sentences(text) == tuple(expected)


@given(st.lists(st.tuples(ATOMS | STRINGS, BLANKS, COMMENTS)))
def test_without_comments_strings_stay(parts):
    text = "".join("".join(part) for part in parts)
    assert without_comments(text) == "".join(piece + blank + " " for piece, blank, _ in parts)


def test_by_hand():
    assert sentences("") == sentences(" (* a. *)\n") == ()
    assert sentences("  A.b c.\r\nD.") == (Sentence("A.b c.", 2, 8), Sentence("D.", 10, 12))
    assert [it.text for it in sentences("----x. ***{}}+ y .. z. t... u.")] == [
        "----", "x.", "***", "{", "}", "}", "+", "y .. z.", "t...", "u."
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("A.\nB c", "sentence that begins in line 2"),
        ("A.\n\n(* (* *) B.", "comment that begins in line 3"),
        ('A "b.\n', "string that begins in line 1"),
        ('A. (* "x *)', "string that begins in line 1"),
        ("A.B", "sentence that begins in line 1"),
    ],
)
def test_what_does_not_end_is_refused(text, fault):
    with pytest.raises(ValueError, match=f"^text: the {fault} does not end$"):
        sentences(text)
