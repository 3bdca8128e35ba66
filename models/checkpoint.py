"""Weight files: safetensors with a JSON header that says what the weights are and how they want to be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.errors import UserError
from lib.files import written
from models.nenet import NENet

FORMAT = 1
_HEADER_KEY = "netracer"


@dataclass(frozen=True)
class WeightsHeader:
    """What a weight file says of itself.

    Attributes
    ----------
    ndim, in_channels, width
        The network's shape, see :class:`~models.nenet.NENet`.
    dataset
        Name of the dataset it was trained on.
    scale
        Work pixels per image pixel.
    swc_origin
        ``corner`` or ``centre``: where 0 lies in the gold SWCs of that dataset, and so in the traces.
    patch_size
        Patch of a tracing step, in work pixels.
    step
        Distance between nodes in work pixels.
    r
        Node radius in work pixels (docs/paper.md §5).
    features
        ``tile`` or ``patch``: how it was trained, and so how it likes to trace.
    thresholds
        ``seed``, ``stop`` (probabilities in [0, 1]), ``spur`` (work pixels) and others calibrated on held-out images.
    metrics
        What it scored on the held-out images.
    training
        The options of its training run.
    spacing
        Size of a voxel of its training volumes, ``(z, y, x)``; empty where it is not known, and in 2D.
    white
        Percentile of a volume's values that becomes 1; 0: the curve does not depend on the volume.
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
    format: int = FORMAT


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as safetensors; the file appears under its name only when complete.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={_HEADER_KEY: json.dumps(header)})
        except SafetensorError as error:
            # Its own words for what the operating system said.
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises
    ------
    UserError
        If the file is missing, truncated, or not one of ours.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weight file; give a .safetensors file made by --mode train")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER_KEY])
            if not isinstance(header, dict):
                raise ValueError("its header is not a table")
            # safe_open is no dict: it has keys() but cannot be iterated over.
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except KeyError:
        raise UserError(f"{path}: a safetensors file, but not NETracer's; give one made by --mode train") from None
    except (SafetensorError, OSError, ValueError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or not a safetensors file ({message}); copy or train it again") from error


def save_weights(path: Path, net: NENet, header: WeightsHeader) -> None:
    """Write a network in half precision. Batch-norm statistics stay in single precision: they can exceed half's range.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    tensors = {}
    for name, tensor in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        tensors[name] = tensor if "running_" in name else tensor.half()
    save_tensors(path, tensors, asdict(header))


def load_weights(path: Path, *, ndim: int | None = None) -> tuple[NENet, WeightsHeader]:
    """Read a network in single precision, in ``eval`` mode, with its header.

    Parameters
    ----------
    path
        The weight file.
    ndim
        Dimension that is wanted; None takes any.

    Raises
    ------
    UserError
        If the file is missing, damaged, of another version or dimension, or its tensors do not fit its header.
    """
    tensors, raw = load_tensors(path)
    header = _weights_header(path, raw)
    if ndim is not None and header.ndim != ndim:
        raise UserError(f"{path}: weights for {header.ndim}D, {ndim}D wanted; give others")
    return _network(path, header, tensors).eval(), header


def _weights_header(path: Path, raw: Mapping[str, Any]) -> WeightsHeader:
    """The header of a weight file from its JSON; keys that later versions may add are left out."""
    if raw.get("format") != FORMAT:
        kind = raw.get("kind", f"format {raw.get('format')}")
        advice = "give best.safetensors or last.safetensors"
        raise UserError(f"{path}: holds {kind}, not weights of format {FORMAT}; {advice}")
    for key in fields(WeightsHeader):
        if key.name not in raw and key.default is MISSING and key.default_factory is MISSING:
            raise UserError(f"{path}: its header has no {key.name}; train or copy the file again")
    known = {key.name: raw[key.name] for key in fields(WeightsHeader) if key.name in raw}
    return WeightsHeader(**known | {name: tuple(known.get(name, ())) for name in ("patch_size", "spacing")})


def _network(path: Path, header: WeightsHeader, tensors: Mapping[str, Tensor]) -> NENet:
    """The network that a header describes, with ``tensors`` in it."""
    try:
        net = NENet(header.ndim, header.in_channels, header.width)
    except (ValueError, TypeError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{path}: its header describes no network ({message}); train or copy the file again") from error
    wanted = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in wanted or name not in tensors or wanted[name].shape != tensors[name].shape:
            raise UserError(f"{path}: its tensors do not fit its header (first: {name}); train or copy the file again")
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    return net
