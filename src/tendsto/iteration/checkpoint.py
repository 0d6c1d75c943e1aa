"""Save a running computation so that a killed process can take it up again, to the same bits."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from tendsto.files import write_atomically

T = TypeVar("T")


def fingerprint(*parts: Any) -> str:
    """A digest of everything that decides a computation: array values, hyper-parameters, code, library version."""
    digest = hashlib.sha256(jax.__version__.encode())
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()


def save(path: str | os.PathLike[str], identity: str, done: int, carry: PyTree) -> None:
    """Write `carry` after `done` steps of the computation `identity`, atomically."""
    with write_atomically(path) as stream:
        stream.write(json.dumps({"identity": identity, "done": done}).encode() + b"\n")
        eqx.tree_serialise_leaves(stream, carry)


def load(path: str | os.PathLike[str], identity: str, like: T) -> tuple[int, T] | None:
    """The number of steps done and the carry saved at `path`, or `None` if there is no such file.

    **Raises** `ValueError` if the file is not a checkpoint or belongs to another computation.
    """
    if not Path(path).exists():
        return None
    with open(path, "rb") as stream:
        try:
            header = json.loads(stream.readline())
            if header["identity"] == identity:
                return int(header["done"]), eqx.tree_deserialise_leaves(stream, like)
        except (ValueError, KeyError, TypeError, EOFError, RuntimeError):
            raise ValueError(
                f"checkpoint: {os.fspath(path)} is not a readable checkpoint; delete it to start anew"
            ) from None
    raise ValueError(
        f"checkpoint: {os.fspath(path)} belongs to another run (method, problem, start, seeds or steps differ); "
        "delete it or name another file"
    )


def _feed(digest: Any, part: Any) -> None:
    """Add `part` to the digest by value, never by memory address, so that two processes agree."""
    if isinstance(part, jax.Array) and jnp.issubdtype(part.dtype, jax.dtypes.prng_key):
        part = jax.random.key_data(part)
    if isinstance(part, (jax.Array, np.ndarray, np.generic)):
        array = np.asarray(part)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    elif isinstance(part, dict):
        for key in sorted(part, key=repr):
            digest.update(repr(key).encode())
            _feed(digest, part[key])
    elif isinstance(part, (list, tuple)):
        digest.update(f"{type(part).__qualname__}{len(part)}".encode())
        for item in part:
            _feed(digest, item)
    elif hasattr(part, "__dataclass_fields__"):
        _feed(digest, type(part))
        for name in part.__dataclass_fields__:
            digest.update(name.encode())
            _feed(digest, getattr(part, name, None))
    elif callable(part):
        digest.update(f"{getattr(part, '__module__', '')}.{getattr(part, '__qualname__', type(part))}".encode())
        with contextlib.suppress(OSError, TypeError):  # built-in, or typed at a prompt: the name must do
            digest.update(inspect.getsource(part).encode())
        for cell in getattr(part, "__closure__", None) or ():
            _feed(digest, cell.cell_contents)
        if hasattr(part, "func"):
            _feed(digest, (part.func, part.args, part.keywords))
    else:
        digest.update(f"{type(part).__qualname__}{part!r}".encode())
