"""Curves from logits to chances."""

import pytest
import torch

from mfgan.models.chance import ChanceCurve
from mfgan.models.correction import Correction, FactorCorrection

BENT = ChanceCurve((-1.0, 0.0, 2.0), (-3.0, 0.0, 1.0))


def test_it_is_straight_between_points_and_goes_on_beyond_them():
    y = torch.tensor([[-2.0, -1.0, -0.5], [0.0, 1.0, 4.0]])
    expected = torch.tensor([[-6.0, -3.0, -1.5], [0.0, 0.5, 2.0]])
    torch.testing.assert_close(BENT(y), expected)


def test_a_single_point_is_a_level():
    assert ChanceCurve((2.0,), (0.5,))(torch.tensor([-9.0, 9.0])).tolist() == [0.5, 0.5]


def test_each_factor_has_its_own():
    line = ChanceCurve((0.0, 1.0), (-0.5, 1.5))
    parts = [FactorCorrection("a", 0.0, 0.1, BENT, 0.0, 0.0)]
    parts.append(FactorCorrection("b", 0.0, 0.1, line, 0.0, 0.0))
    y = torch.randn(4, 3, 2, dtype=torch.float64)
    found = Correction(tuple(parts), 10, 1, 0.0).calibrated(y)
    torch.testing.assert_close(found, torch.stack([BENT(y[..., 0]), 2 * y[..., 1] - 0.5], -1))


@pytest.mark.parametrize(
    ("logits", "log_odds", "message"),
    [
        ((), (), "at least one"),
        ((1.0, 2.0), (0.0,), "as many log_odds as logits"),
        ((1.0, 1.0), (0.0, 0.0), "logits of a chance must ascend"),
        ((0.0, float("nan")), (0.0, 0.0), "logits of a chance must ascend"),
        ((0.0, 1.0), (0.0, -0.1), "must never fall"),
    ],
)
def test_points_out_of_order_are_refused(logits, log_odds, message):
    with pytest.raises(ValueError, match=message):
        ChanceCurve(logits, log_odds)
