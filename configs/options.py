"""Options of the scripts, for 2D and 3D alike. Every field is an option of the same name; see docs/parameters.md.

Paper defaults in 2D (docs/paper.md) unless docs/parameters.md says otherwise. `config_2d.py` and
`config_3d.py` add a preset per dataset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class PrepareOptions:
    """Make training data from images and gold SWCs (or label masks)."""

    dataset: str = "custom"
    """Name of a preset, whose scale, SWC origin and number of patches become the defaults; or any name for own data."""
    data_root: Path = Path("data_root")
    """Folder that holds <dataset>/<split>, or itself holds images (images_color) and swc (or labels, binary masks)."""
    out: Path = Path("data/custom")
    """Folder to write; an earlier result there is replaced, any other folder is left alone."""
    split: str = "training"
    """Sub-folder of the dataset to prepare."""
    scale: float = 1.0
    """Work pixels per image pixel: the image and its tree are resized by this before anything else. Tubes should come
    out 3 to 15 pixels wide."""
    swc_origin: Literal["corner", "centre"] = "centre"
    """Where coordinate 0 of the SWC lies in the first pixel: at its corner (0.5 is subtracted) or at its centre."""
    n_samples: int = 150_000
    """Patches in all, shared out over the images in proportion to the length of branches that can be walked; 0 writes
    no patches, only the images and trees that online sampling needs."""
    patch_size: tuple[int, ...] = (64, 64)
    """Patch in work pixels, y x (z y x), multiples of 16."""
    step: float = 10.0
    """Distance between nodes in work pixels (of the finest axis, where they are not the same in all directions)."""
    margin: int = 5
    """Nodes (of step pixels each) that a branch must go on for on both sides of a sample."""
    jitter: float = 3.0
    """Largest distance off the branch, in work pixels, of the moved samples ("path correction")."""
    spacing: tuple[float, ...] | None = None
    """Size of a pixel, y x (of a voxel, z y x), in any unit; not given: what the files say, else the same in all
    directions. Lengths are counted in its smallest entry."""
    substeps: int = 1
    """Samples lie on a grid this many times finer than step; 1 is the paper's."""
    seed: int = 0
    """Seed of all randomness."""
    workers: int = 0
    """Processes; 0 is one per core. The result does not depend on it."""
    preview: bool = False
    """Also write preview.png, a contact sheet of random samples with their maps."""


