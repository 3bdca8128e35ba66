"""Compare simulated volumes with real confocal stacks in four plots.

    python -m benchmarks.simulation_realism $DATASETS --out docs/figures/simulation_realism.png

The real volumes are DIADEM's olfactory projection fibres (OP). For each, two volumes are simulated from its gold tree,
with the presets ``op`` and ``fmost``. The plots show, in a window around the middle of the gold tree: the distribution
of all values, the brightness by distance from the centerline, the same relative to the noise of the background, and
the spectrum of this noise.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tifffile
from scipy.ndimage import distance_transform_edt
from skimage.util import view_as_blocks

from lib.files import atomic_write
from lib.klib.drawing import draw_edges
from lib.swclib import SwcForest, read_swc, rescale, translate
from tools.cli import run
from tools.simulation import EFFECTS, Effects, simulate_block

SPACING = (1.0, 0.33, 0.33)
"""Voxel size of OP in µm, (z, y, x)."""
DISTANCES = np.arange(0, 16)
"""Distances from the centerline in pixels of a slice."""
BACKGROUND_DISTANCE = 30
"""Voxels farther than this from the gold tree, in pixels of a slice, are background."""
WINDOW = 208
"""Side of the window in y and x, in pixels."""
PATCH = 26
"""Side of the patches of the spectrum, in pixels."""
COLOURS = {"real": "black", "op": "tab:orange", "fmost": "tab:blue"}


@dataclass(frozen=True)
class Curves:
    """Measurements of a volume.

    Attributes
    ----------
    values, share
        Voxel values, and the share of voxels that have at least each value.
    near
        ``(3, D)`` percentiles 10, 50 and 90 of the values at each of :data:`DISTANCES`.
    level, noise
        Median and standard deviation of the background; the latter from differences of neighbours, which exclude
        coarse texture.
    frequency, power
        Spectrum of the background in a slice, averaged over directions: cycles per pixel, and power relative to its
        mean.
    """

    values: np.ndarray
    share: np.ndarray
    near: np.ndarray
    level: float
    noise: float
    frequency: np.ndarray
    power: np.ndarray

    @property
    def contrast(self) -> np.ndarray:
        """Median brightness above the background relative to its noise, which is at least 1, the step of the values."""
        return (self.near[1] - self.level) / max(self.noise, 1.0)


def measure(volume: np.ndarray, gold: SwcForest) -> Curves:
    """Measure a volume ``(z, y, x)``; the gold tree is in voxels."""
    distance = _distance(volume.shape, gold)
    rings = [volume[(distance >= d - 0.5) & (distance < d + 0.5)] for d in DISTANCES]
    near = np.stack([np.percentile(ring, (10, 50, 90)) for ring in rings], axis=1)
    change = np.diff(volume.astype(np.float32), axis=2)[distance[..., 1:] > BACKGROUND_DISTANCE]
    values = np.unique(np.geomspace(1, volume.max(), 60).astype(int))
    counts = np.bincount(volume.ravel(), minlength=int(volume.max()) + 1)
    share = counts[::-1].cumsum()[::-1][values] / volume.size
    level = float(np.median(volume[distance > BACKGROUND_DISTANCE]))
    return Curves(values, share, near, level, float(change.std() / np.sqrt(2)), *_spectrum(volume, distance))


def _distance(shape: tuple[int, ...], gold: SwcForest) -> np.ndarray:
    """Distance of every voxel from the centerline, in pixels of a slice."""
    line = draw_edges(gold.positions(3)[gold.edges], 0.6, shape)
    return np.asarray(distance_transform_edt(~line, sampling=np.array(SPACING) / SPACING[2]), dtype=np.float32)


def _spectrum(volume: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, and mean power of background patches in a slice at each."""
    patches, distances = _patches(volume.astype(float)), _patches(distance)
    # A patch of a single value is clipped at black and shows no noise.
    patches = patches[(distances.min(axis=(1, 2)) > BACKGROUND_DISTANCE) & (patches.std(axis=(1, 2)) > 0.3)]
    if not len(patches):
        return np.zeros(0), np.zeros(0)
    varying = patches - patches.mean(axis=(1, 2), keepdims=True)
    total = (abs(np.fft.fft2(varying * np.outer(np.hanning(PATCH), np.hanning(PATCH)))) ** 2).sum(axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(PATCH), np.fft.fftfreq(PATCH)))
    ring = np.rint(frequency * PATCH).astype(int)
    power = np.bincount(ring.ravel(), total.ravel()) / np.bincount(ring.ravel())
    half = PATCH // 2 + 1
    return np.arange(1, half) / PATCH, power[1:half] / total.mean()


