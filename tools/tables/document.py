"""A document of a few kinds of blocks, written as Markdown or as one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

QUALITY = 90
"""Of the JPEGs in the HTML file: thin coloured lines must stay what they are."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: .6em 0 1.2em; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 2px solid #888; } tr.strong td { font-weight: 600; }
figure { display: inline-block; margin: .5em 1em 1em 0; max-width: 100%; vertical-align: top; }
img { max-width: 100%; } figcaption { font-size: 90%; color: #555; }
details { margin: .5em 0; } summary { cursor: pointer; }
"""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the document's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph, or with ``items`` a list."""

    text: str = ""
    items: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """Cells as text; rows whose number is in ``strong`` stand out. A folded one is shown on a click in HTML."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()
    folded: str = ""


@dataclass(frozen=True)
class Figure:
    """Pictures side by side, uint8 ``(y, x, 3)``; in Markdown only the caption."""

    pictures: Sequence[np.ndarray]
    caption: str


Block = Heading | Text | Table | Figure


def as_markdown(blocks: Sequence[Block]) -> str:
    """The document as Markdown, pictures left out."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    """One block as Markdown."""
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Text):
        return "\n".join([*([block.text] if block.text else []), *(f"- {item}" for item in block.items)])
    if isinstance(block, Figure):
        return f"*Picture in tables.html: {block.caption}*"
    rows = [[f"**{cell}**" if n in block.strong and cell else cell for cell in row] for n, row in enumerate(block.rows)]
    rule = ["---"] + ["---:"] * (len(block.header) - 1)
    lines = [_cells(row) for row in (block.header, rule, *rows)]
    return "\n".join([*([f"{block.folded}:", ""] if block.folded else []), *lines])


def _cells(row: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def as_html(blocks: Sequence[Block], title: str) -> str:
    """The document as one HTML file, pictures in it."""
    body = "\n".join(_html(block) for block in blocks)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _html(block: Block) -> str:
    """One block as HTML."""
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        text = f"<p>{html.escape(block.text)}</p>" if block.text else ""
        items = "".join(f"<li>{html.escape(item)}</li>" for item in block.items)
        return text + (f"<ul>{items}</ul>" if items else "")
    if isinstance(block, Figure):
        images = "".join(f'<img alt="" src="{_inlined(picture)}">' for picture in block.pictures)
        return f"<figure>{images}<figcaption>{html.escape(block.caption)}</figcaption></figure>"
    return _html_table(block)


def _html_table(table: Table) -> str:
    """A table as HTML."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = []
    for number, row in enumerate(table.rows):
        mark = ' class="strong"' if number in table.strong else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
    text = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<details><summary>{html.escape(table.folded)}</summary>{text}</details>" if table.folded else text


def _inlined(picture: np.ndarray) -> str:
    """A picture as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
