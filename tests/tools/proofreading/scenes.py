"""Small scenes whose right correction is known: an image, its centerline map, and an SWC beside them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.klib.drawing import draw_edges
from lib.klib.image_io import write_tiff
from lib.swclib import SwcForest, SwcSpace, concatenate, read_swc, write_swc
from tools.proofreading.session import Session

Line = Sequence[Sequence[float]]
_OPEN: dict[Path, Session] = {}
"""The session of each folder that was opened last."""


def line(*corners: Sequence[float], step: float = 4.0) -> SwcForest:
    """A tree without forks along corners (y, x) or (z, y, x), a node every ``step`` pixels."""
    points = [np.array(corners[0], float)]
    for start, end in itertools.pairwise(corners):
        count = max(1, round(float(np.linalg.norm(np.subtract(end, start))) / step))
        points += [np.add(start, np.subtract(end, start) * k / count) for k in range(1, count + 1)]
    return SwcForest.from_positions(points, np.arange(len(points)) - 1, radius=2.0, types=2)


def make(
    folder: Path,
    shape: Sequence[int],
    tubes: Sequence[Line],
    trees: Sequence[SwcForest],
    space: SwcSpace | None = None,
    *,
    with_map: bool = True,
    review: str = "",
    confidence: Sequence[float] = (),
) -> Session:
    """Write a scene into a folder and open it.

    ``tubes`` are lines of corners that the image and the map show, ``trees`` is what the trace found of them.
    """
    space = space or SwcSpace("centre", "voxel")
    segments = np.array([pair for tube in tubes for pair in itertools.pairwise(tube)], float)
    bright = gaussian_filter(draw_edges(segments, 1.6, shape).astype(np.float32), 0.7)
    write_tiff(folder / "eye.tif", (40 + 180 * bright).astype(np.uint8))
    if with_map:
        write_tiff(folder / "eye_centerline.tif", (255 * bright).astype(np.uint8))
    ndim = len(shape)
    write_swc(folder / "eye.swc", space.coordinates(concatenate(trees)), comment=space.head(ndim))
    if review:
        (folder / "eye_review.csv").write_text(review)
    if confidence:
        write_confidence(folder, confidence)
    return reopen(folder)


def write_confidence(folder: Path, values: Sequence[float]) -> None:
    """Write a table of branches: tree ``k`` is one branch of a confidence."""
    branches = read_swc(folder / "eye.swc").branches()
    rows = [f"{k + 1},{each[0] + 1},{each[-1] + 1},{values[k]}" for k, each in enumerate(branches)]
    (folder / "eye_branches.csv").write_text("\n".join(["id,begin_node,end_node,confidence", *rows]) + "\n")


def reopen(folder: Path) -> Session:
    """Open the scene of a folder, after the session that had it open is closed."""
    if folder in _OPEN:
        _OPEN.pop(folder).close()
    _OPEN[folder] = Session.open(folder / "eye.tif", folder / "eye.swc")
    return _OPEN[folder]


def state(session: Session) -> bytes:
    """All that an SWC file would hold of the trees now, with the ids."""
    forest = session.forest
    columns = forest.ids, forest.types, forest.xyz, forest.radius, forest.parent
    return b"|".join(np.ascontiguousarray(each).tobytes() for each in columns)


def journal(folder: Path) -> list[dict]:
    """Records of the journal, its head first."""
    return [json.loads(text) for text in (folder / "eye_journal.jsonl").read_text().splitlines()]
