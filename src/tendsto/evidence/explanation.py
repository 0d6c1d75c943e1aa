"""What a paper's methods say of themselves: the first sentence and the formula of each docstring."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from inspect import getdoc

from tendsto.evidence.claim import Paper

_DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)


@dataclass(frozen=True)
class Explanation:
    """A method as a card names it, the sentence its docstring begins with, and its displayed formulas in LaTeX."""

    name: str
    sentence: str
    formulas: tuple[str, ...]


def explain(card: Paper) -> list[Explanation]:
    """An explanation of each method of `card`, in its order; one without a docstring explains nothing.

    **Raises** `AttributeError` if the card names what does not exist.
    """
    explanations = []
    for name in card.method:
        value = importlib.import_module("tendsto")
        for part in name.split("."):
            value = getattr(value, part)
        text = getdoc(value) or ""
        formulas = tuple(" ".join(found.split()).rstrip(",.; ") for found in _DISPLAYED.findall(text))
        explanations.append(Explanation(name, unwrap(text)[0] if text else "", formulas))
    return explanations


def unwrap(text: str) -> list[str]:
    """The paragraphs of `text`, each on one line."""
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip())]
