"""Show LaTeX between dollar signs: as MathML on a page, as Unicode in a terminal."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markupsafe import Markup, escape
from pylatexenc.latex2text import LatexNodes2Text

_PIECES = re.compile(r"\$([^$]+)\$|`([^`]+)`")
_NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
_ELEMENTS = re.compile(
    "math|menclose|mfrac|mi|mmultiscripts|mn|mo|mover|mpadded|mphantom|mprescripts|mroot|mrow|mspace|msqrt|mstyle"
    "|msub|msubsup|msup|mtable|mtd|mtext|mtr|munder|munderover|none"
)
_ATTRIBUTES = re.compile(
    "accent|accentunder|columnalign|columnspacing|depth|display|displaystyle|fence|form|height|linethickness|lspace"
    "|mathvariant|maxsize|minsize|movablelimits|rowspacing|rspace|scriptlevel|separator|stretchy|symmetric|width"
)


def to_html(text: str) -> Markup:
    """`text` with its `$LaTeX$` as MathML and its `names` as code; all else is escaped."""
    parts, end = [], 0
    for piece in _PIECES.finditer(text):
        latex, name = piece.groups()
        parts += [escape(text[end : piece.start()]), _mathml(latex) if latex else _code(name)]
        end = piece.end()
    return Markup("").join([*parts, escape(text[end:])])


def to_unicode(text: str) -> str:
    """`text` with its `$LaTeX$` in Unicode characters, as near as they come."""
    convert_latex = LatexNodes2Text(math_mode="text").latex_to_text
    return _PIECES.sub(lambda it: convert_latex(it[0]).strip() if it[1] else it[0], text)


def _mathml(latex: str) -> Markup:
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
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _code(text: str) -> Markup:
    return Markup("<code>{}</code>").format(text)
