"""Packages that only some methods need: imported when first used, with a sentence where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtra(ImportError):
    """An optional package is missing; the message says which `pip install` brings it."""


def load(module: str, *, extra: str) -> ModuleType:
    """Import `module`, which `pip install 'tendsto[extra]'` brings.

    **Raises** `MissingExtra` if the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # the package is there; something that it needs is not
        package = module.partition(".")[0]
        raise MissingExtra(f"{package} is needed here: pip install 'tendsto[{extra}]'") from None
