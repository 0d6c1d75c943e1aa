"""Formulas for constants, beside their discoverers' own library."""
