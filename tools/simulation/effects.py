"""What makes a simulated volume look real: one number for each effect, and presets of them.

*Pixel* here is the pixel of a slice: lengths in depth are given in pixels of a slice too, whatever the distance of the
slices. *Counts* are the numbers in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Effects:
    """Every effect of the simulation; 0 turns it off. The defaults are the preset fmost."""

    # --- the neurite ---
    radius_scale: float = 1.0
    """Radii of the SWC are multiplied by this; the gold has the radii that are drawn."""
    least_radius: float = 0.5
    """Radii below this, in pixels, are raised to it (some SWCs hold zeros)."""
    smoothing: float = 4.0
    """Length in pixels over which the corners of the SWC's polyline are rounded."""
    wobble: float = 0.4
    """How far, in pixels (standard deviation), a neurite winds beside the smoothed line."""
    brightness_spread: float = 0.5
    """Spread between branches, as the standard deviation of the logarithm of their brightness."""
    brightness_drift: float = 0.2
    """The same along one branch, slowly changing."""
    bead_spacing: float = 25.0
    """Mean distance of beads (boutons) along a neurite, in pixels; 0 for none."""
    bead_size: float = 0.6
    """By how much a bead is thicker than its neurite, as a share of the radius; half of it in brightness."""
    gap_spacing: float = 120.0
    """Mean distance of gaps along a neurite, in pixels; 0 for none."""
    gap_length: float = 8.0
    """Mean length of a gap in pixels."""
    gap_depth: float = 0.75
    """Share of its brightness that a neurite loses in the middle of a gap, 0 to 1."""
    # --- other neurites ---
    neighbours: float = 3.0
    """Mean number of other neurites that run beside or across those of the SWC, for each million voxels."""
    parallel_share: float = 0.5
    """Share of them that run beside a neurite; the others cross one."""
    nearest: float = 3.5
    """Least distance, in pixels between the centrelines, at which a neighbour runs beside a neurite."""
    farthest: float = 8.0
    """Largest such distance."""
    unlabelled: float = 0.0
    """Share of the neighbours that are left out of the gold, 0 to 1."""
    # --- light ---
    signal: float = 2600.0
    """Counts of a thick neurite of brightness 1 above the background."""
    background: float = 450.0
    """Counts of empty tissue."""
    offset: float = 0.0
    """Counts added to all values at the end; a negative one, as after black levels were cut, leaves zeros."""
    texture: float = 0.15
    """Unevenness of the background on the scale of `texture_size`, as a share of it (standard deviation)."""
    texture_size: float = 12.0
    """Size in pixels of the clouds of the background; grains of a quarter of it are added at half the strength."""
    blob_density: float = 12.0
    """Autofluorescent blobs for each million voxels."""
    blob_radius: float = 2.5
    """Their median radius in pixels."""
    blob_brightness: float = 0.5
    """Their median brightness as a share of `signal`."""
    speck_density: float = 0.0
    """Single bright specks, of the size of the point spread, for each million voxels."""
    psf: float = 0.9
    """Width (standard deviation of a Gaussian) of the point spread in a slice, in pixels."""
    psf_axial: float = 1.8
    """The same along z, in pixels of a slice."""
    haze: float = 0.08
    """Share of the neurites' light that is spread widely (out of focus)."""
    haze_size: float = 8.0
    """Width of that spread in pixels (standard deviation)."""
    depth_loss: float = 0.2
    """Share of the light that is lost in the last slice; the first loses nothing."""
    shading: float = 0.15
    """Unevenness of the light across a slice, as a share (half of the range)."""
    slice_flicker: float = 0.03
    """Change of brightness from slice to slice (standard deviation of the logarithm)."""
    misregistration: float = 0.25
    """Sideways displacement of slices in pixels (standard deviation in y and in x); the gold lies at its mean."""
    # --- the camera ---
    gain: float = 25.0
    """Counts for each photon: the larger, the noisier (Poisson)."""
    read_noise: float = 25.0
    """Noise of the camera in counts (standard deviation)."""
    noise_blur: float = 0.0
    """Width in pixels over which noise is correlated in a slice, as after a smoothing filter."""
    bits: int = 16
    """8 or 16 bits a voxel; counts above the largest value are cut."""


CLEAN: Mapping[str, Any] = {
    "wobble": 0.0,
    "brightness_spread": 0.0,
    "brightness_drift": 0.0,
    "bead_spacing": 0.0,
    "gap_spacing": 0.0,
    "neighbours": 0.0,
    "signal": 10_000.0,
    "background": 0.0,
    "texture": 0.0,
    "blob_density": 0.0,
    "haze": 0.0,
    "depth_loss": 0.0,
    "shading": 0.0,
    "slice_flicker": 0.0,
    "misregistration": 0.0,
    "gain": 0.0,
    "read_noise": 0.0,
    "psf": 0.7,
    "psf_axial": 0.7,
}
"""Smooth tubes on black: what a tracer should do without a mistake."""

OP: Mapping[str, Any] = {
    "least_radius": 0.8,
    "bead_spacing": 18.0,
    "bead_size": 0.8,
    "brightness_spread": 0.4,
    "brightness_drift": 0.4,
    "gap_spacing": 200.0,
    "neighbours": 0.5,
    "signal": 340.0,
    "background": 3.0,
    "offset": -2.0,
    "texture": 0.5,
    "texture_size": 40.0,
    "blob_density": 0.3,
    "speck_density": 20.0,
    "psf": 1.0,
    "psf_axial": 2.5,
    "haze": 0.04,
    "depth_loss": 0.3,
    "slice_flicker": 0.03,
    "misregistration": 0.15,
    "gain": 1.2,
    "read_noise": 0.8,
    "noise_blur": 0.5,
    "bits": 8,
}
"""Confocal stacks such as DIADEM's olfactory projection fibres: 8 bits, black level cut, bright parts saturated."""

CCF: Mapping[str, Any] = {
    "least_radius": 0.7,
    "signal": 5000.0,
    "bead_spacing": 12.0,
    "wobble": 0.2,
    "smoothing": 2.0,
    "neighbours": 1.0,
    "psf_axial": 2.5,
}
"""Climbing fibres: finer than a pixel is wide over much of their length, with many beads."""

PARALLEL: Mapping[str, Any] = {
    "wobble": 0.0,
    "brightness_spread": 0.3,
    "gap_spacing": 0.0,
    "neighbours": 0.0,
    "signal": 5000.0,
    "blob_density": 6.0,
    "misregistration": 0.1,
    "depth_loss": 0.0,
}

EFFECTS: Mapping[str, Mapping[str, Any]] = {
    "fmost": {},
    "ccf": CCF,
    "op": OP,
    "clean": CLEAN,
    "parallel": PARALLEL,
}
"""What each preset changes of the defaults of :class:`Effects`."""
