"""`Development`: the two files of a formal proof, and its false variants."""

import pytest

from tendsto.assistants import Development, FalseVariant

MANIFEST = """
preamble = "Open Scope nat_scope."
[theorems]
small = "1 < 2"
[false]
theorem = "small"
replace = "< 2"
by = "< 1"
"""


def write(tmp_path, manifest, source="Theorem small : 1 < 2. Proof. constructor. Qed."):
    (tmp_path / "x.toml").write_text(manifest)
    (tmp_path / "x.v").write_text(source)
    return tmp_path / "x.v"


def test_reads_source_and_manifest(tmp_path):
    development = Development.read(write(tmp_path, MANIFEST))
    assert development.theorems == {"small": "1 < 2"}
    assert development.preamble == "Open Scope nat_scope."
    assert development.false == FalseVariant("small", "< 2", "< 1")


def test_false_variants_change_statement_and_source_together(tmp_path):
    development = Development.read(write(tmp_path, MANIFEST))
    falsified, postulated = development.falsified(), development.postulated()
    assert falsified.theorems == postulated.theorems == {"small": "1 < 1"}
    assert falsified.source == "Theorem small : 1 < 1. Proof. constructor. Qed."
    assert "Axiom small" in postulated.source
    with pytest.raises(ValueError, match="no false variant"):
        falsified.falsified()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[theorems]", "[claims]", "claims"),
        ('small = "1 < 2"', "small = 3", "table of texts"),
        ('theorem = "small"', 'theorem = "large"', "large"),
        ('replace = "< 2"', 'replace = "< 3"', "0 times"),
        ('replace = "< 2"', 'replace = "< 1"', "changes nothing"),
        ('by = "< 1"', 'because = "< 1"', "because"),
        ("[false]", "[false", "x.toml"),
    ],
)
def test_names_what_is_wrong_with_a_manifest(tmp_path, old, new, named):
    path = write(tmp_path, MANIFEST.replace(old, new))
    with pytest.raises(ValueError, match=named) as caught:
        Development.read(path)
    assert "x.toml" in str(caught.value)


def test_the_source_must_hold_the_false_variant_once(tmp_path):
    with pytest.raises(ValueError, match="the source, not 2 times"):
        Development.read(write(tmp_path, MANIFEST, "(* < 2 *) Theorem small : 1 < 2."))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(OSError, match=r"nowhere\.toml"):
        Development.read(tmp_path / "nowhere.v")
