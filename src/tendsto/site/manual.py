"""What a paper's page says of its methods: how to call them, and their docstrings set as pages."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, Signature, getdoc, isclass, signature
from textwrap import indent

from markdown_it import MarkdownIt
from markupsafe import Markup

from tendsto.evidence import Paper
from tendsto.evidence.notation import to_html
from tendsto.iteration import Method

_MATHS = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$]+)\$", re.DOTALL)
_MARK = re.compile("\ue000(\\d+)\ue001")
_WIDTH = 88


@dataclass(frozen=True)
class Manual:
    """A method as a card names it, its docstring as HTML, and a line of Python that calls it."""

    name: str
    text: Markup
    call: str


@cache
def manuals(card: Paper) -> tuple[Manual, ...]:
    """The manual of each method of `card`, in its order."""
    found = []
    for name in card.method:
        value = importlib.import_module("tendsto")
        for part in name.split("."):
            value = getattr(value, part)
        text = docstring(getdoc(value) or "")
        found.append(Manual(name, text, _call(name, value)))
    return tuple(found)


def docstring(text: str) -> Markup:
    """A docstring as HTML: its Markdown, with formulas as MathML; HTML in it is text."""
    formulas: list[Markup] = []

    def keep(found: re.Match[str]) -> str:
        formula = to_html(f"${' '.join((found[1] or found[2]).split())}$", source=True)
        formulas.append(Markup('<span class="formula">{}</span>').format(formula) if found[1] else formula)
        return f"\ue000{len(formulas) - 1}\ue001"

    marked = _MATHS.sub(keep, re.sub("[\ue000\ue001]", "", text))
    page = MarkdownIt("js-default").render(marked)
    return Markup(_MARK.sub(lambda found: formulas[int(found[1])], page))


def _call(name: str, value: object) -> str:
    try:
        found = signature(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"tt.{name}"
    parameters = [it.replace(annotation=Parameter.empty) for it in found.parameters.values()]
    line = f"tt.{name}{Signature(parameters)}"
    method = isclass(value) and issubclass(value, Method)
    if method:
        line = f"method = {line}"
    if len(line) > _WIDTH:
        head, _, rest = line.partition("(")
        arguments = [str(it) for it in parameters]
        if any(it.kind is Parameter.KEYWORD_ONLY for it in parameters):
            first = next(place for place, it in enumerate(parameters) if it.kind is Parameter.KEYWORD_ONLY)
            arguments.insert(first, "*")
        listed = indent(",\n".join(arguments), "    ")
        line = f"{head}(\n{listed},\n)" if rest != ")" else line
    return f"{line}\ntrace = tt.run(method, problem, start, steps=1000)" if method else line
