"""The formal proofs in the catalogue: accepted as they stand, rejected where they claim too much."""

import shutil
from pathlib import Path

import pytest

import tendsto
from tendsto.assistants import CLASSICAL_REALS, Development, Rocq
from tendsto.evidence import Estimate, NotRun, proved

needs_rocq = pytest.mark.skipif(shutil.which("coqc") is None, reason="needs Rocq: apt install coq")

FILES = sorted((Path(tendsto.__file__).parent / "papers" / "proofs").glob("*.v"))
NAMES = [path.stem for path in FILES]

# Instances at which the false variants are wrong: a real number where a vector is asked for.
REFUTATIONS = {
    "last_iterate_sgd": """
        Proof.
          intros all. specialize (all 1 2%nat ltac:(lra) ltac:(lia)). cbv zeta in all.
          unfold sum_f in all. simpl in all. replace (1 + 1) with 2 in all by lra.
          replace (Rpower 2 _) with (2 * sqrt 2) in all by
            (replace (3 / 2) with (1 + / 2) by lra; rewrite Rpower_plus, Rpower_1, Rpower_sqrt; lra).
          pose proof (sqrt_lt_R0 2 ltac:(lra)) as root.
          apply (Rmult_le_compat_r (sqrt 2)) in all; [|lra].
          replace (_ / sqrt 2 * sqrt 2) with 1 in all by (field; lra).
          replace (_ * sqrt 2) with (7 / 6) in all by (field; lra). lra.
        Qed.""",
    "lr_perceptron": """
        Proof.
          intros all.
          specialize (all R 0 Rplus Rmult Rmult
            ltac:(intros; ring) ltac:(intros; ring) ltac:(intros; ring) ltac:(intros; ring) ltac:(intros; ring)
            ltac:(intros; ring) ltac:(intros; nra) 0%nat (fun _ => 1) 1 1 1 ltac:(lra) ltac:(ring)
            ltac:(intros; lra) ltac:(intros; lra) 2%nat INR eq_refl).
          enough (INR 2 <= 1 ^ 2 / 1 ^ 2) by (simpl in *; lra).
          apply all. intros t small. exists 0%nat. rewrite S_INR.
          assert (INR t <= INR 1) by (apply le_INR; lia). simpl in *.
          repeat split; [lia | lra].
        Qed.""",
    "matrix_sensing": """
        Proof.
          intros all. specialize (all 1 (1 / 4) ltac:(lra) ltac:(lra) ltac:(lra)).
          replace (1 / (1 / 4 - 1 * (1 / 4) ^ 3) ^ 2) with (4096 / 225) in all by field.
          replace (1 / (1 / 4) ^ 2) with 16 in all by field. lra.
        Qed.""",
    "vr_halpern": """
        Proof.
          intros all.
          specialize (all R Rplus Rmult Rmult
            ltac:(intros; ring) ltac:(intros; ring) ltac:(intros; ring) ltac:(intros; nra)
            1 0%nat 4 0 1 0 ltac:(lra)). cbv zeta in all. simpl in all.
          specialize (all ltac:(lra) ltac:(lra)).
          replace (4 * 4) with (Rsqr 4) in all by (unfold Rsqr; ring).
          replace ((1 + -1 * 0) * (1 + -1 * 0)) with (Rsqr 1) in all by (unfold Rsqr; ring).
          rewrite !sqrt_Rsqr in all by lra. lra.
        Qed.""",
}


@needs_rocq
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_theorem_is_proved(path):
    development = Development.read(path)
    finding = proved(development)
    assert finding.outcome == "holds", finding.tables["Theorems"]["reason"].tolist()
    assert finding.checks[0].measured == Estimate.exact(len(development.theorems))
    table = finding.tables["Theorems"]
    assert table["theorem"].tolist() == list(development.theorems)
    assert set(", ".join(table["axioms"]).split(", ")) <= set(CLASSICAL_REALS)


@needs_rocq
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_false_variants_are_rejected(path):
    development = Development.read(path)
    falsified, postulated = proved(development.falsified()), proved(development.postulated())
    assert falsified.outcome == postulated.outcome == "fails"
    assert "the source:" in falsified.tables["Theorems"]["reason"][0]
    assert "not allowed: submission." in postulated.tables["Theorems"]["reason"][0]


@needs_rocq
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_false_variants_are_false(path):
    """Rocq proves the negation, so a false variant that passed would prove everything."""
    falsified = Development.read(path).falsified()
    (statement,) = falsified.theorems.values()
    header = f"From Coq Require Import Lra Lia Psatz.\n{falsified.preamble}"
    source = f"{header}\nTheorem refuted : ~ (\n{statement}\n).{REFUTATIONS[path.stem]}"
    certificate = Rocq().check(source, {"refuted": f"~ (\n{statement}\n)"}, preamble=falsified.preamble)
    assert certificate.accepted, certificate.theorems["refuted"].reason


def test_a_missing_assistant_is_not_a_failure(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotRun, match="apt install coq"):
        proved(Development("", {"t": "True"}))
