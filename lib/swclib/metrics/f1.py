"""Precision, recall and their harmonic mean."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class F1:
    """Agreement of a test tree with a gold tree.

    Attributes
    ----------
    matched_gold, matched_test
        Matched nodes or length of each tree.
    total_gold, total_test
        All nodes or the whole length of each tree.
    """

    matched_gold: float
    total_gold: float
    matched_test: float
    total_test: float

    @property
    def recall(self) -> float:
        """Matched share of the gold, 0 to 1; 0 for an empty gold tree."""
        return share(self.matched_gold, self.total_gold)

    @property
    def precision(self) -> float:
        """Matched share of the test, 0 to 1; 0 for an empty test tree."""
        return share(self.matched_test, self.total_test)

    @property
    def value(self) -> float:
        """``2 P R / (P + R)``; 0 if both are 0."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both > 0 else 0.0


def share(part: float, whole: float) -> float:
    """Return ``part / whole``, at most 1; 0 if ``whole`` is 0."""
    return min(float(part / whole), 1.0) if whole > 0 else 0.0
