"""Evidence from a proof assistant: how many of a paper's statements its kernel accepts."""

from __future__ import annotations

import pandas as pd

from tendsto.assistants import Certificate, Development, NotInstalled, ProofAssistant, Rocq
from tendsto.evidence.claim import NotRun
from tendsto.evidence.finding import Check, Estimate, Finding, equal_to


def proved(development: Development, *, assistant: ProofAssistant | None = None, seconds: float = 120.0) -> Finding:
    """Check a formal proof, and compare the number of accepted theorems with the number requested.

    A theorem is accepted if the assistant's kernel finds that the source proves the trusted statement, and the
    audit finds allowed axioms only.

    **Arguments**

    - `development`: the source and the statements, `Development.read("vr_halpern.v")`; for a control its
      `falsified()` or `postulated()` variant.
    - `assistant`: who checks; by default `Rocq()`, with the axioms of classical analysis allowed.
    - `seconds`: wall time for the whole check. A source that takes longer is not accepted.

    **Returns** a finding with a table of the theorems and their axioms.

    **Raises** `NotRun` if the assistant is not installed.
    """
    try:
        certificate = development.check(Rocq() if assistant is None else assistant, seconds=seconds)
    except NotInstalled as error:
        raise NotRun(str(error)) from None
    accepted = sum(theorem.accepted for theorem in certificate.theorems.values())
    check = Check(
        "theorems accepted by the kernel, from allowed axioms only",
        predicted=equal_to(len(development.theorems)),
        measured=Estimate.exact(accepted),
    )
    return Finding([check], tables={"Theorems": _table(certificate)}, note=_note(certificate))


def _table(certificate: Certificate) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "theorem": theorem.name,
                "accepted": theorem.accepted,
                "axioms": ", ".join(theorem.axioms) or "none",
                "reason": theorem.reason,
            }
            for theorem in certificate.theorems.values()
        ]
    )


def _note(certificate: Certificate) -> str:
    checked = f"{certificate.assistant} {certificate.version}: {certificate.outcome} in {certificate.seconds:.1f} s"
    return f"{checked} ({certificate.isolation})."
