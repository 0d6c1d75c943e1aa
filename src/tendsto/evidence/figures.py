"""Turn a claim's Matplotlib figures into SVG: the same bytes on every run, readable on light and on dark."""

from __future__ import annotations

import io
import sys
from contextlib import AbstractContextManager

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

_INK = "#000000"
# Each has a contrast of at least 3:1 with white and with the dark page, and they differ in lightness too.
_CYCLE = ("#2f7fe0", "#d9651a", "#1d9a6c", "#c052c4", "#a07d00", "#e04a6b", "#1793a5", "#7b7f87")
_ADAPT = "<style>svg{color:#1a1c20;fill:currentColor}@media(prefers-color-scheme:dark){svg{color:#e6e7ea}}</style>"


def drawing_style() -> AbstractContextManager[None]:
    """The settings under which a claim draws: no background, and ink that `render_svg` adapts to the page."""
    return matplotlib.rc_context(
        {
            "figure.facecolor": "none",
            "figure.figsize": (6.4, 3.8),
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "axes.prop_cycle": cycler(color=_CYCLE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#8a8f98",
            "grid.alpha": 0.25,
            "legend.facecolor": "none",
            "legend.edgecolor": "none",
        }
    )


def render_svg(figure: Figure) -> str:
    """The figure as an SVG document, and the figure closed.

    Glyphs are outlines, identifiers are salted alike and no date is written, so equal figures give
    equal text. Black is drawn in the colour of the page's own text, light or dark.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "tendsto"}):
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(figure)
    figure.clear()
    svg = stream.getvalue()
    head, opened, body = svg.partition("<svg ")
    attributes, closed, body = body.partition(">")
    return head + opened + attributes + closed + _ADAPT + body.replace(_INK, "currentColor")
