"""Show LaTeX between dollar signs: as MathML on a page, as Unicode in a terminal."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markupsafe import Markup, escape
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db

_PIECES = re.compile(r"\$([^$]+)\$|`([^`]+)`")
_SCRIPTS = re.compile(r"([_^])\{([^{}\\]*)\}")
_FRACTIONS = re.compile(r"\\[td]frac(?![a-zA-Z])")  # the converter's parser knows no sizes
_RELATIONS = {"le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "approx": "≈", "in": "∈"}
_NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
_ELEMENTS = re.compile(
    "math|menclose|mfrac|mi|mmultiscripts|mn|mo|mover|mpadded|mphantom|mprescripts|mroot|mrow|mspace|msqrt|mstyle"
    "|msub|msubsup|msup|mtable|mtd|mtext|mtr|munder|munderover|none"
)
_ATTRIBUTES = re.compile(
    "accent|accentunder|columnalign|columnspacing|depth|display|displaystyle|fence|form|height|linethickness|lspace"
    "|mathvariant|maxsize|minsize|movablelimits|rowspacing|rspace|scriptlevel|separator|stretchy|symmetric|width"
)


@lru_cache(maxsize=8192)
def to_html(text: str, *, source: bool = False) -> Markup:
    """`text` with its `$LaTeX$` as MathML and its `names` as code; all else is escaped.

    With `source` each formula carries its LaTeX as the attribute `alttext`, for a page that sets it anew.
    """
    parts, end = [], 0
    for piece in _PIECES.finditer(text):
        latex, name = piece.groups()
        parts += [escape(text[end : piece.start()]), _mathml(latex, source) if latex else _code(name)]
        end = piece.end()
    return Markup("").join([*parts, escape(text[end:])])


def to_unicode(text: str) -> str:
    """`text` with its `$LaTeX$` in Unicode characters on one line, with the parentheses that this takes."""
    return _PIECES.sub(lambda piece: _one_line(piece[1]) if piece[1] else piece[0], text)


def _one_line(latex: str) -> str:
    grouped = _SCRIPTS.sub(lambda script: f"{script[1]}{{{_atom(script[2])}}}", _FRACTIONS.sub(r"\\frac", latex))
    try:
        return " ".join(_terminal().latex_to_text(f"${grouped}$").split())
    except Exception:  # as with the other converter; the source is readable too
        return latex


def _atom(text: str) -> str:
    return text if text.isalnum() else f"({text})"


@cache
def _terminal() -> LatexNodes2Text:
    """The converter, taught to keep what it would drop: norms, spaces around relations, what a bar spans."""

    def fraction(node: Any, l2tobj: LatexNodes2Text) -> str:
        parts = (l2tobj.nodelist_to_text([part]).strip() for part in node.nodeargd.argnlist)
        return "/".join(map(_atom, parts))

    macros = [MacroTextSpec("frac", fraction)]
    macros += [MacroTextSpec(name, f" {sign} ") for name, sign in _RELATIONS.items()]
    macros.append(MacroTextSpec("|", "‖"))
    context = get_default_latex_context_db()
    context.add_context_category("one line", macros=macros, prepend=True)
    return LatexNodes2Text(latex_context=context, math_mode="text")


def _mathml(latex: str, source: bool) -> Markup:
    # The converter copies text and links through unescaped: what it returns counts as hostile until it parses
    # as nothing but MathML.
    try:
        root = ElementTree.fromstring(convert(latex).replace(_NAMESPACE, ""))
    except Exception:  # a converter of any LaTeX at all raises nearly anything; the source is readable too
        return _code(latex)
    for node in root.iter():
        if not _ELEMENTS.fullmatch(node.tag):
            return _code(latex)
        node.attrib = {key: value for key, value in node.attrib.items() if _ATTRIBUTES.fullmatch(key)}
    if source:
        root.set("alttext", latex)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _code(text: str) -> Markup:
    return Markup("<code>{}</code>").format(text)
