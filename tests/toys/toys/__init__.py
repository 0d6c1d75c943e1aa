"""Papers for the tests: small, and each ends in a way that is known beforehand."""
