"""Augmentation of training batches on the device: flips and quarter turns of patches, and changes of colour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv3d, pad

from tools.data.batches import Batch
from tools.data.sampling import STATE_MAPS

BLACK_LEVEL = 0.02
"""Brightest value, in [0, 1], that still counts as outside the field of view."""


@dataclass(frozen=True)
class ColourJitter:
    """Random changes of pixel values, drawn separately for each tile.

    Attributes
    ----------
    gain, gain_channel
        Largest relative change of brightness, of all channels together and of each channel.
    contrast
        Largest relative change of the distance to the mean.
    gamma
        Largest exponent: values are raised to a power between ``1 / gamma`` and ``gamma``.
    noise
        Largest standard deviation of Gaussian noise, as a share of the full range.
    blur
        Largest standard deviation of a Gaussian blur, in pixels; half of the tiles are not blurred.
    haze
        Largest brightness added to every pixel, the background included.
    keep_black
        Whether pixels outside the field of view keep their value.
    """

    gain: float = 0.25
    gain_channel: float = 0.12
    contrast: float = 0.35
    gamma: float = 1.4
    noise: float = 0.03
    blur: float = 1.2
    haze: float = 0.0
    keep_black: bool = True

    def apply(self, image: Tensor, generator: torch.Generator, *, lit: int | None = None) -> Tensor:
        """Change the values of a batch of tiles.

        Parameters
        ----------
        image
            ``(T, C, *S)`` float in [0, 1]. With ``keep_black``, pixels with no channel above :data:`BLACK_LEVEL` stay
            unchanged.
        generator
            A CPU generator. The same generator gives the same result on the same device.
        lit
            Channels that light changes, the first ones; the others are blurred and noisy alone. All if None.

        Returns
        -------
        Tensor
            ``(T, C, *S)`` float in [0, 1].
        """
        tiles, channels = len(image), image.shape[1] if lit is None else lit
        spatial = [1] * (image.ndim - 2)

        def drawn(columns: int) -> Tensor:
            """Uniform values ``(T, columns)`` in [−1, 1], on the CPU."""
            return torch.rand((tiles, columns), generator=generator) * 2 - 1

        def draw(columns: int) -> Tensor:
            """The same on the device, ``(T, columns, 1, ...)``."""
            return drawn(columns).to(image.device, non_blocking=True).view(tiles, columns, *spatial)

        seen = (image > BLACK_LEVEL).any(dim=1, keepdim=True) if self.keep_black else torch.ones_like(image).bool()
        gain = (1 + self.gain * draw(1)) * (1 + self.gain_channel * draw(channels))
        blurred = _blurred(image.clamp(0, 1), self.blur * drawn(1).clamp(min=0).flatten())
        changed = blurred[:, :channels] ** (self.gamma ** draw(1)) * gain
        mean = changed.flatten(2).mean(dim=2).view(tiles, channels, *spatial)
        changed = mean + (changed - mean) * (1 + self.contrast * draw(1))
        if self.haze:
            changed = changed + self.haze * draw(1).clamp(min=0)
        changed = torch.cat([changed, blurred[:, channels:]], dim=1)
        noise = _gaussian(image, generator) * self.noise * draw(1).abs()
        return torch.where(seen, changed + noise, image).clamp(0, 1)


def _blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Blur each tile of ``(T, C, *S)`` by a Gaussian of its own ``sigma`` in pixels; 0 leaves it unchanged.

    ``sigma`` ``(T,)`` is on the CPU: a radius taken from the device would make every step wait for it.
    """
    tiles, channels, *spatial = image.shape
    radius = int(3 * float(sigma.max())) + 1
    offsets = torch.arange(-radius, radius + 1)
    # With a sigma far below a pixel, the kernel is a single 1.
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    kernel = kernel.to(image.device, non_blocking=True)
    convolve = conv2d if len(spatial) == 2 else conv3d
    blurred = image.reshape(1, tiles * channels, *spatial)
    for axis in range(len(spatial)):
        # torch lists the padding from the last axis to the first.
        padding = [radius if axis == other else 0 for other in reversed(range(len(spatial))) for _ in range(2)]
        shape = [-1, 1, *(len(offsets) if axis == other else 1 for other in range(len(spatial)))]
        blurred = convolve(pad(blurred, padding, mode="replicate"), kernel.view(shape), groups=tiles * channels)
    return blurred.reshape(image.shape)


def _gaussian(image: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal values in the shape of ``image``, drawn on its device: drawing on the CPU would delay a GPU."""
    if image.device.type != "cpu":
        seed = int(torch.randint(2**62, (1,), generator=generator))
        generator = torch.Generator(image.device).manual_seed(seed)
    return torch.randn(image.shape, generator=generator, device=image.device)


def to_unit(batch: Batch) -> Batch:
    """Convert uint8 images to float32 in [0, 1]."""
    return batch.with_image(batch.image.float() / 255)


def turn_patches(batch: Batch, generator: torch.Generator, *, axes: tuple[int, ...]) -> Batch:
    """Flip and turn each patch at random; all symmetries are equally likely.

    Parameters
    ----------
    batch
        A batch of patches, each the whole tile of its state.
    generator
        A CPU generator.
    axes
        Spatial axes to flip, counted from 0. Patches that are square in their last two axes are also transposed in
        them in half of the cases.
    """
    square, ndim = batch.image.shape[-1] == batch.image.shape[-2], batch.image.ndim - 2
    # The bits of a code: one flip for each axis, then the transposition. Patches of one code are turned together.
    codes = torch.randint(0, 2 ** (len(axes) + square), (len(batch.image),), generator=generator)

    def turned(maps: Tensor, codes: Tensor) -> Tensor:
        """Turn each of the maps ``(N, ..., *S)`` by its code ``(N,)``, which is on the CPU as the groups are."""
        out = torch.empty_like(maps)
        for code in codes.unique().tolist():
            group = (codes == code).nonzero()[:, 0].to(maps.device, non_blocking=True)
            part = maps[group].flip([axis - ndim for bit, axis in enumerate(axes) if code >> bit & 1])
            out[group] = part.transpose(-1, -2) if code >> len(axes) & 1 else part
        return out

    states = {name: turned(getattr(batch, name), codes[batch.owner]) for name in STATE_MAPS}
    tiles = {name: turned(getattr(batch, name), codes) for name in ("image", "centerline", "ignored", "kind")}
    return replace(batch, **tiles, **states)
