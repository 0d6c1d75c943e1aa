"""Keep what was made of the database until the database changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from tendsto.site.dialects import dialect_of

T = TypeVar("T")

_MOST = 500


class Kept:
    """Values by key, forgotten as soon as anyone, in this process or another, writes to the database of `engine`."""

    def __init__(self, engine: Engine) -> None:
        # A connection that never writes is told of every write by others.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._watch = self._engine.connect()
        self._changes = text(dialect_of(engine).changes)
        self._lock = threading.Lock()
        self._version: object = None
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`: that which is kept, or what `make` makes."""
        with self._lock:
            version = self._look()
            if version != self._version or len(self._values) >= _MOST:
                self._values.clear()
                self._version = version
            if key in self._values:
                found: T = self._values[key]
                return found
        value = make()
        with self._lock:
            if version == self._version:
                self._values[key] = value
        return value

    def _look(self) -> object:
        try:
            return self._watch.scalar(self._changes)
        except SQLAlchemyError:  # the server of the database went away, and may be back
            self._version = None
            broken, self._watch = self._watch, self._engine.connect()
            broken.close()
            return self._watch.scalar(self._changes)

    def close(self) -> None:
        """Let go of the database."""
        self._watch.close()
