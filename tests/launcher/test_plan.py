"""plan.py, given what cannot be planned or hardly can."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.plan import main
from tests.distributed.bench import Bench, environment, free_port

REPOSITORY = Path(__file__).parents[2]
RECIPE = REPOSITORY / "launcher/recipes/albert_base.yaml"


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command on the recipe, with arguments: its exit code, what it prints, and what it says is wrong."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plan.py", str(RECIPE), *map(str, arguments)])
        code = main()
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--device", "here"), "give it --data SHARDS"),
        (("--gpus", 0), "are 1 or more"),
        (("--train.stepz", 5), "did you mean train.steps"),
        (("--nodes", 1_000_000_000), "data.global_batch 4096 is too few samples for 1,000,000,000 devices"),
        (("--length", 1_000_000_000), "model.max_positions 512 is less than the 1000000000 tokens"),
        (("--node-mtbf-days", "nan"), "--node-mtbf-days is above 0"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_line(planned: Any, arguments: tuple[object, ...], said: str) -> None:
    code, _, wrong = planned(*arguments)
    (line,) = wrong.splitlines()
    assert code == 2 and line.startswith("plan: ") and said in line


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ("1", "one in 0.0 hours"),
        ("0.0001", "loses 100.00% of the time"),
        ("1e-300", "loses 100.00% of the time"),
        ("inf", "failures  none; "),
    ],
)
def test_nodes_fail_as_often_as_they_are_said_to(planned: Any, days: str, said: str) -> None:
    """Without failures, one checkpoint at the end is best."""
    code, page, _ = planned("--nodes", 512, "--gpus", 8, "--node-mtbf-days", days)
    assert code == 0 and said in page
    assert ("best is a checkpoint at the end, after 125,000 steps" in page) == (days == "inf")


def test_a_rank_that_does_not_come_is_said_in_a_line(bench: Bench) -> None:
    alone = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    arguments = (bench.folder / "recipe.yaml", "--data", bench.shards, "--device", "here", "--gpus", "2")
    command = [sys.executable, str(REPOSITORY / "launcher/plan.py"), *map(str, arguments)]
    done = subprocess.run(command, env=environment(**alone, RENDEZVOUS_SECONDS=2), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("plan: of 2 ranks 1 did not come") and done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))
