"""A page to look at a trace: one HTML file with the picture, its branches, and the queue of doubts.

The page needs no server and no network: picture, data, style, script and viewer (three.js) are inside it.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from lib.files import atomic_write
from lib.formats.graph import BranchGraph

SIDE = 8192
"""Pixels of the longest side of the picture in the page; no graphics card of today refuses a texture of that size."""
QUALITY = 90
"""Of the JPEG."""
DOUBTS = 1000
"""Doubts in the page, from the first: nobody answers more, and a longer list is slow."""


def write_page(
    path: Path,
    picture: NDArray[Any],
    graph: BranchGraph,
    doubts: Sequence[Mapping[str, Any]] = (),
    scale: Sequence[float] | float = 1.0,
) -> None:
    """Write a page on which the branches can be looked at over their image, or turned in three dimensions.

    Parameters
    ----------
    path
        The file.
    picture
        ``(y, x, 1 or 3)``, or a volume ``(z, y, x)`` or ``(z, y, x, 1)``; uint8, or float in [0, 1].
    graph
        The branches, their table, and the edges that close loops.
    doubts
        Places to look at, most expected gain first: ``rank``, ``question``, ``branch``, ``x``, ``y``, in volumes ``z``
        (pixels of the image, 0 at the centre of the first one), ``confidence`` and ``gain``.

    scale
        Pixels of the picture in a pixel of the image, along each axis, where it was made smaller.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    parts = {
        "title": html.escape(graph.name),
        "style": _part("page.css"),
        "content": _json(page_content(picture, graph, doubts, scale)),
        "viewer": _part("three.min.js"),
        "script": _part("page.js"),
    }
    # All at once, so that braces in a name are not taken for another part.
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def page_content(
    picture: NDArray[Any],
    graph: BranchGraph,
    doubts: Sequence[Mapping[str, Any]] = (),
    scale: Sequence[float] | float = 1.0,
) -> dict[str, Any]:
    """What the script of the page reads; see :func:`write_page`.

    Places are (x, y) or (x, y, z) in pixels of x, so that voxels that are no cubes have their true shape.
    """
    size = _pixel_size(graph)
    lines = graph.lines
    rows = np.concatenate([np.zeros(0, np.int64), *(nodes for nodes, _ in lines)])
    return {
        "name": graph.name,
        "origin": graph.origin,
        "ndim": graph.ndim,
        "picture": _picture(picture, size, scale),
        "nodes": _packed([len(nodes) for nodes, _ in lines], "<u4"),
        "places": _packed((graph.forest.positions(graph.ndim)[rows] * size)[:, ::-1], "<f4"),
        "table": _table([row for _, row in lines], graph.columns),
        "doubts": [_doubt(row, size) for row in doubts[:DOUBTS]],
        "doubts_in_all": len(doubts),
    }


def _pixel_size(graph: BranchGraph) -> NDArray[np.floating]:
    """Size of a pixel along (z, y, x) in pixels of x; an image is drawn pixel by pixel, whatever their shape."""
    size = np.array(graph.voxel_size if graph.ndim == 3 and graph.voxel_size else (1.0,) * graph.ndim)
    return size / size[-1]


def _picture(picture: NDArray[Any], size: NDArray[np.floating], scale: Sequence[float] | float) -> dict[str, Any]:
    """The image, or the greatest values of a volume along z, as a JPEG, and its two corners (x, y[, z])."""
    shape, file = np.array(picture.shape[: len(size)]) / scale, io.BytesIO()
    image = Image.fromarray(_as_bytes(_projection(picture) if len(size) == 3 else picture))
    image.thumbnail((SIDE, SIDE))
    image.save(file, "JPEG", quality=QUALITY, subsampling=0)
    corners = [(corner * size)[::-1].tolist() for corner in (-0.5 * np.ones(len(size)), shape - 0.5)]
    return {"jpeg": base64.b64encode(file.getvalue()).decode(), "corners": corners}


def _projection(volume: NDArray[Any]) -> NDArray[np.floating]:
    """``(y, x)`` greatest value along z, with 1 for the greatest of all: volumes are often dark."""
    flat = volume.reshape(volume.shape[:3]).max(axis=0)
    return flat / max(float(flat.max()), 1e-6)


def _as_bytes(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """``(y, x)`` or ``(y, x, 3)`` in [0, 255]."""
    if picture.dtype != np.uint8:
        picture = (picture.clip(0, 1) * 255).round().astype(np.uint8)
    return picture[..., 0] if picture.shape[2:] == (1,) else picture


def _packed(values: ArrayLike, dtype: str) -> str:
    """Numbers as base64: a quarter of their length as text, and read at once."""
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, list[Any]]:
    """The columns that have a value."""
    table = {name: [_plain(row.get(name)) for row in rows] for name in columns}
    return {name: values for name, values in table.items() if any(value is not None for value in values)}


def _doubt(row: Mapping[str, Any], size: NDArray[np.floating]) -> dict[str, Any]:
    """A doubt with its ``place`` as in :func:`page_content`."""
    place = [float(row[axis]) * each for axis, each in zip("xyz", size[::-1].tolist(), strict=False)]
    known = {name: _plain(row.get(name)) for name in ("rank", "question", "branch", "confidence", "gain")}
    return {**known, "place": place}


def _plain(value: Any) -> Any:
    """A value that JSON knows; None for a number that is none."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(content: Mapping[str, Any]) -> str:
    """JSON in which nothing can end the element that it stands in."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _part(name: str) -> str:
    """A file of this folder."""
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
