"""Benchmarks of the site: how well it finds, how fast it answers, how much a page weighs."""
