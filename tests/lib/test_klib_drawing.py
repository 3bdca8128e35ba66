"""Drawing of tubes, compared with the distance of every pixel to every segment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.klib.drawing import draw_edges, tubes

SHAPES = [(24, 40), (9, 20, 26)]


def brute_force(segments: np.ndarray, radius: float, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels within ``radius`` of any segment ``(S, 2, ndim)``, and those on the border within float32 rounding."""
    pixels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(float)
    nearest = np.full(shape, np.inf)
    for start, end in segments:
        if np.isnan([start, end]).any():
            continue
        along = end - start
        fraction = np.clip((pixels - start) @ along / max(along @ along, 1e-12), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(pixels - start - fraction[..., None] * along, axis=-1))
    return nearest <= radius, np.abs(nearest - radius) < 1e-3


def random_segments(rng: np.random.Generator, count: int, n_segments: int, shape: tuple[int, ...]) -> np.ndarray:
    """Short and long segments inside, outside and across the border; a quarter absent, a quarter of length 0."""
    size = np.array(shape)
    start = rng.uniform(-0.3 * size, 1.3 * size, (count, n_segments, len(shape)))
    end = start + rng.normal(0, 1, start.shape) * rng.choice([0, 4, 12, 60], (count, n_segments, 1))
    segments = np.stack([start, end], axis=2)
    segments[rng.random((count, n_segments)) < 0.25, 1, 0] = np.nan
    return segments


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0.6, 1.0, 2.35, 7.0])
def test_tubes_are_the_pixels_within_the_radius(shape: tuple[int, ...], radius: float) -> None:
    segments = random_segments(np.random.default_rng(0), 12, 5, shape)
    drawn = tubes(torch.from_numpy(segments), radius, shape).numpy()
    assert drawn.shape == (12, *shape)
    for patch, patch_segments in zip(drawn, segments, strict=True):
        near, borderline = brute_force(patch_segments, radius, shape)
        assert (patch == near)[~borderline].all()


def test_result_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = torch.from_numpy(random_segments(np.random.default_rng(1), 8, 5, (24, 40)))
    whole = tubes(segments, 1.0, (24, 40))
    monkeypatch.setattr("lib.klib.drawing._CPU_CHUNK", 700)
    assert torch.equal(tubes(segments, 1.0, (24, 40)), whole)


def test_line_through_pixel_centres_is_three_pixels_wide() -> None:
    drawn = tubes(torch.tensor([[[[3.0, 2.0], [3.0, 4.0]]]]), 1.0, (7, 7))[0].int()
    assert drawn.tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    "segments", [torch.zeros(0, 3, 2, 2), torch.zeros(2, 0, 2, 2), torch.full((2, 3, 2, 2), float("nan"))]
)
def test_nothing_to_draw(segments: torch.Tensor) -> None:
    drawn = tubes(segments, 1.0, (5, 6))
    assert drawn.shape == (len(segments), 5, 6)
    assert not drawn.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_in_one_image(shape: tuple[int, ...]) -> None:
    (segments,) = random_segments(np.random.default_rng(2), 1, 30, shape)
    near, borderline = brute_force(segments, 1.0, shape)
    assert (draw_edges(segments, 1.0, shape) == near)[~borderline].all()


def test_no_edges() -> None:
    assert not draw_edges(np.zeros((0, 2, 2)), 1.0, (5, 6)).any()
