"""LeanDojo's layout of a corpus: `corpus.jsonl`, and splits as folders with `train.json`, `val.json`, `test.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tendsto.files import write_atomically
from tendsto.proof.corpus import Corpus, File, Places, Premise, Provenance, Split, Tactic, Theorem

_PARTS = ("train", "val", "test")
_Key = tuple[str, str, int, int]


def write(corpus: Corpus, directory: str | os.PathLike[str]) -> None:
    """Write `corpus` into `directory`; see `Corpus.to_leandojo`.

    Beside LeanDojo's own entries a file has `lines`, the offsets at which its lines begin, and a theorem has
    `theorem_statement` and `proof`, where they are known.
    """
    folder = Path(directory)
    with write_atomically(folder / "corpus.jsonl") as stream:
        for file in corpus.files:
            record: dict[str, Any] = {"path": file.path, "imports": file.imports}
            record["premises"] = [_premise_record(file, it) for it in corpus.premises[file.first : file.stop]]
            stream.write(_line(record | ({"lines": file.lines} if file.lines else {})))
    theorems = [_theorem_record(corpus, it) for it in corpus.theorems]
    splits = corpus.splits or {
        "random": corpus.split("random"),
        "novel_premises": corpus.split("novel_premises"),
    }
    for name, split in splits.items():
        for part, members in zip(_PARTS, split, strict=True):
            with write_atomically(folder / name / f"{part}.json") as stream:
                stream.write(_line([theorems[number] for number in members]))


def read(directory: str | os.PathLike[str]) -> Corpus:
    """Read a corpus from `directory`; see `Corpus.from_leandojo`."""
    folder = Path(directory)
    files: list[File] = []
    premises: list[Premise] = []
    source = folder / "corpus.jsonl"
    with open(source, encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            with _named(f"{source}:{number}"):
                file, own = _file(json.loads(line), len(premises))
            files.append(file)
            premises += own
    reader = _Reader(files, premises)
    theorems: dict[_Key, tuple[Theorem, str]] = {}
    splits: dict[str, dict[str, list[_Key]]] = {}
    for name in sorted(it.parent.name for it in folder.glob("*/train.json")):
        splits[name] = {}
        for part in _PARTS:
            where = folder / name / f"{part}.json"
            with open(where, encoding="utf-8") as stream, _named(str(where)):
                records = _list(json.load(stream))
            keys = []
            for number, record in enumerate(records):
                with _named(f"{where}: theorem {number}"):
                    theorem = reader.theorem(record)
                keys.append(key := (theorem.path, theorem.full_name, theorem.start, theorem.end))
                if theorems.setdefault(key, (theorem, str(where)))[0] != theorem:
                    raise ValueError(f"{where}: theorem {number}: {theorem.full_name} differs from {theorems[key][1]}")
            splits[name][part] = keys
    place = {it.path: number for number, it in enumerate(files)}
    order = sorted(theorems, key=lambda key: (place[key[0]], key[2], key[3], key[1]))
    numbers = {key: number for number, key in enumerate(order)}
    divided = {
        name: Split(*(np.array([numbers[key] for key in parts[part]], dtype=np.int64) for part in _PARTS))
        for name, parts in splits.items()
    }
    return Corpus(tuple(files), tuple(premises), tuple(theorems[key][0] for key in order), divided)


def _premise_record(file: File, premise: Premise) -> dict[str, Any]:
    return {
        "full_name": premise.full_name,
        "code": premise.code,
        "start": file.line_column(premise.start),
        "end": file.line_column(premise.end),
        "kind": premise.kind,
    }


def _theorem_record(corpus: Corpus, theorem: Theorem) -> dict[str, Any]:
    file = corpus.file(theorem.path)
    record = {
        "url": theorem.url,
        "commit": theorem.commit,
        "file_path": theorem.path,
        "full_name": theorem.full_name,
        "start": file.line_column(theorem.start),
        "end": file.line_column(theorem.end),
        "traced_tactics": [_tactic_record(corpus, it) for it in theorem.tactics],
    }
    extra = {"theorem_statement": theorem.statement, "proof": theorem.proof}
    return record | {name: text for name, text in extra.items() if text}


def _tactic_record(corpus: Corpus, tactic: Tactic) -> dict[str, Any]:
    provenances = []
    for it in tactic.provenances:
        file = corpus.file(it.path)
        positions = {"def_pos": file.line_column(it.start), "def_end_pos": file.line_column(it.end)}
        provenances.append({"full_name": it.full_name, "def_path": it.path} | positions)
    return {
        "tactic": tactic.text,
        "annotated_tactic": [tactic.annotated, provenances],
        "state_before": tactic.state_before,
        "state_after": tactic.state_after,
    }


def _file(record: Any, first: int) -> tuple[File, list[Premise]]:
    found = [_checked(it) for it in _list(record["premises"])]
    lines = tuple(map(int, record.get("lines", ())))
    file = File(_text(record["path"]), tuple(map(_text, record["imports"])), first, first + len(found), lines)
    return file, [
        Premise(
            file.path,
            _text(it["full_name"]),
            _text(it["kind"]),
            _position(file, it["start"]),
            _position(file, it["end"]),
            _text(it["code"]),
        )
        for it in found
    ]


class _Reader:
    """Theorems as they are written, over the premises of a corpus."""

    def __init__(self, files: list[File], premises: list[Premise]) -> None:
        self.files = {it.path: it for it in files}
        self.places = Places(files, premises)

    def theorem(self, record: Any) -> Theorem:
        file = self._file(record["file_path"])
        tactics = tuple(self._tactic(_checked(it)) for it in _list(record["traced_tactics"]))
        used = {self.places.premise(provenance) for tactic in tactics for provenance in tactic.provenances}
        return Theorem(
            file.path,
            _text(record["full_name"]),
            _position(file, record["start"]),
            _position(file, record["end"]),
            _text(record.get("theorem_statement", "")),
            _text(record.get("proof", "")),
            tactics,
            tuple(sorted(it for it in used if it is not None)),
            _text(record["url"]),
            _text(record["commit"]),
        )

    def _tactic(self, record: Mapping[str, Any]) -> Tactic:
        annotated, provenances = record["annotated_tactic"]
        return Tactic(
            _text(record["tactic"]),
            _text(annotated),
            tuple(self._provenance(_checked(it)) for it in _list(provenances)),
            _text(record["state_before"]),
            _text(record["state_after"]),
        )

    def _provenance(self, record: Mapping[str, Any]) -> Provenance:
        file = self._file(record["def_path"])
        start, end = _position(file, record["def_pos"]), _position(file, record["def_end_pos"])
        return Provenance(_text(record["full_name"]), file.path, start, end)

    def _file(self, path: Any) -> File:
        if path not in self.files:
            raise ValueError(f"{path!r} is no file of the corpus")
        return self.files[path]


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Name the place of what is malformed."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{where}: {error.args[0]!r} is missing") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _line(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode() + b"\n"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return value


def _checked(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _position(file: File, value: Any) -> int:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(it, int) and it > 0 for it in value):
        raise TypeError(f"expected a line and a column, got {value!r}")
    return file.position(*value)
