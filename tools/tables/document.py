"""A document made of blocks, written as Markdown or as a self-contained HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

QUALITY = 90
"""Quality of the JPEGs in the HTML file, high enough to keep thin coloured lines."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: .6em 0 1.2em; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 2px solid #888; } tr.strong td { font-weight: 600; }
tr.reference td { border-top: 2px solid #888; color: #777; font-style: italic; }
figure { display: inline-block; margin: .5em 1em 1em 0; max-width: 100%; vertical-align: top; }
img { max-width: 100%; } figcaption { font-size: 90%; color: #555; }
details { margin: .5em 0; } summary { cursor: pointer; }
"""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title of the document."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph, a list (``items``), or a list after a paragraph."""

    text: str = ""
    items: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes
    ----------
    header, rows
        Cells, one for each column.
    strong
        The row that stands out, if any.
    reference
        A row of another kind than the others, to compare with, if any; it is set apart.
    summary
        Text of a table that HTML shows only after a click on it; empty for a table that is always shown.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: int | None = None
    reference: int | None = None
    summary: str = ""


@dataclass(frozen=True)
class Figure:
    """Pictures side by side, each uint8 ``(y, x, 3)``; Markdown shows only the caption."""

    pictures: Sequence[np.ndarray]
    caption: str


Block = Heading | Text | Table | Figure


def as_markdown(blocks: Sequence[Block]) -> str:
    """The document as Markdown, without pictures."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Text):
        return "\n".join([*([block.text] if block.text else []), *(f"- {item}" for item in block.items)])
    if isinstance(block, Figure):
        return f"*Picture in tables.html: {block.caption}*"
    rows = [list(row) for row in block.rows]
    if block.strong is not None:
        rows[block.strong] = [cell and f"**{cell}**" for cell in rows[block.strong]]
    if block.reference is not None:
        rows[block.reference][0] = f"*{rows[block.reference][0]}*"
    rule = ["---"] + ["---:"] * (len(block.header) - 1)
    lines = [_markdown_row(row) for row in (block.header, rule, *rows)]
    return "\n".join([*([f"{block.summary}:", ""] if block.summary else []), *lines])


def _markdown_row(row: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def as_html(blocks: Sequence[Block], title: str) -> str:
    """The document as one HTML file that contains its pictures."""
    body = "\n".join(_html(block) for block in blocks)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        text = f"<p>{html.escape(block.text)}</p>" if block.text else ""
        items = "".join(f"<li>{html.escape(item)}</li>" for item in block.items)
        return text + (f"<ul>{items}</ul>" if items else "")
    if isinstance(block, Figure):
        images = "".join(f'<img alt="" src="{_data_url(picture)}">' for picture in block.pictures)
        return f"<figure>{images}<figcaption>{html.escape(block.caption)}</figcaption></figure>"
    return _html_table(block)


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = []
    for number, row in enumerate(table.rows):
        kind = {table.strong: "strong", table.reference: "reference"}.get(number)
        opening = f'<tr class="{kind}">' if kind else "<tr>"
        rows.append(opening + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
    text = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<details><summary>{html.escape(table.summary)}</summary>{text}</details>" if table.summary else text


def _data_url(picture: np.ndarray) -> str:
    """A picture as the URL of an embedded JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
