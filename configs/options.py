"""Options of the scripts, for 2D and 3D.

Every field is a command-line option of the same name, and the text below it is shown by ``--help``; docs/parameters.md
says more. Defaults are the paper's (docs/paper.md) unless docs/parameters.md says otherwise; ``config_2d.py`` and
``config_3d.py`` change some of them for known datasets. A field without a text of its own inherits the text of its base
class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Crossings = Literal["joined", "split", "through"]
OverlayColours = Literal["trees", "confidence"]
"""What becomes of two branches that cross, see :attr:`TraceOptions.crossings`."""


@dataclass(frozen=True)
class PrepareOptions:
    """Make training data from images and gold trees (SWC files or label masks)."""

    dataset: str = "custom"
    """Name of a known dataset, which sets the defaults of other options, or any name for your own data."""
    also: list[str] = field(default_factory=list)
    """Known datasets to add, with the scale and the SWC origin of their own; their images are named
    <dataset>_<image>."""
    data_root: Path = Path("data_root")
    """Folder with the input: <dataset>/<split>/images_color and .../swc, or images_color and swc directly. Binary
    masks in labels can replace swc."""
    out: Path = Path("data/custom")
    """Folder for the result. An earlier result there is replaced; a folder with other content is refused."""
    split: str = "training"
    """Sub-folder of the dataset to prepare."""
    scale: float = 1.0
    """Work pixels per image pixel: images and trees are resized by this factor first. Choose it so that tubes
    become 3 to 15 pixels wide."""
    swc_origin: Literal["corner", "centre"] = "centre"
    """Position of coordinate 0 of the SWC files in the first pixel, if their heads do not say: its corner (0.5 is
    subtracted) or its centre."""
    n_samples: int = 0
    """Number of patches to store for all images together. Only --sampling stacks reads them, as in the paper: 150 000
    (CHASEDB1 30 000) there."""
    patch_size: tuple[int, ...] = (64, 64)
    """Size of a patch in work pixels, y x, in multiples of 16."""
    step: float = 10.0
    """Distance between nodes, in work pixels along the axis with the finest resolution."""
    margin: int = 5
    """Samples are taken only where the branch continues for at least this many nodes on both sides."""
    jitter: float = 3.0
    """Largest distance, in work pixels, by which samples are moved off the branch, so that the network learns to
    return to it (the paper's path correction)."""
    white: float = 0.0
    """Percentile of an image's values that becomes 1, such as 99.9. With 0 it depends on the type alone: the largest
    value of 8 or 16 bits, in volumes √I / 255 for 16 bits and √(I / 255) for 8 bits."""
    local_contrast: float = 0.0
    """For photographs, three more channels for the network: each one minus its mean around the pixel, divided by its
    deviation there, in a Gaussian window of this standard deviation in work pixels, such as 50. 0 leaves them out."""
    channel: list[int] = field(default_factory=list)
    """Channel of the images to take, the first is 1; in 2D also three, as red, green and blue."""
    timepoint: int | None = None
    """Time point of the images to take, the first is 1."""
    kinds: bool = False
    """Take the gold trees from label images with several kinds of tube, in av/ (arteries 1, veins 2, both or uncertain
    3) or kinds/ (255: several or uncertain): tubes of two kinds cross, but never join."""
    spacing: tuple[float, ...] | None = None
    """Size of a pixel along each axis, in any unit, y x (z y x in 3D). Without it, the size in the image files, or
    else the same size along all axes. Lengths such as step count in units of the smallest."""
    substeps: int = 1
    """Samples can start at this many places per step along a branch; the paper uses 1."""
    seed: int = 0
    """Random seed."""
    workers: int = 0
    """Number of processes; 0 uses one per CPU core. The result is the same for any number."""
    preview: bool = False
    """Also write preview.png, which shows random samples with their label maps."""


@dataclass(frozen=True)
class PrepareOptions3D(PrepareOptions):
    """Make training data from volumes and gold trees (SWC files or label masks)."""

    patch_size: tuple[int, ...] = (16, 64, 64)
    """Size of a patch in work voxels, z y x, in multiples of 16."""
    step: float = 5.0
    jitter: float = 1.0
    substeps: int = 4
    ignore_unlabelled: list[str] = field(default_factory=list)
    """Names (without suffix) of volumes whose gold trees are incomplete, or all: what looks like a neurite but lies
    far from the gold tree does not count in the centerline loss."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a network on prepared data."""

    dataset: str = "custom"
    """Name of the dataset, stored in the weight file. The name of a known dataset also sets other defaults."""
    data: Path = Path("data/custom")
    """Folder written by the prepare script."""
    run: Path = Path("runs/custom")
    """Folder for weights, checkpoints, metrics.csv and curves.png."""
    sampling: Literal["stacks", "online"] = "online"
    """online: draw new samples from the images at every step; stacks: read the stored patches."""
    features: Literal["tile", "patch"] = "tile"
    """tile: encode a tile once for many samples in it (needs online sampling); patch: encode a patch for each
    sample, as in the paper."""
    stem: tuple[int, ...] = (1, 1)
    """Work pixels that a pixel of the network's trunk covers, y x (z y x in 3D); 1 1 is the paper's network."""
    width: int = 64
    """Number of channels at full resolution. The paper uses 64 in 2D (37.67 M parameters) and 32 in 3D (26.86 M); a
    CPU needs fewer."""
    batch_size: int = 256
    """Samples in a batch."""
    lr: float = 3e-4
    """Initial learning rate (Adam)."""
    lr_final: float = 1e-7
    """Final learning rate; it falls from lr along a cosine."""
    warmup: int = 0
    """Number of steps at the start over which the learning rate rises from 0 to lr."""
    nb_epoch: int = 30
    """Number of epochs."""
    epoch_size: int = 150_000
    """Samples in an epoch of online sampling; with stacks, an epoch is all stored patches."""
    frozen_epochs: int = 0
    """Number of epochs at the end in which batch norms use their running statistics, as in tracing."""
    patch_size: tuple[int, ...] = (64, 64)
    """Size of a patch in work pixels, y x (z y x in 3D), in multiples of 16, with --features patch of 16 times --stem;
    with stacks, as in the prepare script."""
    tile_size: tuple[int, ...] = (256, 256)
    """Size of a tile in work pixels, y x (z y x in 3D), in multiples of 16 times --stem; y and x must be equal."""
    states_per_tile: int = 16
    """Samples drawn in each tile; a batch has batch_size / states_per_tile tiles."""
    background: float = 0.0
    """Share of tiles taken from anywhere in the image (in a volume mostly from its bright parts) instead of around a
    tree; below 1."""
    crossings: float = 0.0
    """Share of samples taken near places where a tube of another tree crosses or touches, as far as a tile has any."""
    equal_parts: bool = False
    """Take as many tiles from each dataset of a folder that holds several, whatever their lengths."""
    warps: int = 0
    """Number of copies of every training image, each turned by a random angle and resized; online sampling only."""
    warp_scale: float = 1.3
    """Those copies are enlarged or reduced by up to this factor."""
    beta: float = 0.9
    """Weight of tube pixels in the weighted cross entropies; other pixels weigh 1 - beta."""
    edge_weight: float = 1.0
    """Weight of the edge map's cross entropy. 0 here and for connectivity_weight leaves the edge head untrained."""
    connectivity_weight: float = 1.0
    """Weight of the local connectivity loss (λ in the paper); 0 leaves it out."""
    kind_weight: float = 0.1
    """Weight of the cross entropy of the kinds of tube, in data prepared with --kinds."""
    r: float = 2.0
    """Radius of a node in work pixels. It is stored in the weight file and used in tracing."""
    hold_out: list[str] = field(default_factory=list)
    """Names (without suffix) of images that are not trained on and decide which weights are best. Without it, the
    last tenth of the images."""
    validation_size: int = 512
    """Number of samples drawn from the held-out images for validation; they are the same in every epoch."""
    resume: bool = False
    """Continue the run from its last checkpoint; options that are not given are taken from the run."""
    init: Path | None = None
    """Weight file to start from, instead of random weights."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the computation; auto measures both and uses the faster."""
    layout: Literal["auto", "channels_first", "channels_last"] = "auto"
    """Order of the network's arrays in memory; auto measures both and uses the faster."""
    average: float = 0.05
    """The weights that are validated and saved are a running average over this share of the schedule; 0: none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto uses a GPU if there is one."""
    threads: int = 0
    """Number of CPU threads; 0 lets PyTorch choose."""
    save_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 50
    """Steps between rows of metrics.csv."""
    max_steps: int = 0
    """Stop after this many steps, without changing the learning rates; 0 runs to the end."""
    seed: int = 0
    """Random seed."""


@dataclass(frozen=True)
class TrainOptions3D(TrainOptions):
    """Train a network on prepared volumes."""

    width: int = 32
    batch_size: int = 32
    epoch_size: int = 10_000
    stem: tuple[int, ...] = (1, 1, 1)
    patch_size: tuple[int, ...] = (16, 64, 64)
    tile_size: tuple[int, ...] = (32, 96, 96)
    states_per_tile: int = 8
    background: float = 0.15


@dataclass(frozen=True)
class TraceFiles:
    """Input and output of tracing."""

    weights: Path
    """Weight file (.safetensors), or the name of shipped weights, such as DRIVE."""
    images: Path
    """An image, or a folder of images."""
    out: Path
    """Folder for the results: <image>.swc, <image>_overlay.png, <image>_centerline.tif and <image>.json."""
    channel: list[int] = field(default_factory=list)
    """Channel of the images to take, the first is 1; in 2D also three, as red, green and blue."""
    timepoint: int | None = None
    """Time point of the images to take, the first is 1."""
    formats: list[str] = field(default_factory=lambda: ["swc", "csv"])
    """What to write beside pictures and report: swc; csv (tables of branches); for maps and networks geojson, gpkg,
    graphml; precomputed (Neuroglancer); html (a page to look at it in a browser). docs/formats.md."""
    overlay: OverlayColours = "trees"
    """Colours of the overlay: trees, or confidence, how sure each branch is."""
    one_file_per_tree: bool = False
    """Also write every tree as a file of its own, the longest first: <image>_trees/1.swc and so on."""


@dataclass(frozen=True)
class CellOptions:
    """Tracing of images larger than memory, in cells (docs/large.md)."""

    cell: int = 0
    """Trace in cells of this side in work pixels, such as 256 for volumes and 2048 for images. 0: only what does not
    fit into memory, and .zarr of more than one cell."""
    workers: int = 0
    """Processes that trace cells; 0: one for each GPU, or CPU core."""
    scheduler: str | None = None
    """Address of a dask scheduler, such as tcp://127.0.0.1:8786, whose workers trace the cells instead."""
    region: str | None = None
    """Part of the image to trace in cells, in pixels: z0:z1,y0:y1,x0:x1, in 2D y0:y1,x0:x1."""
    mask: Path | None = None
    """A mask of any resolution for tracing in cells, .zarr or an image: where it is 0 nothing is read or traced. Or an
    SWC in pixels, whose bounding box is traced."""


@dataclass(frozen=True)
class TraceOptions:
    """Settings of tracing. Options without a value take it from the weight file."""

    scale: float | Literal["auto"] | None = None
    """Work pixels per image pixel. Choose it so that tubes are as wide as in the training images; auto: it is measured
    in each image. Without it that of the weights; but a georeferenced image is brought to the size on the ground that
    the training images had, where the weights say so."""
    white: float | None = None
    """Percentile of an image's values that becomes 1, such as 99.9; 0: by their type. Without it that of the weights,
    and images of more than 8 bits that are much darker than the training images are brightened."""
    swc_origin: Literal["corner", "centre"] | None = None
    """Position of coordinate 0 of the written SWC files in the first pixel: its corner or its centre."""
    swc_units: Literal["um", "voxel"] | None = None
    """Unit of the SWC files: micrometres or voxels (pixels in 2D). Without it, micrometres where --spacing or the image
    file says how large a voxel is."""
    spacing: tuple[float, ...] | None = None
    """Size of a pixel, y x, in micrometres. Lengths such as --gap count in units of the smallest."""
    swc_shift: float | None = 0.0
    """Image pixels added to x and y in the SWC; 0: traces lie on the middle of the tubes. null: the value of the weight
    file, where the gold trees of its dataset lie; take it to compare with them."""
    field: Literal["auto", "whole"] = "auto"
    """Where to trace an image. auto: in a fundus photograph, a bright disc in a dark frame, inside the disc; whole:
    everywhere. Volumes are traced everywhere."""
    seed_threshold: float | None = None
    """Traces start where the centerline probability is at least this, between 0 and 1."""
    stop_threshold: float | None = None
    """Traces continue while the centerline probability is at least this, between 0 and 1."""
    spur: float | None = None
    """Remove end branches shorter than this, in work pixels; 0 keeps all."""
    gap: float | None = None
    """Join an end to another tree at most this far away, in work pixels, if the centerline map supports it; 0 joins
    none, also none across another tree."""
    sure: float | None = None
    """Short isolated trees are removed as noise unless their mean centerline probability is above this; 1 removes
    all."""
    soma: float | None = None
    """Least radius of the body of a cell, in work pixels: trees that reach one are joined at its centre. Give 1.5 to 2
    times that of the thickest neurite; 0 looks for none."""
    refine: bool = True
    """Centre the finished trace on the centerline map and extend its ends to where the map ends."""
    r: float | None = None
    """Radius of a node in work pixels: candidate nodes are at least this far apart, and a step is at most 10 times
    as long."""
    num_vec: int = 50
    """Number of direction bins around the tip of a trace; each bin keeps only its strongest candidate node."""
    fronts: int = 64
    """Number of tips that advance together; the paper uses 1."""
    together: int = 0
    """Images of a folder traced at a time, whose tips advance together; 0: 8 on a GPU, else 1."""
    features: Literal["tile", "patch"] | None = None
    """tile: encode the image once; patch: run the whole network at every step, as in the paper."""
    views: int | None = None
    """Number of mirrored copies of the image over which the centerline map is averaged: 1 to 4, in 3D 1 to 8."""
    adapt: float | None = None
    """Share, 0 to 1, of the image's own statistics in the batch norms. Larger values help with images from another
    camera."""
    method: Literal["gds", "brightest"] = "gds"
    """How to choose the next node. gds: nearest along the edge map (the paper's search); brightest: brightest in
    the node map."""
    joins: bool = True
    """Join a trace to the branch that it meets."""
    crossings: Crossings | None = None
    """Branches that cross. joined: they share a tree, with forks; split: such forks are split into separate trees, and
    ends that face each other across another tree are joined; through: also, a trace goes on beyond a branch that it
    meets, if the network sees its edge there."""
    geodesic: Literal["dijkstra", "geodistk"] = "dijkstra"
    """Algorithm for the geodesic distances; geodistk needs the package GeodisTK (make geodistk)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the network; auto measures both and uses the faster."""
    tile: int = 0
    """Side of the tiles in which an image is encoded, in pixels of the network's trunk, a multiple of 16. Smaller ones
    need less memory; 0 takes 512, or 720 in bf16."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto uses a GPU if there is one."""
    threads: int = 0
    """Number of CPU threads; 0 lets PyTorch choose."""
    seed: int = 0
    """Random seed for the order in which traces start."""


@dataclass(frozen=True)
class TraceRun(TraceOptions, CellOptions, TraceFiles):
    """Trace images with a weight file. Options without a value take it from the weight file."""

    masks: Path | None = None
    """A mask, or a folder of masks named like the images: nothing is traced where they are 0. Instead of --field."""


@dataclass(frozen=True)
class TraceFiles3D(TraceFiles):
    """Input and output of tracing volumes."""

    images: Path
    """A volume, a folder of slices, or a folder of either."""
    out: Path
    """Folder for the results: <volume>.swc, <volume>_overlay.png, <volume>_centerline.tif and <volume>.json; with
    --mode test_dis <volume>.pro.skl.tif (centerline probability × 255) and <volume>.pro.dis.tif (distance to the
    surface)."""
    maps: Path | None = None
    """Folder with the maps that --mode test_dis wrote for these volumes; without it, they are computed."""


@dataclass(frozen=True)
class TraceOptions3D(TraceOptions):
    """Settings of tracing volumes. Options without a value take it from the weight file."""

    num_vec: int = 800
    spacing: tuple[float, ...] | None = None
    """Size of a voxel, z y x, in micrometres. Without it, the size in the image file, or else that of the training
    volumes (its ratios alone), or else the same along all axes. Lengths such as --gap count in units of the
    smallest."""
    memory: float = 4.0
    """Memory in gigabytes that tracing may use. With less, tracing is slower."""
    tile: int = 0
    """Side, in voxels of the network's trunk, of the tiles in which a volume is encoded, a multiple of 16; 0 chooses it
    by the memory."""
    dark: float | None = None
    """Tiles whose voxels are all at most this bright are skipped as empty. Brightness is the square root of the
    value, scaled to 0 to 1."""


@dataclass(frozen=True)
class TraceRun3D(TraceOptions3D, CellOptions, TraceFiles3D):
    """Trace volumes with a weight file, or compute their maps. Options without a value take it from the weight file."""
