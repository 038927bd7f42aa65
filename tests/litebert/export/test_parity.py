"""How far an exported model's numbers are from the trained one's, in units of the largest and as they are."""

from __future__ import annotations

import math

import pytest
import torch

from litebert.export.parity import Difference, furthest, proven


def test_a_difference_is_relative_to_its_own_output_and_absolute() -> None:
    large, small = torch.tensor([27.0, -1.0]), torch.tensor([0.5, 2.0])
    compared = [(large, large + torch.tensor([0.0, 0.27])), (small, small + torch.tensor([0.1, 0.0]))]
    assert furthest(compared) == pytest.approx((0.1 / 2, 0.27))
    assert furthest([(small, small.half())]) == (0, 0)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_no_number_is_the_largest_difference(broken: float) -> None:
    sound = torch.ones(3)
    found = furthest([(sound, sound), (sound, torch.tensor([1.0, broken, 1.0])), (sound, sound)])
    with pytest.raises(ValueError, match="nothing is written; export it without --half"):
        proven(found, half=True)


def test_the_limit_is_relative() -> None:
    assert "2.0e-05 of" in proven(Difference(2e-5, 0.5)) and "(5.0e-01 absolute)" in proven(Difference(2e-5, 0.5))
    with pytest.raises(ValueError, match=r"by 0\.0002 of their largest number \(> 0\.0001\), 2e-06 absolute"):
        proven(Difference(2e-4, 2e-6))
