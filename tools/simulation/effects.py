"""Effects that make a simulated volume look real, and presets of them.

A *pixel* is the pixel of a slice: lengths along z are given in pixels of a slice too, whatever the distance of the
slices. *Counts* are the values in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Effects:
    """Strength of every effect; 0 turns an effect off. The defaults are the preset fmost."""

    # --- neurites ---
    radius_scale: float = 1.0
    """Factor of the radii of the SWC; the gold has the radii that are drawn."""
    least_radius: float = 0.5
    """Smallest radius in pixels; smaller ones are raised to it (some SWCs hold zeros)."""
    smoothing: float = 4.0
    """Length in pixels over which the corners of the SWC's polyline are rounded."""
    wobble: float = 0.4
    """Deviation of a neurite from the smoothed line in pixels (standard deviation)."""
    brightness_spread: float = 0.5
    """Variation of brightness between branches (standard deviation of the logarithm)."""
    brightness_drift: float = 0.2
    """Slow variation of brightness along a branch (standard deviation of the logarithm)."""
    bead_spacing: float = 25.0
    """Mean distance of beads (boutons) along a neurite in pixels; 0 for none."""
    bead_size: float = 0.6
    """Increase of the radius at a bead, as a share of it; brightness increases by half that share."""
    gap_spacing: float = 120.0
    """Mean distance of gaps along a neurite in pixels; 0 for none."""
    gap_length: float = 8.0
    """Mean length of a gap in pixels."""
    gap_depth: float = 0.75
    """Share of brightness lost in the middle of a gap, 0 to 1."""
    # --- other neurites ---
    neighbours: float = 3.0
    """Mean number of other neurites beside or across those of the SWC, per million voxels."""
    parallel_share: float = 0.5
    """Share of the neighbours that run beside a neurite; the others cross one."""
    nearest: float = 3.5
    """Smallest distance in pixels, between centrelines, of a neighbour that runs beside a neurite."""
    farthest: float = 8.0
    """Largest such distance."""
    unlabelled: float = 0.0
    """Share of the neighbours that the gold leaves out, 0 to 1."""
    # --- light ---
    signal: float = 2600.0
    """Counts of a thick neurite of brightness 1, above the background."""
    background: float = 450.0
    """Counts of empty tissue."""
    offset: float = 0.0
    """Counts added to all values at the end; a negative one clips the background to 0."""
    texture: float = 0.15
    """Variation of the background over `texture_size`, as a share of it (standard deviation)."""
    texture_size: float = 12.0
    """Size in pixels of clouds in the background; grains of a quarter of the size have half the strength."""
    blob_density: float = 12.0
    """Autofluorescent blobs per million voxels."""
    blob_radius: float = 2.5
    """Median radius of blobs in pixels."""
    blob_brightness: float = 0.5
    """Median brightness of blobs, as a share of `signal`."""
    speck_density: float = 0.0
    """Bright specks of the size of the point spread, per million voxels."""
    psf: float = 0.9
    """Width of the point spread in a slice, in pixels (standard deviation of a Gaussian)."""
    psf_axial: float = 1.8
    """Width of the point spread along z, in pixels of a slice."""
    haze: float = 0.08
    """Share of the neurites' light that is out of focus and spreads widely."""
    haze_size: float = 8.0
    """Width of that spread in pixels (standard deviation)."""
    depth_loss: float = 0.2
    """Share of light lost in the last slice; the first loses none."""
    shading: float = 0.15
    """Unevenness of the light across a slice, as a share (half of the range)."""
    slice_flicker: float = 0.03
    """Variation of brightness from slice to slice (standard deviation of the logarithm)."""
    misregistration: float = 0.25
    """Sideways displacement of slices in pixels (standard deviation in y and in x); the gold lies at its mean."""
    # --- camera ---
    gain: float = 25.0
    """Counts per photon; larger values give more photon (Poisson) noise."""
    read_noise: float = 25.0
    """Read noise of the camera in counts (standard deviation)."""
    noise_blur: float = 0.0
    """Width in pixels over which noise is correlated in a slice, as after a smoothing filter."""
    bits: int = 16
    """8 or 16 bits per voxel; larger counts are clipped."""


_OFF = (
    "wobble brightness_spread brightness_drift bead_spacing gap_spacing neighbours background texture blob_density "
    "haze depth_loss shading slice_flicker misregistration gain read_noise"
)
CLEAN: Mapping[str, Any] = {**dict.fromkeys(_OFF.split(), 0.0), "signal": 10_000.0, "psf": 0.7, "psf_axial": 0.7}
"""Smooth tubes on black, which a tracer should trace without an error."""

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
"""Confocal stacks like DIADEM's olfactory projection fibres: 8 bits, background clipped to 0, saturated trunks."""

CCF: Mapping[str, Any] = {
    "least_radius": 0.7,
    "signal": 5000.0,
    "bead_spacing": 12.0,
    "wobble": 0.2,
    "smoothing": 2.0,
    "neighbours": 1.0,
    "psf_axial": 2.5,
}
"""Climbing fibres: thinner than a pixel over much of their length, with many beads."""

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
"""Two neurites side by side, see `tools.simulation.blocks.parallel_pair`."""

EFFECTS: Mapping[str, Mapping[str, Any]] = {"fmost": {}, "ccf": CCF, "op": OP, "clean": CLEAN, "parallel": PARALLEL}
"""Deviations of each preset from the defaults of `Effects`."""
