"""Weight files: safetensors with a JSON header that says what the weights are and how they want to be used."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any


from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.errors import UserError
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
        Node radius in work pixels (FACTS §5).
    features
        ``tile`` or ``patch``: how it was trained, and so how it likes to trace.
    thresholds
        ``seed``, ``stop`` (chances in [0, 1]), ``spur`` (work pixels) and others calibrated on held-out images.
    metrics
        What it scored on the held-out images.
    training
        The options of its training run.
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
    format: int = FORMAT


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as safetensors; the file appears under its name only when complete.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary, metadata={_HEADER_KEY: json.dumps(header)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be written ({error}); check its folder and the space on the disk") from error
    finally:
        temporary.unlink(missing_ok=True)


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
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118: not a dict
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
    if raw.get("format") != FORMAT or "width" not in raw:
        kind = raw.get("kind", f"format {raw.get('format')}")
        raise UserError(f"{path}: holds {kind}, not weights of format {FORMAT}; give best.safetensors or last.safetensors")
    known = {f.name for f in fields(WeightsHeader)}
    header = WeightsHeader(**{key: value for key, value in raw.items() if key in known})
    if ndim is not None and header.ndim != ndim:
        raise UserError(f"{path}: weights for {header.ndim}D, {ndim}D wanted; use train_{header.ndim}D.py or other weights")
    net = NENet(header.ndim, header.in_channels, header.width)
    missing, unexpected = net.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        name = (missing + unexpected)[0]
        raise UserError(f"{path}: its tensors do not fit its header (first: {name}); train or copy the file again")
    return net.eval(), header


