"""Proof assistants behind one protocol: check a file from a stranger, in a sandbox, against trusted statements."""

from tendsto.assistants.development import Development, FalseVariant
from tendsto.assistants.lean import CLASSICAL_LEAN, Lean
from tendsto.assistants.lean_session import LeanSession
from tendsto.assistants.protocol import (
    Certificate,
    Failure,
    Goal,
    NotInstalled,
    Opening,
    Outcome,
    ProofAssistant,
    ProofSession,
    State,
    Theorem,
)
from tendsto.assistants.rocq import CLASSICAL_REALS, Rocq
from tendsto.assistants.rocq_session import RocqSession
from tendsto.assistants.sentences import Sentence, sentences

__all__ = [
    "CLASSICAL_LEAN",
    "CLASSICAL_REALS",
    "Certificate",
    "Development",
    "Failure",
    "FalseVariant",
    "Goal",
    "Lean",
    "LeanSession",
    "NotInstalled",
    "Opening",
    "Outcome",
    "ProofAssistant",
    "ProofSession",
    "Rocq",
    "RocqSession",
    "Sentence",
    "State",
    "Theorem",
    "sentences",
]
