"""Certificates: what Rocq accepts and refuses, and what the texts say."""

import json
import re
import shutil

import pytest
import sympy

from tendsto.assistants import NotInstalled
from tendsto.constants import ConservativeMatrixField, certify, field_development, known_field

x, y, z = sympy.symbols("x y z")
ROCQ = pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")


class Missing:
    def check(self, *args, **options):
        raise NotInstalled("needs a proof assistant")


@ROCQ
def test_rocq_proves_a_field_from_no_axioms():
    certificate = certify(known_field("zeta3").field)
    assert certificate.accepted
    assert certificate.axioms == ()
    assert set(certificate.checked.theorems) == {f"field_01_{i}{j}" for i in (0, 1) for j in (0, 1)}
    assert json.loads(certificate.to_json())["checked"]["outcome"] == "accepted"


@ROCQ
def test_rocq_proves_rational_entries_and_three_axes():
    change = sympy.Matrix([[x, 1], [0, 1]])
    field = ConservativeMatrixField({axis: sympy.diag(axis, 1) for axis in (x, y, z)}).coboundary(change)
    assert any(entry.as_numer_denom()[1] != 1 for entry in field.matrices[y])
    certificate = certify(field)
    assert certificate.accepted
    assert len(certificate.checked.theorems) == 12


@ROCQ
def test_rocq_refuses_a_perturbed_field():
    field = known_field("e").field
    certificate = certify(ConservativeMatrixField({x: field.matrices[x], y: [[2, x], [1, x + y]]}))
    assert not certificate.accepted
    assert certificate.checked.outcome == "rejected"
    record = json.loads(certificate.to_json())
    assert record["conservative"] is False
    assert any(entry != "0" for entry in record["residuals"]["x, y"])


def test_without_an_assistant_the_certificate_says_so(tmp_path):
    certificate = certify(known_field("pi").field, Missing())
    assert not certificate.accepted
    assert certificate.axioms == ()
    assert certificate.reason == "needs a proof assistant"
    certificate.write(tmp_path)
    assert (tmp_path / "field.v").read_text() == certificate.development.source
    assert json.loads((tmp_path / "field.json").read_text())["checked"] == {"reason": "needs a proof assistant"}
    assert "import Mathlib.Tactic.Ring" in (tmp_path / "field.lean").read_text()


@pytest.mark.parametrize("name", ["pi", "zeta3"])
def test_lemmas_say_what_conservativeness_says(name):
    # The statements, read back by SymPy, are the entries of the identity.
    field = known_field(name).field
    v0, v1 = sympy.symbols("v0 v1")
    left = field.matrices[x] * field.matrices[y].subs(x, x + 1)
    right = field.matrices[y] * field.matrices[x].subs(y, y + 1)
    for label, text in field_development({"f": field}).theorems.items():
        i, j = map(int, label[-2:])
        sides = text.partition(",")[2].split("\n  = ")
        for side, expected in zip(sides, (left[i, j], right[i, j]), strict=True):
            found = sympy.sympify(side.replace("^", "**"), locals={"v0": v0, "v1": v1})
            assert sympy.expand(found - expected.subs({x: v0, y: v1})) == 0


def test_lean_has_the_lemmas_of_rocq():
    certificate = certify(known_field("zeta2").field, Missing())
    theorems = re.findall(r"theorem (\w+) \(v0 v1 : ℤ\) :\n    (.*)\n    = (.*) := by\n  ring", certificate.lean)
    stated = {name: f"forall v0 v1 : Z,\n  {left}\n  = {right}" for name, left, right in theorems}
    assert stated == certificate.development.theorems


def test_record_holds_the_polynomials():
    record = json.loads(certify(known_field("e").field, Missing()).to_json())
    assert record["axes"] == ["x", "y"]
    assert record["conservative"] is True
    assert record["matrices"]["x"]["entries"] == [{}, {"1 0": 1}, {"0 0": 1}, {"1 0": 1, "0 1": 1, "0 0": -1}]
    assert record["residuals"] == {"x, y": ["0", "0", "0", "0"]}
