"""What Lake, the build tool of Lean 4, knows of a file: the project it belongs to, and the options it is read with."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_FILES = ("lakefile.toml", "lakefile.lean")


def lake_project(path: str | os.PathLike[str]) -> Path | None:
    """The nearest folder with a Lake file above a file, or None."""
    folders = Path(path).resolve().parents
    return next((folder for folder in folders if any((folder / name).is_file() for name in _FILES)), None)


def lake_options(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The options, `autoImplicit=false`, under which `lake build` has Lean read a file of a project.

    For a file that was built, recent versions of Lake leave them beside what they made of it, and they are read there.
    Of others those in `lakefile.toml` are known: the package's `leanOptions` and `-D` arguments, then those of
    the library that the file belongs to. A `lakefile.lean` is a program and is not run.

    **Raises** `ValueError` naming a file of Lake's that is malformed.
    """
    source = Path(path).resolve()
    folder = lake_project(source)
    if folder is None:
        return ()
    if (setup := _setup(folder, source)) is not None:
        return setup
    lakefile = folder / "lakefile.toml"
    if not lakefile.is_file():
        return ()
    try:
        package = tomllib.loads(lakefile.read_text(encoding="utf-8"))
        found = list(_options(package))
        for library in package.get("lean_lib", ()):
            if _holds(library, source.relative_to(folder), package.get("srcDir", ".")):
                found += _options(library)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{lakefile}: is not what Lake reads: {error}") from None
    return tuple(f"{name}={value}" for name, value in dict(found).items())


def _setup(folder: Path, source: Path) -> tuple[str, ...] | None:
    """The options that Lake has written down for a module of this file."""
    parts = source.relative_to(folder).with_suffix("").parts
    for first in range(len(parts)):
        place = folder.joinpath(".lake", "build", "ir", *parts[first:-1], f"{parts[-1]}.setup.json")
        if place.is_file():
            try:
                options = json.loads(place.read_bytes()).get("options", {})
                return tuple(f"{name}={_written(value)}" for name, value in options.items())
            except (AttributeError, ValueError) as error:
                raise ValueError(f"{place}: is not what Lake writes ({error}); build the project again") from None
    return None


def _options(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The options of a package or a library, names with values; a later one overrides an earlier one."""
    given = configuration.get("leanOptions", {})
    if isinstance(given, list):
        pairs = [(it["name"], it["value"]) if isinstance(it, dict) else it for it in given]
        yield from ((name, _written(value)) for name, value in pairs)
    else:
        yield from _flat(given)
    for argument in configuration.get("moreLeanArgs", ()):
        if argument.startswith("-D") and "=" in argument:
            name, _, value = argument.removeprefix("-D").partition("=")
            yield name, value


def _flat(table: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", _written(value)


def _written(value: object) -> str:
    """A value as Lean's command line has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _holds(library: Mapping[str, Any], relative: Path, sources: str) -> bool:
    """Whether a file of the project is a module at or below a root of the library."""
    place = Path(sources, library.get("srcDir", "."))
    if not relative.is_relative_to(place):
        return False
    module = ".".join(relative.relative_to(place).with_suffix("").parts)
    roots = library.get("roots") or [library["name"]]
    return any(f"{module}.".startswith(f"{root}.") for root in roots)
