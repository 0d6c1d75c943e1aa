"""Draw a page's figures from the code on it, when the manual is built: what is shown is what the reader can run."""

import io
import re
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Run the Python of pages marked `figures: true`, and put the `figure` that a block leaves below it."""
    if not page.meta.get("figures"):
        return markdown
    namespace: dict[str, Any] = {"__name__": "example"}
    count = 0

    def draw(block: re.Match[str]) -> str:
        nonlocal count
        namespace.pop("figure", None)
        exec(compile(block.group(1), page.file.src_uri, "exec"), namespace)
        figure = namespace.get("figure")
        if not isinstance(figure, Figure):
            return block.group(0)
        count += 1
        name = f"{page.file.src_uri.removesuffix('.md')}-{count}.svg"
        stream = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
            figure.savefig(stream, format="svg", metadata={"Date": None})
        files.append(File.generated(config, name, content=stream.getvalue()))
        return f"{block.group(0)}\n![{figure.get_label()}]({name.rpartition('/')[2]})\n"

    return _BLOCK.sub(draw, markdown)