@dataclass(frozen=True)
class PrepareOptions3D(PrepareOptions):
    """Make training data from volumes and gold SWCs (or label masks)."""

    n_samples: int = 10_000
    """Patches in all, shared out over the volumes in proportion to the length of branches that can be walked; 0 writes
    no patches, only the volumes and trees that online sampling needs."""
    patch_size: tuple[int, ...] = (16, 64, 64)
    """Patch in work voxels, z y x, multiples of 16."""
    step: float = 5.0
    """Distance between nodes, in voxels of the finest axis."""
    margin: int = 5
    """Nodes (of step voxels each) that a branch must go on for on both sides of a sample."""
    jitter: float = 1.0
    """Largest distance off the branch, along both normals and in voxels of the finest axis, of the moved samples
    ("path correction")."""
    substeps: int = 4
    """Samples lie on a grid this many times finer than step; 1 is the paper's."""
    white: float = 0.0
    """Percentile of a volume's values that becomes 1, such as 99.9; 0: the same curve for all, √I / 255 of 16-bit
    values and √(I / 255) of 8-bit ones."""
    ignore_unlabelled: list[str] = field(default_factory=list)
    """Names (stems) of volumes that show more neurites than their golds hold, or all: what looks like one and lies far
    from the gold is kept out of the centerline loss."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a network on prepared data."""

    dataset: str = "custom"
    """Name of the dataset, kept in the weight file."""
    data: Path = Path("data/custom")
    """Folder written by the prepare script."""
    run: Path = Path("runs/custom")
    """Folder for checkpoints, logs, metrics.csv and curves.png."""
    sampling: Literal["stacks", "online"] = "online"
    """stacks: read the prepared patches; online: draw fresh samples from the same images at every step."""
    features: Literal["tile", "patch"] = "tile"
    """tile: encode a tile once and train many states inside it (online only); patch: the paper's, patch by patch."""
    width: int = 64
    """Base width of the network; 64 is the paper's in 2D (37.67 M parameters), 32 in 3D."""
    batch_size: int = 256
    """Samples (states) in a batch."""
    lr: float = 3e-4
    """Learning rate of Adam at the start."""
    lr_final: float = 1e-7
    """Learning rate at the end of the cosine."""
    warmup: int = 0
    """Steps over which the learning rate rises from 0."""
    nb_epoch: int = 30
    """Epochs."""
    epoch_size: int = 150_000
    """Samples in an epoch of online sampling (an epoch of stacks is all of them)."""
    frozen_epochs: int = 0
    """Epochs, at the end, in which batch norms use their running statistics, as in tracing, not those of the batch."""
    patch_size: tuple[int, ...] = (64, 64)
    """Patch of one state in work pixels, y x (z y x); stacks must have been prepared with the same."""
    tile_size: tuple[int, ...] = (256, 256)
    """Tile in work pixels, y x (z y x), multiples of 16."""
    states_per_tile: int = 16
    """States drawn in a tile; a batch has batch_size / states_per_tile tiles."""
    background: float = 0.0
    """Share of tiles anywhere in the image, rather where it is bright, instead of on the tree."""
    warps: int = 0
    """Further copies of every training image, each turned by any angle and resized; for online sampling."""
    warp_scale: float = 1.3
    """Largest factor by which such a copy is enlarged, or made smaller."""
    beta: float = 0.9
    """Weight of positive pixels in the weighted cross entropies."""
    edge_weight: float = 1.0
    """Weight of the edge's cross entropy; 0 here and for the connectivity trains without an edge head (an ablation)."""
    connectivity_weight: float = 1.0
    """λ of the local connectivity loss; 0 leaves it out."""
    r: float = 2.0
    """Node radius in work pixels, kept in the weight file for tracing."""
    hold_out: list[str] = field(default_factory=list)
    """Names (stems) of images kept out of training, on which the best weights are chosen; empty: the last tenth."""
    validation_size: int = 512
    """Samples on the held-out images, the same at every epoch."""
    resume: bool = False
    """Go on from the run's last checkpoint."""
    init: Path | None = None
    """Weight file to start from."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto measures a few steps of both and takes the faster."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    save_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 50
    """Steps between rows of metrics.csv."""
    max_steps: int = 0
    """Stop after this many steps, as if interrupted (0: never); the schedule is not changed by it."""
    seed: int = 0
    """Seed of all randomness."""


@dataclass(frozen=True)
class TrainOptions3D(TrainOptions):
    """Train a network on prepared volumes."""

    width: int = 32
    """Base width of the network; 32 is the paper's in 3D (26.86 M parameters)."""
    batch_size: int = 32
    """Samples (states) in a batch."""
    epoch_size: int = 10_000
    """Samples in an epoch of online sampling (an epoch of stacks is all of them)."""
    patch_size: tuple[int, ...] = (16, 64, 64)
    """Patch of one state in work voxels, z y x; stacks must have been prepared with the same."""
    tile_size: tuple[int, ...] = (32, 96, 96)
    """Tile in work voxels, z y x, multiples of 16."""
    states_per_tile: int = 8
    """States drawn in a tile; a batch has batch_size / states_per_tile tiles."""
    background: float = 0.15
    """Share of tiles anywhere in the volume, rather where it is bright, instead of on the tree."""


@dataclass(frozen=True)
class TraceFiles:
    """Where the files of a trace are."""

    weights: Path
    """Weight file (.safetensors)."""
    images: Path
    """An image, or a folder of images."""
    out: Path
    """Folder to write: <image>.swc, <image>_overlay.png, <image>_centerline.tif and <image>.json."""


