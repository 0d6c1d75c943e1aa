"""Turn the formulas of a page into MathML when it is built, so that reading it needs no script and no network."""

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Replace each formula that the Markdown extension has marked."""

    def render(match: re.Match[str]) -> str:
        display = "block" if match.group(1) == "div" else "inline"
        return convert(html.unescape(match.group(2)), display=display)

    return _FORMULA.sub(render, content)
