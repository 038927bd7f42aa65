"""The command that reports, on a run that was really trained and really measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import launcher.evaluate
import launcher.report
from tests.distributed.bench import STEPS, Bench
from tests.litebert.report.made_up import Page, made_run, saved, shows


@pytest.mark.distributed
def test_a_trained_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path)
    outcomes, log = bench.group(2, [{"arguments": bench.arguments("run", "--train.evaluate_every", "10")}])
    assert outcomes == [0], log
    run, figures = bench.run("run"), tmp_path / "heldout.json"
    assert launcher.evaluate.main([str(run), "--data", str(bench.shards), "--output", str(figures)]) == 0
    capsys.readouterr()
    for _ in range(2):  # it may be replaced
        output = tmp_path / "report.html"
        assert launcher.report.main([str(run), "--figures", str(figures), "--output", str(output)]) == 0
        assert capsys.readouterr().out.splitlines() == [str(output), str(tmp_path / "report.curves.png")]
    page, its = Page(output.read_text(encoding="utf-8")), json.loads(figures.read_text())
    (row,) = page.table("run", "MLM loss")
    assert row["run"] == "run" and row["steps"] == str(STEPS) and shows(row["MLM loss"], its["mlm_loss"])
    (row,) = page.table("run", "state")
    manifest = json.loads((bench.shards / "manifest.json").read_text())["splits"]["train"]
    assert row["state"] == "done" and row["processes"] == "2" and row["began on"].startswith("2 x ")
    assert shows(row["epochs"], STEPS * 16 / manifest["samples"])
    assert 0 <= float(row["hours"]) < 0.2 and row["sessions"] == "1"


def test_what_is_wrong_is_said_in_a_line(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, unknown = str(made_run(shards, tmp_path / "run")), str(saved(tmp_path / "unknown.json", {"a": 1}))
    output, odd, nested = tmp_path / "report.html", str(made_run(shards, tmp_path / "odd")), tmp_path / "nested.json"
    nested.write_text("[" * 100_000)
    saved(tmp_path / "odd/run.json", json.loads((tmp_path / "odd/run.json").read_text()) | {"fingerprints": "x"})
    for arguments, said in (
        ([str(tmp_path)], "not the folder of a run (no run.json)"),
        ([run, run], "is given twice"),
        ([run, "--figures", unknown], "unknown.json: no figures that are known by their fields"),
        ([run, "--figures", str(nested)], "nested.json: cannot be read as JSON"),
        ([odd], 'run.json or recipe.yaml is not what a run wrote (fingerprints is "x", and not an object)'),
        ([run, "--data", str(tmp_path)], "no shards at"),
        ([run, "--output", run], "a report is one .html file"),
    ):
        assert launcher.report.main([*arguments, *(["--output", str(output)] * ("--output" not in arguments))]) == 2
        line = capsys.readouterr().err
        assert line.startswith("report: ") and said in line and line.count("\n") == 1, line
    assert not output.exists()
