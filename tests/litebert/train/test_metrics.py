"""Lines of metrics are means over steps, also over those before a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from litebert.train.metrics import Metrics, lines_of
from litebert.train.world import Channel, World

CHANNEL = Channel(0, 1, None)
ALONE = World(0, 1, torch.device("cpu"), CHANNEL, CHANNEL, CHANNEL)


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    """Of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_line_begun_by_a_version_that_showed_more_is_ended(tmp_path: Path) -> None:
    def values(loss: float, **more: float) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(value) for name, value in {"loss": loss, **more}.items()}

    before = Metrics(tmp_path, ALONE, 0, 9, None)
    for loss in (1.0, 2.0):
        before.add(values(loss, agreement=0.5, mlm=3.0), torch.tensor(True))
    begun = before.begun()
    before.close()
    after = Metrics(tmp_path, ALONE, 2, 9, begun)
    after.add(values(6.0, mlm=9.0), torch.tensor(True))
    assert after.log(3, 1e-3, {"tokens_per_s": 1.0}) == {"loss": 3.0, "mlm": 5.0}
    after.add(values(7.0, mlm=1.0), torch.tensor(True))
    assert after.log(4, 1e-3, {"tokens_per_s": 1.0}) == {"loss": 7.0, "mlm": 1.0}
    after.close()
    assert [(line["step"], line["loss"]) for line in lines_of(tmp_path)] == [(3, 3.0), (4, 7.0)]
