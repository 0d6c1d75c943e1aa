"""Proof assistants behind one protocol: check a file from a stranger, in a sandbox, against trusted statements."""

from tendsto.assistants.development import Development, FalseVariant
from tendsto.assistants.protocol import Certificate, NotInstalled, Outcome, ProofAssistant, Theorem
from tendsto.assistants.rocq import CLASSICAL_REALS, Rocq

__all__ = [
    "CLASSICAL_REALS",
    "Certificate",
    "Development",
    "FalseVariant",
    "NotInstalled",
    "Outcome",
    "ProofAssistant",
    "Rocq",
    "Theorem",
]
