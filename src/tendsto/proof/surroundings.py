"""A user's file in the light of a corpus: what its imports bring, what it states itself, what a search uses of both."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from tendsto.assistants import Opening, State
from tendsto.assistants.lean_session import goal as lean_goal
from tendsto.assistants.rocq import theorem_name
from tendsto.assistants.rocq_session import goal as rocq_goal
from tendsto.assistants.sentences import sentences, without_comments
from tendsto.proof.corpus import Corpus, File, Premise
from tendsto.proof.lean_file import proved_theorems
from tendsto.proof.nearest_tactics import NearestNeighbourTactics
from tendsto.proof.retrieval import BM25Retriever, CombinedRetriever, NearestNeighbourRetriever, RecencyRetriever
from tendsto.proof.search import AccessiblePremises

TACTICS_LEARNED = 20_000
"""How many tactics of a corpus with goals a search learns from, the last ones."""

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


@functools.lru_cache(maxsize=4)
def ranked_premises(folder: str | None, path: str, text: str) -> AccessiblePremises:
    """What ranks the premises that a proof at the end of `text` may use, those of a corpus and of the text itself.

    **Arguments**

    - `folder`: the corpus, in LeanDojo's layout; None for the text's own premises.
    - `path`, `text`: as in `with_file`; a Lean file's path ends in `.lean`.

    **Raises** as `Corpus.from_leandojo` and `with_file` do.
    """
    known = library(folder)
    corpus = with_lean_file(known, path, text) if path.endswith(".lean") else with_file(known, path, text)
    retrievers = [BM25Retriever(), RecencyRetriever()]
    if any(theorem.premises for theorem in known.theorems):
        retrievers.append(NearestNeighbourRetriever())
    retriever = CombinedRetriever(retrievers).fit(corpus, range(len(known.theorems)))
    return AccessiblePremises(retriever, corpus, corpus.accessible(path, len(text)))


@functools.cache
def known_tactics(folder: str | None) -> NearestNeighbourTactics:
    """A policy that knows the tactics of a corpus that has the goals before them, the last ones.

    **Arguments**

    - `folder`: as in `ranked_premises`.
    """
    policy = NearestNeighbourTactics()
    steps = [(theorem, it) for theorem in library(folder).theorems for it in theorem.tactics if it.state_before]
    for theorem, tactic in steps[-TACTICS_LEARNED:]:
        text = tactic.state_before
        with suppress(ValueError):  # of data sets made elsewhere, what is no goal teaches nothing
            first = lean_goal(text) if theorem.path.endswith(".lean") else rocq_goal(text)
            policy.learn(State(Opening((), ""), (), (first,), text), tactic.text)
    return policy


@functools.cache
def library(folder: str | None) -> Corpus:
    """The corpus in a folder, or one that is empty."""
    return Corpus((), (), ()) if folder is None else Corpus.from_leandojo(folder)


def _required(root: str | None, names: Iterable[str], libraries: dict[str, str]) -> Iterator[str]:
    """The paths of libraries by the names that a file gives them: whole, or from a root on their end."""
    for name in names:
        for library, path in libraries.items():
            whole = f".{library}"
            if whole.endswith(f".{name}") and (root is None or library.startswith(f"{root}.") or library == root):
                yield path