def _patches(volume: np.ndarray) -> np.ndarray:
    """``(N, PATCH, PATCH)`` patches that lie side by side in every second slice."""
    _, y, x = np.array(volume.shape) // PATCH * PATCH
    return view_as_blocks(volume[::2, :y, :x], (1, PATCH, PATCH)).reshape(-1, PATCH, PATCH)


def cropped(volume: np.ndarray, gold: SwcForest) -> tuple[np.ndarray, SwcForest]:
    """The volume in a window around the middle of the gold tree, and the gold tree in its coordinates (not clipped)."""
    points = gold.positions(3)
    middle = points[np.argmin(np.linalg.norm(points - np.median(points, axis=0), axis=1))].astype(int)
    low = np.clip(middle - WINDOW // 2, 0, np.array(volume.shape) - WINDOW) * (0, 1, 1)
    return volume[:, low[1] : low[1] + WINDOW, low[2] : low[2] + WINDOW], translate(gold, -low)


def simulated(gold: SwcForest, shape: tuple[int, ...], preset: str, seed: int) -> tuple[np.ndarray, SwcForest]:
    """A volume simulated from a real gold tree, and its gold tree, both in voxels."""
    pixels = rescale(gold, (SPACING[0] / SPACING[2], 1, 1))
    # `rescale` also changes radii, but those of the gold tree are already in pixels of a slice.
    pixels, rng = replace(pixels, radius=gold.radius), np.random.default_rng([seed, len(gold)])
    made = simulate_block(pixels, (0, 0, 0), shape, SPACING, Effects(**EFFECTS[preset]), rng)
    return made.volume, made.gold


def draw(curves: dict[str, list[Curves]], path: Path) -> None:
    """Write the four plots, with a line for each volume."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5))
    for name, ones in curves.items():
        for one in ones:
            style = {"color": COLOURS[name], "lw": 0.9, "alpha": 0.8, "label": name if one is ones[0] else None}
            scale = 255 if name != "fmost" else 65535
            axes[0, 0].loglog(one.values / scale, one.share, **style)
            axes[0, 1].plot(DISTANCES, (one.near[1] - one.level) / max(one.near[1, 0] - one.level, 1), **style)
            axes[1, 0].semilogy(DISTANCES, np.maximum(one.contrast, 0.1), **style)
            axes[1, 1].semilogy(one.frequency, one.power, **style)
    labels = (
        ("value / largest possible value", "share of voxels at least as bright"),
        ("distance from the centerline (pixels)", "median brightness, 1 at the centerline"),
        ("distance from the centerline (pixels)", "median brightness over noise"),
        ("frequency (cycles per pixel)", "power of the background (mean 1)"),
    )
    for axis, (across, up) in zip(axes.flat, labels, strict=True):
        axis.set(xlabel=across, ylabel=up)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=80)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Measure, draw, and print numbers for each volume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds OP/training and OP/test")
    picture = Path("docs/figures/simulation_realism.png")
    parser.add_argument("--out", type=Path, default=picture, help="picture to write")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the simulations")
    given = parser.parse_args(argv)
    curves: dict[str, list[Curves]] = {name: [] for name in COLOURS}
    print(f"{'':14s} {'background':>10s} {'noise':>7s} {'at centerline: 10 %, 50 %, 90 %':>33s} {'over noise':>11s}")
    for path in sorted((given.data / "OP").glob("*/images/*.tif")):
        gold = read_swc(path.parents[1] / "swc" / f"{path.stem}.swc")
        real, gold = cropped(tifffile.imread(path), gold)
        pairs = {"real": (real, gold)} | {p: simulated(gold, real.shape, p, given.seed) for p in ("op", "fmost")}
        for name, pair in pairs.items():
            one = measure(*pair)
            curves[name].append(one)
            low, middle, high = one.near[:, 0]
            numbers = f"{low:11.0f}{middle:11.0f}{high:11.0f} {one.contrast[0]:11.1f}"
            print(f"{path.stem:6s} {name:7s} {one.level:10.1f} {one.noise:7.2f} {numbers}", flush=True)
    draw(curves, given.out)


if __name__ == "__main__":
    run(main)
