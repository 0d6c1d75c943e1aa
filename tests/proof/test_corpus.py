"""Corpora of Rocq libraries and in LeanDojo's layout: a project of two files by hand, and mathcomp where it is."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rocq_project
from hypothesis import given
from hypothesis import strategies as st

from tendsto.proof import Corpus, File, IndexSet, Premise, Provenance, Theorem, topological_order
from tendsto.proof.corpus import LINE


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Corpus.from_glob(rocq_project.write(tmp_path_factory.mktemp("project")))


@pytest.fixture(scope="module")
def mathcomp():
    where = shutil.which("coqc") and subprocess.run(["coqc", "-where"], capture_output=True, text=True).stdout.strip()
    folder = Path(where or "/nowhere") / "user-contrib" / "mathcomp"
    if not folder.is_dir():
        pytest.skip("needs mathcomp: apt install libcoq-mathcomp")
    return Corpus.from_glob(folder)


def names(corpus, numbers):
    return [corpus.premises[number].full_name for number in numbers]


def test_premises_lie_where_they_stand_in_bytes(project):
    data = rocq_project.BASE.encode()
    assert [(it.full_name, it.kind) for it in project.premises] == [
        ("base.parity", "inductive"),
        ("base.even", "constructor"),
        ("base.odd", "constructor"),
        ("base.flip", "definition"),
        ("base.flipK", "theorem"),
        ("base.ex1", "theorem"),
        ("user.ex1", "theorem"),
        ("user.ex2", "theorem"),
    ]
    odd, flip_k, ex1 = project.premises[2], project.premises[4], project.premises[5]
    assert odd.code == data[odd.start : odd.end].decode() == "Inductive parity := even | odd."
    assert flip_k.start == data.index(b"Lemma flipK") != rocq_project.BASE.index("Lemma flipK")
    assert flip_k.end == data.index(b"Qed.") + 4
    assert flip_k.code == "Lemma flipK p : flip (flip p) = p."
    assert data[ex1.start : ex1.end] == b"Lemma ex1 : flip even = odd. Proof. reflexivity. Qed."


def test_theorems_have_statements_proofs_and_tactics(project):
    flip_k, _, one, two = project.theorems
    assert [it.full_name for it in project.theorems] == ["base.flipK", "base.ex1", "user.ex1", "user.ex2"]
    assert flip_k.statement == "Lemma flipK p : flip (flip p) = p."
    assert flip_k.proof.startswith("Proof. (* both. *)\n  destruct p.\n  - refl")
    assert flip_k.proof.endswith("Qed.")
    assert [it.text for it in flip_k.tactics] == ["destruct p.", "reflexivity.", "reflexivity."]
    assert flip_k.premises == ()
    assert names(project, one.premises) == ["base.even", "base.flipK", "base.ex1"]
    assert one.tactics[0].annotated == "now rewrite <- (<a>flipK</a> <a>even</a>), <a>base.ex1</a>."
    assert [it.full_name for it in one.tactics[0].provenances] == ["base.flipK", "base.even", "base.ex1"]
    assert names(project, two.premises) == ["base.ex1", "user.ex1"]
    flip_k_premise = project.premises[4]
    assert one.tactics[0].provenances[0] == Provenance("base.flipK", "base.v", flip_k_premise.start, flip_k_premise.end)


def test_accessible_is_what_is_imported_and_what_ends_before(project):
    base, user = project.files
    assert (user.imports, base.imports) == (("base.v",), ())
    assert list(project.accessible("base.v", 0)) == []
    parity = project.premises[0]
    assert list(project.accessible("base.v", parity.end - 1)) == []
    assert list(project.accessible("base.v", parity.end)) == [0, 1, 2]
    assert list(project.accessible_to(project.theorems[0])) == [0, 1, 2, 3]
    assert list(project.accessible_to(project.theorems[2])) == [0, 1, 2, 3, 4, 5]
    assert list(project.accessible_to(project.theorems[3])) == [0, 1, 2, 3, 4, 5, 6]
    assert project.imported("user.v") == ("base.v",)
    assert project.violations() == []
    with pytest.raises(KeyError):
        project.accessible("other.v", 0)


def test_a_proof_that_uses_what_comes_later_is_told(project):
    early = replace(project.theorems[0], premises=(3, 4, 7))
    assert Corpus(project.files, project.premises, (early,)).violations() == [(0, 4), (0, 7)]


def test_imports_are_followed_through_files():
    premises = tuple(Premise(f"{name}.v", name, "theorem", 5, 10, "") for name in "abcd")
    files = tuple(
        File(f"{name}.v", tuple(f"{it}.v" for it in of), number, number + 1)
        for number, (name, of) in enumerate([("a", ""), ("b", "a"), ("c", "b"), ("d", "a")])
    )
    corpus = Corpus(files, premises, ())
    assert corpus.imported("c.v") == ("a.v", "b.v")
    assert list(corpus.accessible("c.v", 5)) == [0, 1]
    assert list(corpus.accessible("d.v", 10)) == [0, 3]


def test_order_of_files_is_by_imports_then_name():
    assert topological_order({"c": [], "b": ["c"], "a": ["b", "c"], "0": ["a"], "d": []}) == ["c", "b", "a", "0", "d"]
    with pytest.raises(ValueError, match=r"^imports: circular: b -> d -> c -> b$"):
        topological_order({"a": [], "b": ["a", "d"], "c": ["b"], "d": ["c"], "e": ["b"]})
    with pytest.raises(ValueError, match=r"^imports: a imports x, which is not in the corpus$"):
        topological_order({"a": ["x"]})


def test_of_kinds_renumbers(project):
    lemmas = project.of_kinds(["theorem"])
    assert names(lemmas, range(4)) == ["base.flipK", "base.ex1", "user.ex1", "user.ex2"]
    assert [it.premises for it in lemmas.theorems] == [(), (), (0, 1), (1, 2)]
    assert list(lemmas.accessible_to(lemmas.theorems[3])) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"^kinds: no premise is of the kind 'lemma'"):
        project.of_kinds(["lemma"])


def test_marked_premises_name_themselves_in_full(project):
    assert project.premises[4].marked() == "Lemma <a>base.flipK</a> p : flip (flip p) = p."
    assert Premise("", "A.b.le", "", 0, 1, "theorem b.le le : le' le").marked() == "theorem <a>A.b.le</a> le : le' le"
    assert Premise("", "A.b", "", 0, 1, "to_additive").marked() == "to_additive"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("base.glob", "DIGEST 3", "DIGEST 4", r"base\.glob: was written for another text of base\.v"),
        ("base.glob", "DIGEST", "digest", r"base\.glob: does not begin as a \.glob file does"),
        ("base.glob", "def 114:117 <>", "def 114:117", r"base\.glob:6: is damaged: 'def 114:117 flip'"),
        ("base.glob", "def 114:117", "def 114-117", r"base\.glob:6: is damaged"),
        ("base.glob", "R364:364 base S <> sec\n", "R364:364 base S", r"base\.glob:28: ends within a line"),
        ("base.glob", "prf 312:314", "prf 912:914", r"base\.glob: ex1 at bytes 912 to 915 lies in no sentence of base"),
        ("base.glob", "prf 312:314", "prf 30:32", r"base\.glob: ex1 at bytes 30 to 33 lies in no sentence of base"),
        ("base.v", "both. *)", "both.", r"base\.glob: was written for another text"),
        ("user.glob", "Fuser", "Fbase", r"user\.v: is the library base, as .*base\.v is"),
        ("base.glob", "sec 283:283 <> S", "R2:3 user <> <> lib", r"imports: circular: base\.v -> user\.v -> base\.v"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, old, new, message):
    rocq_project.write(tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Corpus.from_glob(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file"):
        Corpus.from_glob(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no \.v file"):
        Corpus.from_glob(tmp_path)
    (rocq_project.write(tmp_path) / "user.glob").unlink()
    with pytest.raises(FileNotFoundError, match=r"user\.glob: no such file; Rocq's compiler writes it beside user\.v"):
        Corpus.from_glob(tmp_path)
    assert len(Corpus.from_glob(tmp_path / "base.v").theorems) == 2
    (tmp_path / "base.v").write_bytes(b"Goal \xff.")
    (tmp_path / "base.glob").write_text(rocq_project.BASE_GLOB.replace("37604e0991bc3fc741402775464bfac4", "NO"))
    with pytest.raises(ValueError, match=r"base\.v: is not UTF-8 at byte 5"):
        Corpus.from_glob(tmp_path / "base.v")
    (tmp_path / "base.v").write_text("Goal True")
    with pytest.raises(ValueError, match=r"base\.v: the sentence that begins in line 1 does not end"):
        Corpus.from_glob(tmp_path / "base.v")


MODULES = """Module M.
Lemma a : True. Proof. exact I. Qed.
Lemma b : True. Proof. exact I. Qed.
End M.
Lemma a : True.
Proof. exact M.a. Qed.
Lemma c : True. Proof. exact (b a). Qed.
"""


def test_modules_that_the_compiler_leaves_out_are_read_in_the_source(tmp_path):
    first, second = MODULES.index("a :"), MODULES.rindex("a :")
    b, c, qualified, use = (MODULES.index(it) for it in ("b :", "c :", "M.a", "(b a)"))
    lines = [
        *("DIGEST NO", "Fq", "mod 7:7 <> M", f"prf {first}:{first} M a", f"prf {b}:{b} M b", f"prf {c}:{c} <> c"),
        f"prf {second}:{second} <> a",
        f"R{qualified}:{qualified + 2} q <> a thm",
        f"R{qualified + 2}:{qualified + 2} q M a thm",  # read a second time, in part
        f"R{use + 1}:{use + 1} q Exports b thm",  # a module that only includes M
        f"R{use + 3}:{use + 3} q Exports b abbrev",  # something else of that name
    ]
    (tmp_path / "q.v").write_text(MODULES)
    (tmp_path / "q.glob").write_text("\n".join(lines) + "\n")
    corpus = Corpus.from_glob(tmp_path)
    assert [it.full_name for it in corpus.theorems] == ["q.M.a", "q.M.b", "q.a", "q.c"]
    assert names(corpus, corpus.theorems[2].premises) == ["q.M.a"]
    assert corpus.theorems[2].tactics[0].annotated == "exact <a>M.a</a>."
    assert names(corpus, corpus.theorems[3].premises) == ["q.M.b"]
    assert corpus.theorems[3].tactics[0].annotated == "exact (<a>b</a> a)."
    assert corpus.violations() == []


# --- LeanDojo's layout


def test_round_trip_is_the_identity(project, tmp_path):
    project.to_leandojo(tmp_path / "one")
    again = Corpus.from_leandojo(tmp_path / "one")
    assert again == project
    again.to_leandojo(tmp_path / "two")
    for name in ("corpus.jsonl", *(f"{s}/{p}.json" for s in ("random", "novel_premises") for p in ("train", "val"))):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


# As LeanDojo's Benchmark 4 writes it: no offsets of lines, positions of names within premises, tactics with states.
LEAN_CORPUS = [
    {
        "path": "Nat.lean",
        "imports": [],
        "premises": [
            {"full_name": "Nat.le", "code": "def Nat.le", "start": [3, 1], "end": [4, 9], "kind": "commanddeclaration"},
            {"full_name": "Nat.lt", "code": "theorem Nat.lt", "start": [6, 1], "end": [9, 4], "kind": "commandlemma"},
        ],
    },
    {
        "path": "Use.lean",
        "imports": ["Nat.lean"],
        "premises": [
            {"full_name": "use", "code": "theorem use", "start": [2, 1], "end": [2, 30], "kind": "commanddeclaration"}
        ],
    },
]
LEAN_THEOREM = {
    "url": "https://example.org/lean",
    "commit": "c0ffee",
    "file_path": "Use.lean",
    "full_name": "use",
    "start": [2, 1],
    "end": [2, 30],
    "traced_tactics": [
        {
            "tactic": "exact Nat.lt",
            "annotated_tactic": [
                "exact <a>Nat.lt</a>",
                [{"full_name": "Nat.lt", "def_path": "Nat.lean", "def_pos": [6, 9], "def_end_pos": [6, 15]}],
            ],
            "state_before": "⊢ 1 < 2",
            "state_after": "no goals",
        }
    ],
}


def lean_data(folder, corpus=LEAN_CORPUS, **parts):
    (folder / "random").mkdir(exist_ok=True)
    (folder / "corpus.jsonl").write_text("".join(json.dumps(it) + "\n" for it in corpus), encoding="utf-8")
    for part in ("train", "val", "test"):
        (folder / "random" / f"{part}.json").write_text(json.dumps(parts.get(part, [])), encoding="utf-8")
    return folder


def test_reads_and_writes_what_leandojo_writes(tmp_path):
    corpus = Corpus.from_leandojo(lean_data(tmp_path, val=[LEAN_THEOREM]))
    (theorem,) = corpus.theorems
    assert theorem.premises == (1,)
    assert theorem.tactics[0].state_before == "⊢ 1 < 2"
    assert list(corpus.accessible_to(theorem)) == [0, 1]
    assert corpus.premises[1].start == 5 * LINE < corpus.premises[1].end == 8 * LINE + 3
    assert [list(part) for part in corpus.splits["random"]] == [[], [0], []]
    corpus.to_leandojo(tmp_path / "again")
    lines = (tmp_path / "again" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    assert list(map(json.loads, lines)) == LEAN_CORPUS
    assert json.loads((tmp_path / "again" / "random" / "val.json").read_text(encoding="utf-8")) == [LEAN_THEOREM]
    assert not (tmp_path / "again" / "novel_premises").exists()


@pytest.mark.parametrize(
    ("corpus", "theorem", "message"),
    [
        (["x"], {}, r"corpus\.jsonl:1: "),
        ([{"path": "a"}], {}, r"corpus\.jsonl:1: 'premises' is missing"),
        ([*LEAN_CORPUS, {"path": "a", "imports": ["b"], "premises": []}], {}, r"imports: a imports b, which is not"),
        ([*LEAN_CORPUS, {"path": "Use.lean", "imports": [], "premises": []}], {}, r"Use\.lean is there twice"),
        (LEAN_CORPUS, {"file_path": "b"}, r"train\.json: theorem 0: 'b' is no file of the corpus"),
        (LEAN_CORPUS, {"start": [0, 1]}, r"train\.json: theorem 0: expected a line and a column, got \[0, 1\]"),
        (LEAN_CORPUS, {"full_name": 3}, r"train\.json: theorem 0: expected a text, got 3"),
    ],
)
def test_malformed_data_is_named(tmp_path, corpus, theorem, message):
    with pytest.raises(ValueError, match=message):
        Corpus.from_leandojo(lean_data(tmp_path, corpus, train=[LEAN_THEOREM | theorem]))


# --- index sets


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))), st.sets(st.integers(0, 40)))
def test_index_sets_are_sets(runs, others):
    expected = {it for start, stop in runs for it in range(start, stop)}
    found = IndexSet(np.array([it[0] for it in runs]), np.array([it[1] for it in runs]))
    assert list(found) == np.asarray(found).tolist() == sorted(expected)
    assert len(found) == len(expected)
    assert found.contains(np.arange(45)).tolist() == found.mask(45).tolist() == [it in expected for it in range(45)]
    assert all((it in found) == (it in expected) for it in range(-2, 45))
    assert (found == IndexSet.of(np.array(sorted(others)))) == (expected == others)
    assert found == IndexSet.of(np.array(sorted(expected)))
    assert not np.any(found.stops[:-1] >= found.starts[1:])


# --- splits


def chain(count):
    """Theorem i uses premises i // 2 and i // 10; each premise stands in a file of its own before all theorems."""
    premises = tuple(Premise("a", f"p{i}", "theorem", i, i, "") for i in range(count))
    theorems = tuple(
        Theorem("a", f"t{i}", count, count, "", "", (), tuple(sorted({i // 2, i // 10}))) for i in range(count)
    )
    return Corpus((File("a", (), 0, count),), premises, theorems)


@pytest.mark.parametrize("strategy", ["random", "novel_premises"])
@pytest.mark.parametrize("seed", [0, 1])
def test_splits_divide_the_theorems(strategy, seed):
    corpus = chain(200)
    split = corpus.split(strategy, val=0.1, test=30, seed=seed)
    assert sorted(np.concatenate(split)) == list(range(200))
    assert len(split.val) == 20
    assert len(split.test) >= 30
    assert len(split.test) < 30 + (1 if strategy == "random" else 10)
    again = corpus.split(strategy, val=0.1, test=30, seed=seed)
    assert all(np.array_equal(*pair) for pair in zip(split, again, strict=True))
    other = corpus.split(strategy, val=0.1, test=30, seed=seed + 2)
    assert set(split.test) != set(other.test)
    assert list(split.val) != sorted(split.val)


def test_theorems_held_out_use_a_premise_that_no_training_proof_uses():
    corpus = chain(200)
    for seed in range(5):
        split = corpus.split("novel_premises", seed=seed)
        seen = {premise for number in split.train for premise in corpus.theorems[number].premises}
        for number in (*split.val, *split.test):
            assert set(corpus.theorems[number].premises) - seen


def test_premises_used_least_go_first():
    # Premise 0 has one user, premise 1 two, premise 2 seven.
    uses = [(0,), (1,), (1, 2), *[(2,)] * 6]
    premises = tuple(Premise("a", str(i), "theorem", 0, 0, "") for i in range(3))
    corpus = Corpus(
        (File("a", (), 0, 3),), premises, tuple(Theorem("a", str(i), 0, 0, "", "", (), it) for i, it in enumerate(uses))
    )
    held = [sorted({*s.val, *s.test}) for s in (corpus.split("novel_premises", val=0, test=n) for n in (1, 2, 3, 4))]
    assert held == [[0], [0, 1, 2], [0, 1, 2], list(range(9))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "other"}, "strategy: must be"),
        ({"val": -0.1}, "val: must lie in"),
        ({"test": 1.5}, "test: expected an integer"),
        ({"test": 201}, "test: 205 theorems to validate and test on, but the corpus has 200"),
        ({"seed": -1}, "seed: must lie in"),
    ],
)
def test_splits_that_cannot_be_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        chain(200).split(**{"strategy": "random"} | arguments)


# --- mathcomp


def test_no_proof_of_mathcomp_uses_what_is_not_accessible(mathcomp):
    assert len(mathcomp.theorems) > 10_000
    assert mathcomp.violations() == []
    used = [len(it.premises) for it in mathcomp.of_kinds(["theorem"]).theorems]
    assert np.mean(np.array(used) > 0) > 0.8
    assert all(it.proof.endswith((".",)) and it.tactics for it in mathcomp.theorems)
