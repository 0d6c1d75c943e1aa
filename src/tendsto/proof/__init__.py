"""Finding proofs: libraries as data, premises, tactics, searches, sketches."""

from tendsto.proof.automation import Closer, Portfolio, PremiseAutomation
from tendsto.proof.corpus import Corpus, File, Premise, Provenance, Split, Tactic, Theorem, topological_order
from tendsto.proof.draft import DraftReport, DraftSketchProve, pass_at_k
from tendsto.proof.encoder import (
    Batch,
    BatchSampler,
    DualEncoderRetriever,
    EmbeddingRetriever,
    TransformersRetriever,
    similarity_loss,
)
from tendsto.proof.filling import Filling, FillReport, HoleCache, fill_holes
from tendsto.proof.hybrid import HoleBudget, HybridProver, ProofReport
from tendsto.proof.index_set import IndexSet
from tendsto.proof.language_models import ChatModel, TransformersPolicy
from tendsto.proof.lean_file_session import LeanFileSession
from tendsto.proof.lean_masking import LeanSketch, mask_lean_errors
from tendsto.proof.lean_repair import mend_lean
from tendsto.proof.nearest_proofs import NearestProofs
from tendsto.proof.nearest_tactics import NearestNeighbourTactics
from tendsto.proof.policies import MixedPolicy, PremiseTemplates, Suggestion, TacticPolicy, WholeProofPolicy
from tendsto.proof.project import OpenTheorem, Project, open_theorems
from tendsto.proof.proving import Finding, Means, prove, write_patch
from tendsto.proof.repair import Mended, mend, mended_text
from tendsto.proof.replay import Located, Replay, Step, replay_corpus, replay_file, with_states
from tendsto.proof.retrieval import (
    BM25Retriever,
    CombinedRetriever,
    NearestNeighbourRetriever,
    PremiseRetriever,
    Query,
    RecencyRetriever,
    ScoringRetriever,
    goal,
    mean_reciprocal_rank,
    queries,
    recall_at,
    recalls_at,
    tokens,
)
from tendsto.proof.search import AccessiblePremises, BatchSession, BestFirstProver, ProofResult
from tendsto.proof.sketch import Hole, Sketch, Unusable, mask_errors
from tendsto.proof.tree import ProofTree

__all__ = [
    "AccessiblePremises",
    "BM25Retriever",
    "Batch",
    "BatchSampler",
    "BatchSession",
    "BestFirstProver",
    "ChatModel",
    "Closer",
    "CombinedRetriever",
    "Corpus",
    "DraftReport",
    "DraftSketchProve",
    "DualEncoderRetriever",
    "EmbeddingRetriever",
    "File",
    "FillReport",
    "Filling",
    "Finding",
    "Hole",
    "HoleBudget",
    "HoleCache",
    "HybridProver",
    "IndexSet",
    "LeanFileSession",
    "LeanSketch",
    "Located",
    "Means",
    "Mended",
    "MixedPolicy",
    "NearestNeighbourRetriever",
    "NearestNeighbourTactics",
    "NearestProofs",
    "OpenTheorem",
    "Portfolio",
    "Premise",
    "PremiseAutomation",
    "PremiseRetriever",
    "PremiseTemplates",
    "Project",
    "ProofReport",
    "ProofResult",
    "ProofTree",
    "Provenance",
    "Query",
    "RecencyRetriever",
    "Replay",
    "ScoringRetriever",
    "Sketch",
    "Split",
    "Step",
    "Suggestion",
    "Tactic",
    "TacticPolicy",
    "Theorem",
    "TransformersPolicy",
    "TransformersRetriever",
    "Unusable",
    "WholeProofPolicy",
    "fill_holes",
    "goal",
    "mask_errors",
    "mask_lean_errors",
    "mean_reciprocal_rank",
    "mend",
    "mend_lean",
    "mended_text",
    "open_theorems",
    "pass_at_k",
    "prove",
    "queries",
    "recall_at",
    "recalls_at",
    "replay_corpus",
    "replay_file",
    "similarity_loss",
    "tokens",
    "topological_order",
    "with_states",
    "write_patch",
]
