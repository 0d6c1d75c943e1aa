"""Certificates that a matrix field is conservative, for Rocq, Lean and machines."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flint
import sympy

from tendsto.assistants import Certificate, Development, NotInstalled, ProofAssistant, Rocq
from tendsto.constants.matrix_fields import ConservativeMatrixField

_PREAMBLE = "From Coq Require Import ZArith.\nOpen Scope Z_scope."
_LEAN_PREAMBLE = "import Mathlib.Tactic.Ring"


@dataclass(frozen=True)
class FieldCertificate:
    """That a field is conservative, in three languages, and what the proof assistant said.

    **Arguments**

    - `development`: the Rocq source and the statements that it must prove; see `field_development`.
    - `lean`: the same lemmas for Lean 4 with Mathlib. Text only: it is not checked here.
    - `record`: the field and its residuals as JSON can hold them.
    - `checked`: the proof assistant's answer, with the axioms of every lemma; none if it is not installed.
    - `reason`: why it was not checked; empty if it was.
    """

    development: Development
    lean: str
    record: Mapping[str, Any]
    checked: Certificate | None
    reason: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the assistant's kernel accepts every lemma."""
        return self.checked is not None and self.checked.accepted

    @property
    def axioms(self) -> tuple[str, ...]:
        """All axioms that the lemmas rest on; those of a field over the integers rest on none."""
        if self.checked is None:
            return ()
        return tuple(sorted({axiom for theorem in self.checked.theorems.values() for axiom in theorem.axioms}))

    def to_json(self) -> str:
        """The record, with the assistant's answer, as JSON."""
        answer: dict[str, Any] = {"reason": self.reason}
        if self.checked is not None:
            answer = {
                "assistant": self.checked.assistant,
                "version": self.checked.version,
                "outcome": self.checked.outcome,
                "lemmas": sorted(self.checked.theorems),
                "axioms": list(self.axioms),
            }
        return json.dumps({**self.record, "checked": answer}, indent=1)

    def write(self, directory: Path | str, name: str = "field") -> None:
        """Write `name.v`, `name.lean` and `name.json` into an existing directory."""
        for suffix, text in ((".v", self.development.source), (".lean", self.lean), (".json", self.to_json())):
            (Path(directory) / name).with_suffix(suffix).write_text(text, encoding="utf-8")


def certify(
    field: ConservativeMatrixField, assistant: ProofAssistant | None = None, *, seconds: float = 120.0
) -> FieldCertificate:
    """Certify that a field is conservative, by a proof assistant where it is installed.

    A field that is not conservative gets a certificate too: its record holds the residual, and the assistant rejects
    its lemmas.

    **Arguments**

    - `assistant`: who checks; by default `Rocq()` with no axioms allowed.
    - `seconds`: wall time for the whole check.
    """
    development = field_development({"field": field})
    checked, reason = None, ""
    try:
        checked = development.check(Rocq(axioms=()) if assistant is None else assistant, seconds=seconds)
    except NotInstalled as error:
        reason = str(error)
    return FieldCertificate(development, _lean(field), _record(field), checked, reason)


def field_development(fields: Mapping[str, ConservativeMatrixField]) -> Development:
    r"""The Rocq development that proves fields conservative: a lemma for every entry of every pair of axes.

    With $M_x = N_x/d_x$, $N_x$ and $d_x$ polynomials over the integers, a lemma says of one entry of the product that

    $$d_y(x,y)\,d_x(x,y+1)\,\bigl(N_x(x,y) N_y(x+1,y)\bigr)_{ij}
    = d_x(x,y)\,d_y(x+1,y)\,\bigl(N_y(x,y) N_x(x,y+1)\bigr)_{ij}$$

    for all integers, parameters included; `ring` proves it. A polynomial that vanishes at all integers is zero, so this
    is the identity of rational functions.

    **Arguments**: `fields`, by a name that begins the name of their lemmas: letters, digits and underscores.
    """
    theorems: dict[str, str] = {}
    for name, field in fields.items():
        variables = " ".join(_symbols(field))
        for label, left, right in _lemmas(name, field):
            theorems[label] = f"forall {variables} : Z,\n  {left}\n  = {right}"
    proofs = [f"Lemma {label} : {text}.\nProof. intros; ring. Qed." for label, text in theorems.items()]
    return Development("\n\n".join([_PREAMBLE, *proofs]) + "\n", theorems, _PREAMBLE)


