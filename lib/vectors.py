"""Directions of vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-9
"""A shorter vector counts as one of length 0."""


def unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Vectors ``(..., D)`` of the same directions and of length 1; one of length 0 stays as it is."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _LEAST)


def cosine(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Cosine of the angle between two vectors ``(D,)``; 1 for a vector of length 0."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else 1.0
