"""Weight files: safetensors with a JSON header that describes the network and how to trace with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.errors import UserError, known_names
from lib.files import atomic_write
from models.nenet import NENet

FORMAT = 1
_HEADER_KEY = "netracer"
SHIPPED_WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True)
class WeightsHeader:
    """Description of the weights in a weight file.

    Attributes
    ----------
    ndim, in_channels, width, stem, kinds
        Arguments of :class:`~models.nenet.NENet`.
    dataset
        Name of the training dataset.
    scale
        Work pixels per image pixel.
    swc_origin
        Position of coordinate 0 in the first pixel in the gold trees and so in the traces, ``corner`` or ``centre``.
    patch_size
        ``(ndim,)`` patch of one tracing step, in work pixels.
    step
        Distance between nodes, in work pixels.
    r
        Node radius, in work pixels (docs/paper.md §5).
    features
        How the network was trained and is best traced: ``tile`` or ``patch``.
    thresholds
        Values calibrated on held-out images: ``seed`` and ``stop`` (probabilities), ``spur`` (work pixels) and others.
    metrics
        Scores on the held-out images.
    training
        Options of the training run.
    spacing
        Voxel size of the training volumes, ``(z, y, x)``; empty if unknown, and in 2D.
    white
        Percentile of an image's values that is mapped to 1; 0 if that depends on their type alone.
    local_contrast
        Window of :func:`~lib.klib.contrast.with_local_contrast`, in work pixels; 0 if it sees the image alone.
    kind_names
        Names of the kinds of tube 1, 2 and so on; empty if they have none.
    seen
        What the training images are like: ``width``, the median width of their tubes in work pixels, ``narrow`` and
        ``wide``, the widths below and above which a tenth of the length lies, and ``bright``, the percentile
        :data:`~lib.klib.decoded.BRIGHT` of their values, 0 to 1; ``metres`` on the ground that a pixel spans, before
        scaling, where that is known. Empty if it was not measured.
    confidence
        The model of :mod:`tools.confidence` that was fitted to traces with these weights; empty if none was.
    format
        Version of this header.
    """

    ndim: int
    in_channels: int
    width: int
    dataset: str
    scale: float
    swc_origin: str
    patch_size: tuple[int, ...]
    step: float
    r: float
    features: str
    thresholds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    spacing: tuple[float, ...] = ()
    white: float = 0.0
    local_contrast: float = 0.0
    stem: int | tuple[int, ...] = 1
    kinds: int = 0
    kind_names: tuple[str, ...] = ()
    seen: Mapping[str, float] = field(default_factory=dict)
    confidence: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def held_out(self) -> list[str]:
        """Names of the images that were held out of the training."""
        return list(self.training.get("hold_out", ()))


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as safetensors; the file appears under its name only when complete.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={_HEADER_KEY: json.dumps(header)})
        except SafetensorError as error:
            # safetensors reports errors of the operating system under its own type.
            raise OSError(str(error)) from error


def weight_file(name: str | Path) -> Path:
    """The file of this name, or that of the shipped weights of this name, such as ``DRIVE``.

    Raises
    ------
    UserError
        If there is neither; the message names the shipped weights.
    """
    for path in (Path(name), SHIPPED_WEIGHTS / f"{name}.safetensors"):
        if path.is_file():
            return path
    names = sorted(file.stem for file in SHIPPED_WEIGHTS.glob("*.safetensors"))
    shipped = known_names(str(name), names)  # A path resembles no name.
    raise UserError(f"{name}: no such weight file; give one made by --mode train, or shipped weights; {shipped}")


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by :func:`save_tensors`, found by :func:`weight_file`.

    Returns
    -------
    tensors
        Tensors by name.
    header
        The JSON header.

    Raises
    ------
    UserError
        If the file is missing, truncated or was not written by :func:`save_tensors`.
    """
    path = weight_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER_KEY])
            if not isinstance(header, dict):
                raise ValueError("its header is not a JSON object")
            # safe_open has keys() but is not iterable.
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except KeyError:
        raise UserError(f"{path}: a safetensors file, but not NETracer's; give one made by --mode train") from None
    except (SafetensorError, OSError, ValueError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or not a safetensors file ({message}); copy or train it again") from error


def save_weights(path: Path, net: NENet, header: WeightsHeader) -> None:
    """Write a network in half precision; batch-norm statistics, which can exceed that range, stay in single precision.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    tensors = {name: tensor if "running_" in name else tensor.half() for name, tensor in _stored(net).items()}
    save_tensors(path, tensors, asdict(header))


def _stored(net: NENet) -> dict[str, Tensor]:
    """The tensors of a network that a weight file holds."""
    return {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}


def read_header(path: Path) -> WeightsHeader:
    """Read the header of a weight file without building its network.

    Raises
    ------
    UserError
        If the file is missing, damaged or of another version.
    """
    return _weights_header(path, load_tensors(path)[1])


def load_weights(path: Path, *, ndim: int | None = None) -> tuple[NENet, WeightsHeader]:
    """Read a weight file.

    Parameters
    ----------
    path
        The weight file.
    ndim
        Required number of dimensions; None accepts any.

    Returns
    -------
    net
        The network in single precision and ``eval`` mode.
    header
        Its description.

    Raises
    ------
    UserError
        If the file is missing, damaged or of another version, is for another number of dimensions, or its tensors do
        not match its header.
    """
    tensors, raw = load_tensors(path)
    header = _weights_header(path, raw)
    if ndim is not None and header.ndim != ndim:
        raise UserError(f"{path}: these weights are for {header.ndim}D, not {ndim}D; give others")
    return _network(path, header, tensors).eval(), header


def _weights_header(path: Path, raw: Mapping[str, Any]) -> WeightsHeader:
    """The header of a weight file from its JSON; unknown keys, which a later version may add, are ignored."""
    if raw.get("format") != FORMAT:
        kind = raw.get("kind", f"format {raw.get('format')}")
        advice = "give best.safetensors or last.safetensors"
        raise UserError(f"{path}: holds {kind}, not weights of format {FORMAT}; {advice}")
    for key in fields(WeightsHeader):
        if key.name not in raw and key.default is MISSING and key.default_factory is MISSING:
            raise UserError(f"{path}: its header has no {key.name}; train or copy the file again")
    known: dict[str, Any] = {key.name: raw[key.name] for key in fields(WeightsHeader) if key.name in raw}
    known |= {name: tuple(known.get(name, ())) for name in ("patch_size", "spacing", "kind_names")}
    return WeightsHeader(**known)


def _network(path: Path, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> NENet:
    """The network described by ``header``, with ``tensors`` as its weights."""
    try:
        net = NENet(header.ndim, header.in_channels, header.width, header.stem, header.kinds)
    except (ValueError, TypeError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{path}: its header describes no network ({message}); train or copy the file again") from error
    expected = _stored(net)
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in expected or name not in tensors or expected[name].shape != tensors[name].shape:
            found = f"its tensors do not match its header (first: {name})"
            raise UserError(f"{path}: {found}; train or copy the file again")
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    return net
