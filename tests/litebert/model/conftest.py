"""What the model's tests share: weights that hide nothing, and batches of unequal lengths."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from litebert.model import Packing


@pytest.fixture
def randomize() -> Callable[[nn.Module], None]:
    """Fill every parameter with noise: biases of 0 and norms of 1, as at birth, would hide a swapped one."""

    def fill(module: nn.Module) -> None:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.normal_(0, 0.2, generator=generator)
                if "norm" in name.lower() and name.endswith("weight"):
                    parameter.add_(1)

    return fill


class Batch:
    """Random samples of the given lengths, packed and padded, with two masked positions in each sample."""

    def __init__(self, lengths: list[int], vocab_size: int, token_types: int = 2) -> None:
        rng = np.random.default_rng(3)
        self.packing = Packing.of(lengths)
        self.ids_T = torch.from_numpy(rng.integers(5, vocab_size, sum(lengths)))
        self.token_types_T = torch.from_numpy(rng.integers(0, max(token_types, 1), sum(lengths)))
        masked = [rng.choice(length, min(2, length), replace=False) for length in lengths]
        starts = np.cumsum([0, *lengths[:-1]])
        self.masked_M = torch.from_numpy(
            np.concatenate([start + rows for start, rows in zip(starts, masked, strict=True)])
        )
        self.labels_M = torch.from_numpy(rng.integers(5, vocab_size, len(self.masked_M)))
        self.order_B = torch.from_numpy(rng.integers(0, 2, len(lengths)))
        self.valid_BL = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]

    def padded(self, values_T: Tensor, padding: int = 0) -> Tensor:
        padded_BL = values_T.new_full(self.valid_BL.shape, padding)
        padded_BL[self.valid_BL] = values_T
        return padded_BL


@pytest.fixture
def make_batch() -> type[Batch]:
    return Batch
