"""How all figures look, and how they become files: the same bytes every time."""

import re
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.figsize": (5, 3.6),
    "font.family": "DejaVu Sans",  # which Matplotlib brings: no layout depends on the machine
    "font.size": 10,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    # Text stays text: it can be searched, and read in a PDF without a Type 3 font.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    # Matplotlib makes ids from it, at random without.
    "svg.hashsalt": "scaling",
    # A dollar sign in a title is a dollar sign.
    "text.parse_math": False,
}
# Nothing that tells when, or by what, a file was made.
_METADATA = {".png": {"Software": None}, ".pdf": {"CreationDate": None}}


def svg(figure: Figure, name: str, text: str) -> str:
    """Return a figure as an SVG element, the same bytes every time.

    Parameters
    ----------
    figure : Figure
    name : str
        Put before every id, so that several figures can stand in one page.
    text : str
        What the figure shows, for those who do not see it.

    Returns
    -------
    str
    """
    buffer = StringIO()
    with style.context(["default", STYLE]):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata={**nothing, "Title": text})
    element = buffer.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r"\s*<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)
    # What looks the same between tags is text.
    element = re.sub("<[^>]*>", lambda tag: _in_page(tag[0], name), element)
    return element.replace("<svg ", '<svg role="img" ', 1)


def _in_page(tag: str, name: str) -> str:
    """Return a tag with ids that begin with a name, and fonts for those without ours."""
    tag = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    return tag.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, Arial, sans-serif")


def octets(figure: Figure, ending: str, name: str, text: str) -> bytes:
    """Return the bytes of a figure as a file, the same every time.

    Parameters
    ----------
    figure : Figure
    ending : {".png", ".svg", ".pdf"}
    name, text : str
        See `svg`.
    """
    if ending == ".svg":
        return svg(figure, name, text).encode()
    buffer = BytesIO()
    with style.context(["default", STYLE]):
        figure.savefig(buffer, format=ending[1:], metadata={**_METADATA[ending], "Title": text})
    return buffer.getvalue()


def save(figure: Figure, path: Path, text: str = "") -> None:
    """Write a figure, as `octets` of the ending of the name.

    Parameters
    ----------
    figure : Figure
    path : Path
    text : str
        What the figure shows, for those who do not see it.
    """
    path.write_bytes(octets(figure, path.suffix, path.stem, text))
