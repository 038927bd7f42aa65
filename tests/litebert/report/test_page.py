"""The page: every figure is its file's, nothing is loaded, what is hostile is text, and what is missing is said."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from litebert.report.corpora import texts_of
from litebert.report.figures import measured
from litebert.report.marks import marks
from litebert.report.page import OURS, Report
from litebert.report.plots import Panel, against
from litebert.report.results import Measured, Score
from litebert.report.runs import runs_of
from tests.litebert.report.made_up import (
    DEVICES,
    STEPS,
    Page,
    heldout_figures,
    made_run,
    report_of,
    saved,
    shows,
    speed_figures,
    task_figures,
)

HOSTILE = "<img src=x onerror=alert(1)>&\"'{{7*7}}$x_$ 北京"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PDFTOTEXT = shutil.which("pdftotext")


@pytest.fixture(scope="module")
def folder(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With three runs, figures of two of them, and a report."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("one", "two", "three"), start=1):
        made_run(shards, folder / name, seed)
    one, two, _ = runs = runs_of([folder / name for name in ("one", "two", "three")])
    files = [
        saved(folder / "1.json", heldout_figures(one)),
        saved(folder / "2.json", heldout_figures(two, kl=None, agreement=None)),
        saved(folder / "3.json", task_figures(one)),
        saved(folder / "4.json", task_figures(two)),
        saved(folder / "5.json", speed_figures([one, two])),
    ]
    texts, missing = texts_of(runs, [])
    Report(runs, measured(files, runs), texts, missing, {}, files).write(folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_else(page: Page, folder: Path) -> None:
    assert all(address.startswith("data:image/png;base64,") for address in page.loads) and len(page.loads) == 3
    assert not page.tags & {"script", "link", "iframe", "object", "base"}
    inline = {base64.b64decode(address.partition(",")[2]) for address in page.loads}
    beside = {name: (folder / f"report.{name}.png").read_bytes() for name in ("size", "latency", "curves")}
    assert inline == set(beside.values()) and all(png.startswith(b"\x89PNG") for png in inline)


def test_held_out_figures_are_the_files(page: Page, folder: Path) -> None:
    rows = {row["run"]: row for row in page.table("run", "MLM loss")}
    for name, file in (("one", "1.json"), ("two", "2.json")):
        its, row = json.loads((folder / file).read_text()), rows[name]
        assert shows(row["MLM loss"], its["mlm_loss"]) and shows(row["unigram"], its["unigram_loss_masked"])
        assert shows(row["below it"], its["unigram_loss_masked"] - its["mlm_loss"])
        assert shows(row["MLM accuracy"], its["mlm_accuracy"]) and shows(row["parameters"], its["parameters"])
        share, low, high = re.fullmatch(r"(.+%) \((.+)–(.+)\)", row["SOP accuracy"]).groups()  # type: ignore[union-attr]
        assert shows(share, its["sop_accuracy"])
        assert shows(f"{low}%", its["sop_interval"][0]) and shows(f"{high}%", its["sop_interval"][1])
        for head, key in (("KL from teacher", "kl"), ("same word", "agreement")):
            assert row[head] == "–" if its[key] is None else shows(row[head], its[key])
    last = json.loads((folder / "three/metrics.jsonl").read_text().splitlines()[-1])
    own = rows["three"]
    assert own["MLM loss"].endswith("*") and shows(own["MLM loss"][:-1], last["heldout_mlm"])
    assert own["SOP accuracy"].endswith("*") and shows(own["SOP accuracy"][:-1], last["heldout_sop_accuracy"])
    assert own["unigram"] == own["below it"] == "–" and "* as three measured while training" in page.text
    assert "A loss with a * and one without are of different samples: they do not compare." in page.text
    better = min(("one", "two"), key=lambda name: float(rows[name]["MLM loss"]))
    assert f"{better} has the lowest held-out loss of 2 runs: {rows[better]['MLM loss']} nats" in page.text


def test_scores_are_the_files(page: Page, folder: Path) -> None:
    rows = {row["run"]: row for row in page.table("task", "above the floor")}
    assert rows.keys() == {"one", "two"} and "2 of 2 task scores are clearly above random weights" in page.text
    for name, file in (("one", "3.json"), ("two", "4.json")):
        (its,), row = json.loads((folder / file).read_text())["tasks"], rows[name]
        assert row["task"] == "weather" and row["seeds"] == "3" and shows(row["tested on"], its["sizes"]["test"])
        for head, score in (
            ("on test", its["model"]["test"]["accuracy"]),
            ("floor", its["floor"]["test"]["accuracy"]),
            ("above the floor", its["above_floor"]),
        ):
            mean, margin = row[head].split(" ± ")
            assert shows(f"{mean}%", score["mean"])
            assert shows(f"{margin}%", (score["interval"][1] - score["interval"][0]) / 2)


def test_speeds_are_the_files(page: Page, folder: Path) -> None:
    rows = page.table("run", "form", "file, MB")
    models = json.loads((folder / "5.json").read_text())["models"]
    assert [(row["run"], row["form"]) for row in rows] == [
        (name, form) for name in ("one", "two") for form in models[name]["latency_ms"]
    ]
    for row in rows:
        its = models[row["run"]]
        assert shows(row["file, MB"], its["megabytes"][row["form"].partition(",")[0]])
        assert shows(row["memory, MB"], its["peak_megabytes"][row["form"].partition(",")[0]])
        for length in ("32", "128"):
            cell = re.fullmatch(r"(\S+) \((.+)–(.+)\)", row[f"ms, {length} tokens"])
            assert cell is not None
            median, low, high = cell.groups()
            quartiles = its["latency_ms"][row["form"]][length]
            assert all(shows(*pair) for pair in zip((low, median, high), quartiles, strict=True))
            assert shows(row[f"samples/s, {length} tokens"], its["samples_per_s"][row["form"]][length][1])
    assert "peer" not in page.text


def test_cost_and_data_are_the_runs(page: Page, folder: Path, shards: Path) -> None:
    for row in page.table("run", "state", "hours"):
        lines = [json.loads(line) for line in (folder / row["run"] / "metrics.jsonl").read_text().splitlines()]
        speeds = sorted(line["tokens_per_s"] for line in lines)
        assert shows(row["tokens/s"], (speeds[9] + speeds[10]) / 2) and len(speeds) == 20
        assert shows(row["memory, GB"], max(line["memory_gb"] for line in lines))
        assert row["state"] == "done" and row["hours"] == "1.50" and row["processes"] == row["sessions"] == "1"
        commit = json.loads((folder / row["run"] / "run.json").read_text())["commit"]
        assert row["began on"] == DEVICES and commit.startswith(row["commit"].partition("-")[0])
        assert row["commit"].endswith("-changed") == commit.endswith("-changed")
    manifest = json.loads((shards / "manifest.json").read_text())
    for row in page.table("split", "documents"):
        split = manifest["splits"][row["split"]]
        counts = ("documents", "characters", "samples", "tokens")
        assert all(shows(row[count], split[count]) for count in counts) and shows(row["shards"], len(split["shards"]))
    (kept,) = (table for table in page.tables if table[0][0] == "documents")
    assert kept[1] == ["read", f"{manifest['documents_read']:,}", "–"]
    assert {row[0]: row[1] for row in kept[3:]} == {
        f"rejected: {reason}": f"{count:,}" for reason, count in manifest["rejected"].items()
    }
    record = json.loads((folder / "two/run.json").read_text())
    identities = {row[""]: row["two"] for row in page.table("", "two")}
    assert record["fingerprints"]["data"].startswith(identities["fingerprint of data"])
    assert identities["torch"] == record["versions"]["torch"]
    assert record["commit"].startswith(identities["commit"].partition("-")[0]) and len(identities["commit"]) > 11
    assert (runs_of([folder / "two"])[0].fingerprint or "").startswith(identities["fingerprint of weights"])
    assert (folder / "two/recipe.yaml").read_text() in page.text
    assert [row["key"] for row in page.table("key", "one", "two")] == ["train.seed"]


def test_labels_of_a_picture_have_room_and_name_what_is_in_it(folder: Path) -> None:
    runs = runs_of([folder / name for name in ("one", "two", "three")])
    for costs in ((6.7, 9.4), (8.0, 8.1), (4, 12.5), (1, 60), (0.2, 900), (5, 5), (1_000, 4_000_000)):
        values = {run.name: Score(0.5, None) for run in runs[1:]}
        panels = [Panel(f"{number}", True, values, {}) for number in range(3)]
        figure = against(
            marks(runs, {run.name: Measured() for run in runs}, []),
            panels,
            dict(zip(values, costs, strict=True)),
            "cost",
        )
        figure.draw_without_rendering()
        for axes in figure.axes:
            low, high = axes.get_xlim()
            boxes = [
                tick.label1.get_window_extent()
                for tick in axes.xaxis.get_major_ticks()
                if low <= tick.get_loc() <= high and tick.label1.get_text()
            ]
            assert len(boxes) > 1 and not any(tick.label1.get_text() for tick in axes.xaxis.get_minor_ticks()), costs
            assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes)), (costs, boxes)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["two", "three"]


def test_metrics_of_nothing_but_steps_make_no_picture(shards: Path, tmp_path: Path) -> None:
    run = made_run(shards, tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"step": 10}\n')
    assert report_of([run], []).figures() == {}


def test_hostile_names_are_text(shards: Path, tmp_path: Path) -> None:
    paths = [made_run(shards, tmp_path / name) for name in (HOSTILE.replace("/", ""), "_under")]
    runs = runs_of(paths)
    tasks = task_figures(runs[0], HOSTILE, metric=HOSTILE) | {"settings": {HOSTILE: HOSTILE}}
    (task,) = tasks["tasks"]
    for arm in ("model", "floor"):
        task[arm]["test"][HOSTILE] = task[arm]["test"].pop("accuracy")
    files = [saved(tmp_path / "1.json", tasks), saved(tmp_path / "2.json", heldout_figures(runs[0]))]
    report = report_of(paths, files)
    report.write(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert all(address.startswith("data:image/png;base64,") for address in page.loads) and "script" not in page.tags
    (row,) = page.table("task", "score")
    assert row["task"] == row["run"] == row["score"] == HOSTILE and f"Fine-tuned with {HOSTILE}" in page.text
    drawn = [text.get_text() for text in report.figures()["curves"].legends[0].get_texts()]
    assert drawn == ["row 1", "row 2"]


def test_what_is_missing_is_said(shards: Path, tmp_path: Path) -> None:
    run = made_run(shards, tmp_path / "run")
    for name in ("done.json", "metrics.jsonl"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    for events in (run / "tensorboard").iterdir():
        events.unlink()
    record = json.loads((run / "run.json").read_text())
    del record["devices"], record["commit"]
    (run / "run.json").write_text(json.dumps(record | {"data": [str(tmp_path / "gone")]}))
    runs = runs_of([run])
    texts, missing = texts_of(runs, [])
    Report(runs, measured([], runs), texts, missing, {}, []).write(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not page.loads
    for line in (
        "1 run. No figures on held-out documents were given.",
        "Not measured on held-out documents: run.",
        "No scores on tasks were given",
        "No latencies or file sizes were given",
        "Not written down: what run began on.",
        "Not written down: the commit of run.",
        "run: nothing of its data (no shards at",
    ):
        assert line in page.text, line
    (row,) = page.table("run", "state")
    assert row == {"run": "run", "state": "at step 0 of 200"}
    assert page.table("run", "parameters")[0].keys() == {"run", "parameters", "steps"}


def test_what_runs_measured_of_themselves_is_said_as_that(shards: Path, tmp_path: Path) -> None:
    one, two = (made_run(shards, tmp_path / name) for name in ("one", "two"))
    lines = (two / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1]) | {"heldout_mlm": 5.5}
    (two / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    other = made_run(shards, tmp_path / "other", 1, "--data.seed=2")
    half = made_run(shards, tmp_path / "half", 1, f"--train.steps={2 * STEPS}")
    (half / "metrics.jsonl").write_text((two / "metrics.jsonl").read_text())
    (half / "done.json").unlink()
    for paths, said in (
        (
            [one, two],
            "two has the lowest held-out loss of 2 runs, as measured while training: 5.500 nats a masked word",
        ),
        ([two], "two, held out, as measured while training: 5.500 nats"),
        ([one, half], f"half (not finished: step {STEPS} of {2 * STEPS}) has the lowest held-out loss of 2 runs"),
        ([two, other], "Losses with a * are of different held-out samples: they do not compare with each other."),
        ([two, other], "2 runs, which measured themselves on different held-out samples while training."),
    ):
        report_of(paths, []).write(tmp_path / "report.html")
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert said in page.text and "No figures on held-out" not in page.text


def test_losses_that_do_not_compare_are_not_compared(shards: Path, tmp_path: Path) -> None:
    paths = [made_run(shards, tmp_path / name) for name in ("one", "two")]
    one, two = runs_of(paths)
    other = heldout_figures(two, masked_tokens=999, unigram_loss_masked=6.5)
    files = [saved(tmp_path / "1.json", heldout_figures(one)), saved(tmp_path / "2.json", other)]
    report = report_of(paths, files)
    report.write(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "2 runs on different text" in page.text and "their losses do not compare" in page.text
    assert "lowest" not in page.text and "size" not in report.figures()


def test_only_a_report_is_replaced(shards: Path, tmp_path: Path) -> None:
    report = report_of([made_run(shards, tmp_path / "run")], [])
    output = tmp_path / "new" / "report.html"
    assert [path.name for path in report.write(output)] == ["report.html", "report.curves.png"]
    (output.parent / "report.latency.png").write_bytes(b"of the report before")
    report.write(output)
    assert sorted(path.name for path in output.parent.iterdir()) == ["report.curves.png", "report.html"]
    output.write_text(f"<p>mine</p>{' ' * 1024}{OURS}")
    (tmp_path / "other.curves.png").write_bytes(b"mine")
    for path, said in (
        (output, "exists and is no report"),
        (tmp_path / "other.html", "other.curves.png exists and is of no report"),
        (tmp_path / "run", "a report is one .html file"),
        (tmp_path / "report.json", "a report is one .html file"),
    ):
        with pytest.raises(ValueError, match=said):
            report.write(path)
    assert output.read_text().startswith("<p>mine</p>") and not (tmp_path / "other.html").exists()
    assert (tmp_path / "other.curves.png").read_bytes() == b"mine"


def browse(folder: Path, page: Path, *flags: str) -> str:
    """What Chromium prints that opens a page without a network."""
    command = [CHROMIUM or "", "--headless", "--no-sandbox", "--disable-gpu", "--proxy-server=127.0.0.1:9", *flags]
    command += ["--no-first-run", f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "HOME": str(folder)})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_all_of_it_without_a_network(folder: Path, tmp_path: Path, width: int) -> None:
    """No picture is broken, the page is no wider than the window, and its first table need not be scrolled.

    The window is a frame, as no window of Chromium's is as narrow as a telephone.
    """
    probe = """<script>addEventListener("load", () => parent.postMessage(JSON.stringify({
        window: innerWidth, page: document.documentElement.scrollWidth,
        hidden: [...document.querySelectorAll(".headline .grid")].map(grid => grid.scrollWidth - grid.clientWidth),
        pictures: [...document.images].map(image => [image.naturalWidth, image.width]) }), "*"))</script></body>"""
    probed = (folder / "report.html").read_text(encoding="utf-8").replace("</body>", probe)
    (tmp_path / "probed.html").write_text(probed, encoding="utf-8")
    listen = "<script>onmessage = message => { document.title = message.data }</script>"
    (tmp_path / "frame.html").write_text(f'{listen}<iframe src="probed.html" width={width} style="border: 0"></iframe>')
    title = re.search(r"<title>(.*?)</title>", browse(tmp_path, tmp_path / "frame.html", "--dump-dom"))
    assert title
    seen = json.loads(title[1])
    assert seen["window"] == width and seen["page"] <= width
    assert seen["hidden"] and max(seen["hidden"]) <= 0
    assert len(seen["pictures"]) == 3 and all(natural > 0 and shown > 500 for natural, shown in seen["pictures"])


@pytest.mark.skipif(not CHROMIUM or not PDFTOTEXT, reason="no Chromium, or no pdftotext")
def test_on_paper_nothing_is_cut(folder: Path, page: Page, tmp_path: Path) -> None:
    browse(tmp_path, folder / "report.html", f"--print-to-pdf={tmp_path / 'report.pdf'}")
    command = [PDFTOTEXT or "", "-layout", str(tmp_path / "report.pdf"), "-"]
    printed = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    words = {word for table in page.tables for row in table for cell in row for word in cell.split()}
    assert len(words) > 100 and sorted(words - printed) == []
