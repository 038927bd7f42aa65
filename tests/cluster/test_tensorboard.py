"""TensorBoard as a job."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
from torch.utils.tensorboard import SummaryWriter

from tests.cluster.jobs import submit, wait_until


def test_curves_are_served_at_loopback_alone_and_the_log_says_how_to_see_them(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    with SummaryWriter(str(tmp_path / "runs/one/tensorboard")) as writer:
        for step in range(5):
            writer.add_scalar("loss", 5 - step, step)
    job = submit(slurm, tmp_path / "log", "tensorboard.sh", [str(tmp_path / "runs")], PYTHON=sys.executable, USER="me")
    wait_until(lambda: job.log.exists() and "Press CTRL+C" in job.log.read_text())
    (port,) = re.findall(r"^ssh -N -L (\d+):localhost:\1 -J me@\S+ me@\S+ ", job.log.read_text(), re.MULTILINE)
    listening = {each.laddr for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    assert {address.ip for address in listening if address.port == int(port)} == {"127.0.0.1"}
    address = f"http://localhost:{port}/data/plugin/scalars/scalars?run=one/tensorboard&tag=loss"
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert [point[1:] for point in json.load(answer)] == [[step, 5.0 - step] for step in range(5)]
    job.cancel()
    wait_until(lambda: not job.states)


@pytest.mark.parametrize("arguments", [[], ["nowhere"]])
def test_a_folder_is_wanted(slurm: dict[str, str], tmp_path: Path, arguments: list[str]) -> None:
    job = submit(slurm, tmp_path / "log", "tensorboard.sh", arguments, PYTHON=sys.executable)
    assert job.codes == [2] and "is no folder: name one that holds runs" in job.log.read_text()
