"""Proof search beside its peers: corpora, engine, and theorems held back from libraries."""
