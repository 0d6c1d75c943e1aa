"""What a verdict depends on: the source behind its claim, the versions it ran with, and the machine."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import platform
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

import jax

from tendsto import __version__
from tendsto.evidence.claim import Budget, Claim

_LIBRARIES = ("jax", "jaxlib", "numpy", "scipy", "scikit-learn", "equinox", "optax")
# Changing how verdicts are reached changes them, though no paper imports the judge.
_JUDGE = "tendsto.evidence.judge"


@cache
def versions() -> dict[str, str]:
    """The versions of Python, Tendsto and the libraries whose arithmetic a claim's numbers rest on."""
    return {
        "python": platform.python_version(),
        "tendsto": __version__,
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


@cache
def hardware() -> str:
    """The machine in a few words: operating system, architecture, cores, and the device JAX computes on."""
    device = jax.devices()[0]
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, JAX on {device.device_kind}"


def digest(claim: Claim, budget: Budget) -> str:
    """The SHA-256 of all that a verdict's numbers depend on: source, claim, budget, seed and versions."""
    source = source_digest(claim.module)
    parts = [source, claim.module, claim.name, budget.name, budget.seed, versions()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def source_digest(module: str) -> str:
    """The SHA-256 over the source of `module`, its formal proofs, and all that it imports, at any depth.

    Followed are the imports of Tendsto and of the module's own package; `versions` stand for the
    libraries. Imports are read, not executed. A name that a package's `__init__` takes from one of its
    modules leads to that module alone, so that a change to one method leaves the evidence on its
    neighbours standing.

    **Raises** `ModuleNotFoundError` if `module` has no source file.
    """
    families = {"tendsto", module.partition(".")[0]}
    files: dict[str, bytes] = {}
    waiting = [module, _JUDGE]
    while waiting:
        name = waiting.pop()
        if name in files:
            continue
        path = _source_file(name)
        if path is None:
            raise ModuleNotFoundError(f"module: {name} has no source file", name=name)
        files[name] = path.read_bytes()
        # Formal proofs lie beside the paper that claims them.
        files |= {str(proof): proof.read_bytes() for proof in path.parent.glob(f"proofs/{path.stem}.*")}
        for origin, attribute in _imports(name, path):
            waiting.extend(_holders(origin, attribute, families))
    summary = hashlib.sha256()
    for name in sorted(files):
        summary.update(f"{Path(name).name} {len(files[name])}\n".encode() + files[name])
    return summary.hexdigest()


def _imports(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """What the source of module `name` imports: absolute module names, and the name taken from each or ""."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _import_statements(path.read_bytes()):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        else:
            relative = "." * node.level + (node.module or "")
            yield from ((importlib.util.resolve_name(relative, package), alias.name) for alias in node.names)


def _holders(origin: str, attribute: str, families: set[str]) -> Iterator[str]:
    """The modules of these families that hold `attribute` as imported from `origin`, or `origin` itself."""
    path = _source_file(origin) if origin.partition(".")[0] in families else None
    if path is None:
        return
    if attribute and _source_file(f"{origin}.{attribute}"):
        yield f"{origin}.{attribute}"
        return
    taken = []
    if attribute and path.name == "__init__.py":
        taken = [source for source, name in _imports(origin, path) if name == attribute and source != origin]
    for source in taken:
        yield from _holders(source, attribute, families)
    if not taken:
        yield origin


@lru_cache(maxsize=4096)
def _import_statements(source: bytes) -> tuple[ast.Import | ast.ImportFrom, ...]:
    nodes = ast.walk(ast.parse(source))
    return tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def _source_file(name: str) -> Path | None:
    """The Python file of a module, found below its top-level package without importing it."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # `__main__` of an interactive session has no specification
        return None
    if spec is None:
        return None
    path = Path(spec.origin or "")
    if rest:
        stem = Path(*(spec.submodule_search_locations or [""])[:1], *rest)
        path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    return path if path.suffix == ".py" and path.is_file() else None
