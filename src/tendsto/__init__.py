"""Algorithms that come with a guarantee, and the evidence that the guarantee holds."""
