"""Confidence from evidence: a logistic regression for each kind of item, small enough for the head of a weight file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from lib.errors import UserError
from tools.confidence.evidence import BRANCH, END, INSIDE, JOIN, TraceEvidence

Floats = NDArray[np.floating]

PENALTY = 5.0
"""Weight of the squared coefficients: chosen by leaving out one image after the other (docs/experiments.md)."""
NAMES = {"branches": BRANCH, "joins": JOIN, "insides": INSIDE, "ends": END}
"""What is known of the items of each kind, as in :class:`~tools.confidence.evidence.TraceEvidence`."""
KINDS = tuple(NAMES)
"""Kinds of items."""


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on standardised numbers.

    Attributes
    ----------
    mean, spread
        Of each of the ``F`` numbers.
    weights
        One for each number.
    bias
        Log odds of an item whose numbers are all means.
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    @classmethod
    def fit(cls, values: Floats, truth: Floats) -> Logistic:
        """Fit to items.

        Parameters
        ----------
        values
            ``(K, F)``.
        truth
            ``(K,)`` 1 or 0.
        """
        if not len(values):
            none = (0.0,) * values.shape[1]
            return cls(none, (1.0,) * values.shape[1], none, 0.0)
        mean, spread = values.mean(axis=0), values.std(axis=0)
        spread = np.where(spread > 1e-6, spread, 1.0)
        inputs = np.column_stack([np.ones(len(values)), (values - mean) / spread])

        def cost(weights: Floats) -> tuple[float, Floats]:
            odds = inputs @ weights
            penalty = PENALTY * np.concatenate([[0.0], weights[1:]])
            value = np.logaddexp(0, odds).sum() - odds @ truth + weights @ penalty / 2
            # Half an item of either outcome keeps the bias finite where all items are alike.
            value += (np.logaddexp(0, weights[0]) + np.logaddexp(0, -weights[0])) / 2
            slope = inputs.T @ (expit(odds) - truth) + penalty
            slope[0] += expit(weights[0]) - 0.5
            return float(value), slope

        found = minimize(cost, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x
        mean, spread, weights = (tuple(np.round(each, 5).tolist()) for each in (mean, spread, found[1:]))
        return cls(mean, spread, weights, round(float(found[0]), 5))

    def __call__(self, values: Floats) -> Floats:
        """Probabilities ``(K,)`` of items ``(K, F)``."""
        return expit((values - np.array(self.mean)) / np.array(self.spread) @ np.array(self.weights) + self.bias)


@dataclass(frozen=True)
class Confidence:
    """Of a trace, each in [0, 1].

    Attributes
    ----------
    branches
        ``(B,)`` that most of the branch is real.
    joins
        ``(B,)`` that it is rightly joined to the branch that leads to it; NaN at roots.
    insides
        ``(B,)`` that what lies on both sides of its weakest place belongs together.
    ends
        ``(E,)`` that the tube ends there.
    """

    branches: Floats
    joins: Floats
    insides: Floats
    ends: Floats


@dataclass(frozen=True)
class ConfidenceModel:
    """A regression for each kind of item, and the mean length, in units, of what is missed beyond a false end."""

    branches: Logistic
    joins: Logistic
    insides: Logistic
    ends: Logistic
    missed: float

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ConfidenceModel | None:
        """The model in the header of a weight file; None if it has none.

        Raises
        ------
        UserError
            If it is damaged.
        """
        if not stored:
            return None
        try:
            models = {
                kind: Logistic(**{name: _frozen(value) for name, value in stored[kind].items()}) for kind in KINDS
            }
            for kind, model in models.items():
                if {len(each) for each in (model.mean, model.spread, model.weights)} != {len(NAMES[kind])}:
                    raise ValueError(f"{kind} are not judged by {', '.join(NAMES[kind])}")
            return cls(**models, missed=float(stored["missed"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            found = f"its confidence is damaged ({type(error).__name__}: {error})"
            raise UserError(f"the weight file: {found}; run tools.calibrate on it again") from None

    def as_json(self) -> dict[str, Any]:
        """For the header of a weight file."""
        return asdict(self)

    def __call__(self, evidence: TraceEvidence) -> Confidence:
        """Confidence of a trace."""
        return Confidence(**{kind: getattr(self, kind)(getattr(evidence, kind).values) for kind in KINDS})


def _frozen(value: Any) -> Any:
    """Lists of JSON as tuples."""
    return tuple(value) if isinstance(value, list) else value
