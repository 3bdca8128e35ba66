"""Augmentation of training batches on the device: symmetries of single patches, and colours."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tools.scenes import Batch

BLACK = 0.02
"""Brightest value, in [0, 1], that still counts as outside the field of view."""


@dataclass(frozen=True)
class Colours:
    """How far the values of an image may be moved; each is drawn anew for every tile.

    Attributes
    ----------
    gain, gain_channel
        Largest relative change of brightness, of all channels together and of each alone.
    contrast
        Largest relative change of the distance to the mean.
    gamma
        Largest power: values are raised to between ``1 / gamma`` and ``gamma``.
    noise
        Largest standard deviation of Gaussian noise, in units of the full range.
    """

    gain: float = 0.15
    gain_channel: float = 0.08
    contrast: float = 0.25
    gamma: float = 1.3
    noise: float = 0.02

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Move the values of ``image`` ``(T, C, *S)`` in [0, 1], one draw per tile.

        Black (no channel above :data:`BLACK`) stays as it is, so a field of view keeps its rim. ``generator`` is of
        the CPU; the same one gives the same result on the same device.
        """
        tiles, channels = image.shape[:2]
        spatial = [1] * (image.ndim - 2)

        def draw(columns: int) -> Tensor:
            """Uniform in [−1, 1]."""
            values = torch.rand((tiles, columns), generator=generator) * 2 - 1
            return values.to(image.device).view(tiles, columns, *spatial)

        seen = (image > BLACK).any(dim=1, keepdim=True)
        gain = (1 + self.gain * draw(1)) * (1 + self.gain_channel * draw(channels))
        moved = image.clamp(0, 1) ** (self.gamma ** draw(1)) * gain
        mean = moved.flatten(2).mean(dim=2).view(tiles, channels, *spatial)
        moved = mean + (moved - mean) * (1 + self.contrast * draw(1))
        noise = _gaussian(image, generator) * self.noise * draw(1).abs()
        return torch.where(seen, moved + noise, image).clamp(0, 1)


def _gaussian(image: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal values in the shape of ``image``, drawn on its device: on the CPU they would hold up a GPU."""
    if image.device.type != "cpu":
        seed = int(torch.randint(2**62, (1,), generator=generator))
        generator = torch.Generator(image.device).manual_seed(seed)
    return torch.randn(image.shape, generator=generator, device=image.device)


def to_unit(batch: Batch) -> Batch:
    """uint8 images to float32 in [0, 1]."""
    return batch.with_image(batch.image.float() / 255)


def turn_patches(batch: Batch, generator: torch.Generator, *, axes: tuple[int, ...]) -> Batch:
    """Flip each patch along random ``axes`` (spatial, from 0); square ones also swap their last two in half the cases.

    Only for batches of patches, where a state's patch is its tile. Patches are turned in groups, one per symmetry:
    the bits of its code are the flips, then the swap.
    """
    square = batch.image.shape[-1] == batch.image.shape[-2]
    symmetries = 2 ** (len(axes) + square)
    code = torch.randint(0, symmetries, (len(batch.image),), generator=generator).to(batch.image.device)

    def turned(maps: Tensor, codes: Tensor) -> Tensor:
        out = torch.empty_like(maps)
        for value in codes.unique().tolist():
            group = codes == value
            part = maps[group].flip([axis + 2 for bit, axis in enumerate(axes) if value >> bit & 1])
            out[group] = part.transpose(-1, -2) if value >> len(axes) & 1 else part
        return out

    states = {name: turned(getattr(batch, name), code[batch.owner]) for name in ("walk", "edge", "node", "branch")}
    return replace(batch, image=turned(batch.image, code), centerline=turned(batch.centerline, code), **states)