def _lean(field: ConservativeMatrixField) -> str:
    variables = " ".join(_symbols(field))
    lemmas = [
        f"theorem {label} ({variables} : ℤ) :\n    {left}\n    = {right} := by\n  ring"
        for label, left, right in _lemmas("field", field)
    ]
    return "\n\n".join([_LEAN_PREAMBLE, *lemmas]) + "\n"


def _record(field: ConservativeMatrixField) -> dict[str, Any]:
    matrices = {}
    for axis, step in field.over_integers().items():
        matrices[str(axis)] = {"entries": [_terms(each) for each in step.flat], "denominator": _terms(step.denominator)}
    residuals = {
        f"{first}, {second}": [str(entry) for entry in matrix] for (first, second), matrix in field.residuals().items()
    }
    return {
        "kind": "conservative matrix field",
        "axes": [str(axis) for axis in field.axes],
        "parameters": [str(symbol) for symbol in field.parameters],
        "rank": field.rank,
        "matrices": matrices,
        "residuals": residuals,
        "conservative": field.verify(),
        "sympy": sympy.__version__,
        "flint": flint.__version__,
    }


def _terms(polynomial: flint.fmpq_mpoly) -> dict[str, int]:
    """Coefficients by the powers of the axes and parameters: `{"2 1": 3}` is $3x^2y$."""
    return {" ".join(str(int(each)) for each in powers): int(value.p) for powers, value in polynomial.to_dict().items()}


def _symbols(field: ConservativeMatrixField) -> list[str]:
    """Names of the axes and parameters that are identifiers everywhere and shadow nothing."""
    return [f"v{place}" for place in range(len(field.axes) + len(field.parameters))]


def _lemmas(name: str, field: ConservativeMatrixField) -> Iterator[tuple[str, str, str]]:
    """The name, the left and the right side of each lemma.

    The polynomials are written out with $x + 1$ in place of $x$, not called by a name: two definitions of one name, the
    source's and the statement's, would cost the kernel minutes to compare.
    """
    symbols, rank = _symbols(field), field.rank
    steps = list(field.over_integers().values())

    def text(polynomial: flint.fmpq_mpoly, after: int | None = None) -> str:
        return _polynomial(polynomial, [f"({each} + 1)" if i == after else each for i, each in enumerate(symbols)])

    def side(first: int, second: int, i: int, j: int) -> str:
        one, other = steps[first], steps[second]
        terms = [f"{text(one.numerators[i][k])} * {text(other.numerators[k][j], first)}" for k in range(rank)]
        return f"{text(other.denominator)} * {text(one.denominator, second)} * ({' + '.join(terms)})"

    for first, second in itertools.combinations(range(len(steps)), 2):
        for i, j in itertools.product(range(rank), repeat=2):
            yield f"{name}_{first}{second}_{i}{j}", side(first, second, i, j), side(second, first, i, j)


def _polynomial(polynomial: flint.fmpq_mpoly, symbols: Sequence[str]) -> str:
    terms = []
    for powers, value in polynomial.to_dict().items():
        factors = [
            f"{name}^{int(power)}" if power > 1 else name for name, power in zip(symbols, powers, strict=True) if power
        ]
        coefficient = int(value.p)
        if coefficient != 1 or not factors:
            factors.insert(0, str(coefficient) if coefficient >= 0 else f"({coefficient})")
        terms.append(" * ".join(factors))
    return f"({' + '.join(terms)})" if terms else "0"
