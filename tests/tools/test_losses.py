"""Losses and Dice against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.contract import BETA, probability
from tools.Losses import dice, kind_cross_entropy, local_connectivity_loss, weighted_cross_entropy


def logits(*probabilities: float) -> Tensor:
    """``(1, 1, 1, n)`` logits of the given probabilities."""
    return torch.logit(torch.tensor(probabilities, dtype=torch.float64)).view(1, 1, 1, -1)


def mask(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool).view(1, 1, 1, -1)


def test_weighted_cross_entropy_by_hand() -> None:
    # Two positives at .8 and .5, two negatives at .1 and .5.
    found = weighted_cross_entropy(logits(0.8, 0.5, 0.1, 0.5), mask(1, 1, 0, 0), beta=0.9)
    by_hand = -(0.9 * math.log(0.8) + 0.9 * math.log(0.5) + 0.1 * math.log(0.9) + 0.1 * math.log(0.5)) / 4
    assert float(found) == pytest.approx(by_hand, rel=1e-6)
    assert by_hand == pytest.approx(0.226_129, abs=1e-6)


def test_ignored_pixels_do_not_count() -> None:
    target, ignored = mask(1, 1, 0, 0), mask(0, 1, 0, 1)
    found = weighted_cross_entropy(logits(0.8, 0.01, 0.1, 0.99), target, beta=0.9, ignored=ignored)
    by_hand = -(0.9 * math.log(0.8) + 0.1 * math.log(0.9)) / 2
    assert float(found) == pytest.approx(by_hand, rel=1e-6)
    nothing = weighted_cross_entropy(logits(0.8, 0.5, 0.1, 0.5), target, ignored=mask(0, 0, 0, 0))
    assert float(nothing) == pytest.approx(float(weighted_cross_entropy(logits(0.8, 0.5, 0.1, 0.5), target)))


def test_ignored_pixels_have_no_gradient() -> None:
    values = logits(0.8, 0.5, 0.1, 0.5).requires_grad_()
    weighted_cross_entropy(values, mask(1, 1, 0, 0), ignored=mask(0, 1, 0, 1)).backward()
    assert (values.grad.flatten() != 0).tolist() == [True, False, True, False]


def test_all_pixels_ignored_gives_zero_loss() -> None:
    values = logits(0.8, 0.5).requires_grad_()
    found = weighted_cross_entropy(values, mask(1, 0), ignored=mask(1, 1))
    found.backward()
    assert found.item() == 0 and not values.grad.any()


def test_weights_are_beta_and_one_minus_beta() -> None:
    only_positive = weighted_cross_entropy(logits(0.5), mask(1), beta=0.75)
    only_negative = weighted_cross_entropy(logits(0.5), mask(0), beta=0.75)
    assert float(only_positive / only_negative) == pytest.approx(3.0)
    assert BETA == 0.9


def test_cross_entropy_of_extreme_logits_is_finite() -> None:
    assert weighted_cross_entropy(torch.full((1, 1, 2), 1e4), mask(0, 0).view(1, 1, 2)).isfinite()


def test_local_connectivity_by_hand() -> None:
    # Edge probability .2 and .6 lie outside the branch, .9 and .5 inside.
    found = local_connectivity_loss(logits(0.9, 0.2, 0.6, 0.5), mask(1, 0, 0, 1))
    assert float(found) == pytest.approx((0.2 + 0.6) / 4)


def test_no_connectivity_loss_inside_the_branch() -> None:
    assert float(local_connectivity_loss(logits(0.9, 0.2), mask(1, 1))) == 0


@pytest.mark.parametrize(
    ("prediction", "target", "by_hand"),
    [
        (mask(1, 1, 1, 0), mask(0, 1, 1, 1), 4 / 6),
        (mask(1, 1, 0, 0), mask(1, 1, 0, 0), 1),
        (mask(1, 0, 0, 0), mask(0, 1, 0, 0), 0),
        (mask(0, 0, 0, 0), mask(0, 1, 0, 0), 0),
        (mask(0, 0, 0, 0), mask(0, 0, 0, 0), 1),
    ],
)
def test_dice_by_hand(prediction: Tensor, target: Tensor, by_hand: float) -> None:
    assert float(dice(prediction, target)) == pytest.approx(by_hand)


@pytest.mark.parametrize(("output", "by_hand"), [(0.5, 0.1), (0.9, 0.5), (0.95, 19 / 28), (0.1, 1 / 82)])
def test_probability_by_hand(output: float, by_hand: float) -> None:
    """p = .9 q / (.9 q + .1 (1 − q)), solved for q: .1 p / (.1 p + .9 (1 − p))."""
    assert float(probability(logits(output))) == pytest.approx(by_hand)


def test_probability_inverts_the_weighting_of_the_cross_entropy() -> None:
    """If 30 of 100 pixels are positive, the constant output with the least loss means a probability of .3."""
    target = torch.arange(100).view(1, 1, -1) < 30
    outputs = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    loss = [float(weighted_cross_entropy(torch.full((1, 1, 100), float(o)), target)) for o in outputs]
    assert float(probability(outputs[int(torch.tensor(loss).argmin())])) == pytest.approx(0.3, abs=2e-3)


def test_equal_weights_do_not_shift() -> None:
    assert float(probability(logits(0.3), beta=0.5)) == pytest.approx(0.3)


@pytest.mark.parametrize("loss", [weighted_cross_entropy, local_connectivity_loss])
def test_empty_batch_is_zero_and_has_a_gradient(loss) -> None:
    empty = torch.zeros((0, 1, 8, 8), requires_grad=True)
    value = loss(empty, torch.zeros((0, 1, 8, 8), dtype=torch.bool))
    value.backward()
    assert value.item() == 0 and empty.grad.shape == empty.shape


@pytest.mark.parametrize("loss", [weighted_cross_entropy, local_connectivity_loss])
def test_gradient_has_the_right_sign(loss) -> None:
    values = torch.zeros((1, 1, 1, 2), requires_grad=True)
    loss(values, mask(1, 0)).backward()
    positive, negative = values.grad.flatten().tolist()
    assert positive <= 0 < negative


def test_only_pixels_of_known_kind_count() -> None:
    probability = torch.tensor([[[0.8, 0.3, 0.5]], [[0.2, 0.7, 0.5]]]).log()[None]  # (1, 2, 1, 3)
    kind = torch.tensor([[[1, 1, 0]]])
    assert float(kind_cross_entropy(probability, kind)) == pytest.approx(-(math.log(0.8) + math.log(0.3)) / 2)
    assert float(kind_cross_entropy(probability, torch.zeros_like(kind))) == 0