@dataclass(frozen=True)
class TraceOptions:
    """How to trace. What is not given is taken from the weight file."""

    scale: float | None = None
    """Work pixels per image pixel. Choose it so that tubes are as wide as in the training images."""
    swc_origin: Literal["corner", "centre"] | None = None
    """Where the traces put coordinate 0 in the first pixel."""
    swc_shift: float | None = None
    """Image pixels added to x and y as written: a dataset's golds may lie beside the middle of their tubes."""
    seed_threshold: float | None = None
    """Traces start where the centerline probability is at least this, in [0, 1]."""
    stop_threshold: float | None = None
    """Traces go on while the centerline probability is at least this, in [0, 1]."""
    spur: float | None = None
    """End branches shorter than this, in work pixels, are cut off; 0 keeps all."""
    gap: float | None = None
    """Ends at most this far, in work pixels, from another tree are joined to it where the map supports it; 0: none."""
    sure: float | None = None
    """Short trees with nothing near their ends are noise, unless their mean probability is above this; 1 drops all."""
    refine: bool = True
    """Centre the finished trace on the centerline map and draw its ends out to where the map ends."""
    r: float | None = None
    """Node radius in work pixels: least distance of two candidates; a step is at most 10 times as long."""
    num_vec: int = 50
    """Direction bins around a tip; in one bin only the strongest candidate node stays."""
    fronts: int = 64
    """Tips advanced together; 1 is the paper's own procedure."""
    features: Literal["tile", "patch"] | None = None
    """tile: encode the image once; patch: run the whole network for every step, as the paper does."""
    views: int | None = None
    """Mirrored views averaged for the centerline map, 1 to 4 in 2D."""
    adapt: float | None = None
    """Share, 0 to 1, of the image's own statistics in the batch norms: evens out the light of another camera."""
    method: Literal["gds", "brightest"] = "gds"
    """gds: the node nearest along the edge; brightest: the brightest node, without looking at the edge."""
    joins: bool = True
    """Join a trace to the branch that it meets."""
    crossings: Literal["joined", "apart"] | None = None
    """apart: two branches that cross are two trees, as neurites of two cells are; joined: one tree with forks."""
    geodesic: Literal["dijkstra", "geodistk"] = "dijkstra"
    """Solver of the geodesic distances; geodistk needs the GeodisTK package (make geodistk)."""
    tile: int = 512
    """Side in work pixels, a multiple of 16, of the tiles in which an image is encoded; bounds the memory."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    seed: int = 0
    """Seed of the order in which traces are started."""


@dataclass(frozen=True)
class TraceRun(TraceOptions, TraceFiles):
    """Trace images with a weight file. What is not given is taken from the weight file."""


@dataclass(frozen=True)
class TraceFiles3D(TraceFiles):
    """Where the files of a trace are."""

    images: Path
    """A volume, or a folder of volumes."""
    out: Path
    """Folder to write: <volume>.swc, <volume>_overlay.png, <volume>_centerline.tif and <volume>.json; with --mode
    test_dis <volume>.pro.skl.tif (centerline probability × 255) and <volume>.pro.dis.tif (distance to the surface)."""
    maps: Path | None = None
    """Folder of maps made by --mode test_dis of the same volumes; without it they are made on the way."""


@dataclass(frozen=True)
class TraceOptions3D(TraceOptions):
    """How to trace volumes. What is not given is taken from the weight file."""

    num_vec: int = 800
    """Direction bins around a tip; in one bin only the strongest candidate node stays. As far apart as 50 are in 2D."""
    views: int | None = None
    """Mirrored views averaged for the centerline map, 1 to 8 in 3D."""
    spacing: tuple[float, ...] | None = None
    """Size of a voxel, z y x, in any unit; not given: what the file says, else what the weights were trained with, else
    the same in all directions. Lengths are counted in its smallest entry; the SWC stays in voxels."""
    memory: float = 4.0
    """Gigabytes that tracing may take. With less, tiles are smaller, and features are computed again where used."""
    tile: int = 0
    """Side in work voxels, a multiple of 16, of the tiles in which a volume is encoded; 0: what memory allows."""
    dark: float | None = None
    """A tile without a voxel brighter than this, on the square-root curve in [0, 1], is taken to be empty."""


@dataclass(frozen=True)
class TraceRun3D(TraceOptions3D, TraceFiles3D):
    """Trace volumes with a weight file, or make their maps. What is not given is taken from the weight file."""
