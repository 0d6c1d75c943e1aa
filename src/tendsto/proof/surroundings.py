"""A user's file in the light of a corpus: what its imports bring, and what it states itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tendsto.assistants.rocq import theorem_name
from tendsto.assistants.sentences import sentences, without_comments
from tendsto.proof.corpus import Corpus, File, Premise
from tendsto.proof.lean_file import proved_theorems

_REQUIRE = re.compile(
    r"(?:From\s+(?P<root>[\w.']+)\s+)?Require\s+(?:Import\s+|Export\s+)?(?P<names>[\w.'\s]+)\.\Z", re.DOTALL
)
_LEAN_IMPORT = re.compile(r"^(?:public\s+|meta\s+)*import\s+(?:all\s+)?(\S+)", re.MULTILINE)


def with_file(corpus: Corpus, path: str, text: str) -> Corpus:
    """A corpus with one more file: its theorems are premises, and it imports what it requires of the corpus.

    Nothing is compiled: libraries are found by their names, and of the file's own definitions only theorems are known,
    proved or not. Positions in it are characters.

    **Arguments**

    - `path`: the file's name in the corpus; `text`: its source.

    **Raises** `ValueError` if the corpus has a file of this name, or the text does not consist of whole sentences.
    """
    if any(file.path == path for file in corpus.files):
        raise ValueError(f"path: {path} is in the corpus already")
    libraries = {file.path.removesuffix(".v").replace("/", "."): file.path for file in corpus.files}
    imports: dict[str, None] = {}
    premises = []
    for sentence in sentences(text):
        if required := _REQUIRE.match(without_comments(sentence.text)):
            imports |= dict.fromkeys(_required(required["root"], required["names"].split(), libraries))
            continue
        try:
            name = theorem_name(sentence.text)
        except ValueError:
            continue
        premises.append(Premise(path, name, "theorem", sentence.start, sentence.end, sentence.text))
    first = len(corpus.premises)
    own = File(path, tuple(imports), first, first + len(premises))
    return Corpus((*corpus.files, own), (*corpus.premises, *premises), corpus.theorems)


def with_lean_file(corpus: Corpus, path: str, text: str) -> Corpus:
    """As `with_file`, of a Lean file: its theorems without gaps are premises, by the names that they are stated with.

    **Arguments**

    - `path`, `text`: as in `with_file`.

    **Raises** `ValueError` if the corpus has a file of this name.
    """
    if any(file.path == path for file in corpus.files):
        raise ValueError(f"path: {path} is in the corpus already")
    imports: dict[str, None] = {}
    for module in _LEAN_IMPORT.findall(text):
        end = f"/{module.replace('«', '').replace('»', '').replace('.', '/')}.lean"
        imports |= dict.fromkeys(file.path for file in corpus.files if f"/{file.path}".endswith(end))
    premises = [Premise(path, it.name, "theorem", it.start, it.stop, it.statement) for it in proved_theorems(text)]
    first = len(corpus.premises)
    own = File(path, tuple(imports), first, first + len(premises))
    return Corpus((*corpus.files, own), (*corpus.premises, *premises), corpus.theorems)


def _required(root: str | None, names: Iterable[str], libraries: dict[str, str]) -> Iterator[str]:
    """The paths of libraries by the names that a file gives them: whole, or from a root on their end."""
    for name in names:
        for library, path in libraries.items():
            whole = f".{library}"
            if whole.endswith(f".{name}") and (root is None or library.startswith(f"{root}.") or library == root):
                yield path
