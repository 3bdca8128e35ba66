"""Augmentation of training batches on the device: symmetries of single patches, and colours."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv3d, pad

from tools.data.batches import Batch

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
    blur
        Largest standard deviation of a Gaussian blur, in pixels; half of the tiles are not blurred.
    haze
        Largest brightness that is added to everything, the background too.
    keep_black
        Whether black stays as it is: outside a field of view, where no light falls.
    """

    gain: float = 0.25
    gain_channel: float = 0.12
    contrast: float = 0.35
    gamma: float = 1.4
    noise: float = 0.03
    blur: float = 1.2
    haze: float = 0.0
    keep_black: bool = True

    def apply(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Move the values of ``image`` ``(T, C, *S)`` in [0, 1], one draw per tile.

        With ``keep_black``, what is black (no channel above :data:`BLACK`) stays so: a field of view keeps its rim.
        ``generator`` is of the CPU; the same one gives the same result on the same device.
        """
        tiles, channels = image.shape[:2]
        spatial = [1] * (image.ndim - 2)

        def draw(columns: int) -> Tensor:
            """Uniform in [−1, 1]."""
            values = torch.rand((tiles, columns), generator=generator) * 2 - 1
            return values.to(image.device).view(tiles, columns, *spatial)

        seen = (image > BLACK).any(dim=1, keepdim=True) if self.keep_black else torch.ones_like(image, dtype=torch.bool)
        gain = (1 + self.gain * draw(1)) * (1 + self.gain_channel * draw(channels))
        blurred = _blurred(image.clamp(0, 1), self.blur * draw(1).clamp(min=0).flatten())
        moved = blurred ** (self.gamma ** draw(1)) * gain
        mean = moved.flatten(2).mean(dim=2).view(tiles, channels, *spatial)
        moved = mean + (moved - mean) * (1 + self.contrast * draw(1))
        if self.haze:
            moved = moved + self.haze * draw(1).clamp(min=0)
        noise = _gaussian(image, generator) * self.noise * draw(1).abs()
        return torch.where(seen, moved + noise, image).clamp(0, 1)


def _blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """``(T, C, *S)``, each tile blurred by a Gaussian of its own ``sigma`` ``(T,)``, in pixels; 0 does nothing."""
    tiles, channels, *spatial = image.shape
    reach = int(3 * float(sigma.max())) + 1
    places = torch.arange(-reach, reach + 1, device=image.device)
    # Far below a pixel the kernel is a single 1.
    kernel = torch.exp(-0.5 * (places / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    convolve = conv2d if len(spatial) == 2 else conv3d
    blurred = image.reshape(1, tiles * channels, *spatial)
    for axis in range(len(spatial)):
        sides = [0] * (2 * len(spatial))
        sides[2 * (len(spatial) - 1 - axis)] = sides[2 * (len(spatial) - 1 - axis) + 1] = reach
        shape = [-1, 1, *(len(places) if axis == other else 1 for other in range(len(spatial)))]
        blurred = convolve(pad(blurred, sides, mode="replicate"), kernel.view(shape), groups=tiles * channels)
    return blurred.reshape(image.shape)


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
    tiles = {name: turned(getattr(batch, name), code) for name in ("image", "centerline", "ignored")}
    return replace(batch, **tiles, **states)
