"""Draw the examples of docs/metrics.md.

    python -m benchmarks.metrics_figures

Each example is a pair of small trees, scored and drawn as `evaluate.py --picture` does. The numbers below the titles
are computed, so that they always agree with the code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib.klib.image_io import write_png
from lib.swclib import SwcForest, concatenate, translate
from lib.swclib.metrics import Protocol, score
from tools.pictures.errors import error_picture

OUT = Path("docs/figures/metrics.png")
SIZE = (60, 100)
"""Size of an example in pixels, (y, x)."""
ZOOM = 4
"""Picture pixels per pixel of an example."""
TITLE = 46
"""Height of the text above an example in picture pixels."""

Example = tuple[str, SwcForest, SwcForest, Protocol, tuple[str, ...]]
"""Title, gold tree, test tree, protocol and names of the numbers to show."""


def main() -> None:
    """Write the sheet."""
    tiles = [example(*arguments) for arguments in examples()]
    height = max(tile.shape[0] for tile in tiles)
    tiles = [np.pad(tile, ((0, height - len(tile)), (0, 0), (0, 0)), constant_values=255) for tile in tiles]
    columns = [np.concatenate(tiles[k : k + 2], axis=1) for k in range(0, len(tiles), 2)]
    write_png(OUT, np.concatenate(columns))


def line(*positions: tuple[float, float]) -> SwcForest:
    """A path through (y, x) positions."""
    return SwcForest.from_positions(positions, np.arange(-1, len(positions) - 1))


def examples() -> list[Example]:
    """The examples in the order of the sheet."""
    gold = SwcForest.from_positions([[30, 5], [30, 40], [30, 95], [10, 70], [52, 70]], [-1, 0, 1, 1, 1])
    trunk = line((30, 5), (30, 95))
    circle = [(30 + 24 * np.sin(a), 50 + 24 * np.cos(a)) for a in np.linspace(0.1, 2 * np.pi - 0.1, 60)]
    turned = [(30 + 24 * np.sin(a), 50 + 24 * np.cos(a)) for a in np.linspace(-np.pi + 0.1, np.pi - 0.1, 60)]
    two_lines = concatenate([line((18, 5), (18, 95)), line((42, 5), (42, 95))])
    return [
        ("1  branches missed: ABL is better than the gold's", gold, trunk, "paper", ("coverage", "ABL", "PE")),
        ("2  cut into parts: only breaks, paths and ABL see it", trunk,
         concatenate([line((30, 5), (30, 34)), line((30, 36), (30, 64)), line((30, 66), (30, 95))]), "paper",
         ("SSD_F1", "coverage", "breaks", "paths_F1", "ABL")),
        ("3  far off: PE counts only what is near", trunk, line((31, 5), (31, 40), (50, 60), (50, 95)), "paper",
         ("PE", "PE_matched_fraction", "coverage")),
        ("4  two vessels joined", two_lines, line((18, 5), (18, 95), (42, 95), (42, 5)), "paper",
         ("SSD_F1", "JE", "false_merges", "breaks")),
        ("5  a loop cut elsewhere: JE and breaks count the cut", line(*circle), line(*turned), "paper",
         ("SSD_F1", "JE", "breaks", "false_merges")),
        ("6  the same under closed", line(*circle), line(*turned), "closed",
         ("SSD_F1", "JE", "breaks", "false_merges")),
        ("7  moved by half a pixel", gold, translate(gold, 0.5), "paper", ("PE", "offset_y", "shift_y", "shift_x")),
        ("8  a detour off the gold: one break, one merge", trunk,
         line((30, 5), (30, 35), (44, 50), (30, 65), (30, 95)), "paper",
         ("coverage", "on_gold", "breaks", "false_merges")),
    ]  # fmt: skip


def example(title: str, gold: SwcForest, test: SwcForest, protocol: Protocol, names: tuple[str, ...]) -> np.ndarray:
    """Error picture of an example with its title and numbers, uint8 ``(y, x, 3)``."""
    result = score(gold, test, protocol=protocol)
    row = result.row()
    numbers = "   ".join(f"{name} {'-' if row[name] is None else format(row[name], '.3g')}" for name in names)
    picture = error_picture(gold, test, result, np.zeros((*SIZE, 1)), zoom=ZOOM)
    sheet = Image.new("RGB", (picture.shape[1] + 8, TITLE + picture.shape[0] + 8), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 4), title, fill="black", font=ImageFont.load_default(size=15))
    draw.text((4, 24), numbers, fill="black", font=ImageFont.load_default(size=13))
    sheet.paste(Image.fromarray(picture), (4, TITLE))
    return np.asarray(sheet)


if __name__ == "__main__":
    main()
