"""What the pages and the picture show is what docs/results holds: whole rows, by their names, in their order."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "docs/results").glob("*.json")}
LIBRARIES = ("torch", "transformers", "onnxruntime")  # whose versions stand by themselves
Rows = list[list[str]]
# By position, what each name and each head of the Chinese README has in it, whatever else it says.
MODELS = ("教师", "ALBERT", "学生", "窄", "对照", "随机")
HEADS = ("", "参数", "之比", "fp32", "int8", "任务", "得分", "优势", "论文")


def rows_of(table: str) -> Rows:
    """Cells, heads first, without what is markup: code and the spaces before per cent signs."""
    lines = [line.strip().strip("|").split("|") for line in table.splitlines()]
    rows = [[cell.strip().replace("`", "").replace(" %", "%") for cell in line] for line in lines]
    return [row for row in rows if set("".join(row)) - set("-:")]


def tables(page: str) -> list[Rows]:
    """All of a page."""
    found: list[list[str]] = [[]]
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [rows_of("\n".join(lines)) for lines in found if lines]


def shown(page: str, head: str) -> Rows:
    """The one table of a page that has a head."""
    (rows,) = (rows for rows in tables(page) if head in rows[0])
    return rows


def test_the_readme_shows_what_was_measured(benchmarks: Callable[[str], ModuleType]) -> None:
    headline = benchmarks("headline")
    expected = rows_of(headline.markdown(headline.table(RESULTS["study"], RESULTS["inference"])))
    assert len(expected) == 1 + len(MODELS) and expected[1][3] == "1.0x"
    assert tables("README.md")[0] == expected

    chinese = tables("README.zh-CN.md")[0]
    assert all(part in cell for part, cell in zip(HEADS, chinese[0], strict=True))
    for part, own, row in zip(MODELS, expected[1:], chinese[1:], strict=True):
        assert part in row[0], f"{row[0]} stands where {own[0]} does"
        assert row[1:] == own[1:]


def test_the_picture_is_drawn_of_what_was_measured(
    benchmarks: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    others = [name for name in ("matplotlib", "numpy", "pillow") if version(name) != pins[name]]
    if others:
        pytest.skip(f"{', '.join(others)} of other versions than constraints.txt has may draw other bytes")
    monkeypatch.setattr(sys, "argv", ["headline.py", "--picture", str(tmp_path / "drawn.png")])
    benchmarks("headline").main()
    assert (tmp_path / "drawn.png").read_bytes() == (ROOT / "docs/images/headline.png").read_bytes()


def test_int8_is_drawn_as_measured_where_it_was(benchmarks: Callable[[str], ModuleType]) -> None:
    headline = benchmarks("headline")
    (axes,) = headline.draw(*(RESULTS[name] for name in headline.RESULTS)).axes
    rows, found = RESULTS["study"]["longer"], [line for line in axes.lines if line.get_marker() == "D"]
    drawn = {line.get_ydata()[0]: line.get_markerfacecolor() != "white" for line in found if len(line.get_ydata())}
    whole = {name: row["mean"][0] for name, row in rows.items() if not name.endswith("floor")}
    lost = {"student": (0.05 + 0.02 + 0.05) / 3, "narrow": (0.2 + 0.04 - 0.04) / 3}
    expected = {mean - lost.get(name, 0): name in lost for name, mean in whole.items()}
    assert sorted(drawn.items()) == [(pytest.approx(score), full) for score, full in sorted(expected.items())]


def test_the_papers_figures_follow_from_those_that_the_papers_print(benchmarks: Callable[[str], ModuleType]) -> None:
    """Sanh et al. 2019, tables 1, 3 and 4; Lan et al. 2020, tables 1 and 2."""
    headline, study = benchmarks("headline"), benchmarks("study")
    distilbert = f"{66 / 110:.0%}, {668 / 410:.1f}x, {77.0 / 79.5:.0%}"
    albert = f"{12 / 108:.0%}, –, {80.1 / 82.3:.0%}"
    expected = {"student": distilbert, "albert of 12": albert}
    assert {name: text.replace(" %", "%") for name, text in headline.PAPER.items()} == expected
    assert study.PAPER == {
        "without ce": -2.96,
        "without cos": -1.46,
        "without mlm": -0.31,
        "from random weights": -3.69,
    }
    for name, row in RESULTS["study"]["tasks"].items():
        assert row.get("paper") == study.PAPER.get(name)


def test_the_page_on_distillation_shows_the_study(benchmarks: Callable[[str], ModuleType]) -> None:
    headline, study, page = benchmarks("headline"), benchmarks("study"), "docs/distillation.md"
    assert shown(page, "from the student") == rows_of(study.table(RESULTS["study"]["tasks"]))
    assert shown(page, "of its lead") == rows_of(headline.markdown(headline.by_task(RESULTS["study"])))


def test_the_page_on_distillation_shows_what_codecs_lose() -> None:
    wide, narrow = RESULTS["codecs"]["codecs"], RESULTS["codecs_128"]["codecs"]
    assert wide.keys() == narrow.keys()

    def cells(row: dict[str, Any], *keys: str) -> list[str]:
        return [str(row["bytes"]), *("" if row[key] is None else f"{row[key]:.2g}" for key in keys)]

    expected = [
        [
            name,
            *cells(narrow[name], "kl", "gradient_error", "mean_gradient_error"),
            *cells(wide[name], "kl", "mean_gradient_error"),
        ]
        for name in wide
    ]
    assert shown("docs/distillation.md", "gradient of a token")[1:] == expected


def test_the_page_on_ablation_shows_its_result(benchmarks: Callable[[str], ModuleType]) -> None:
    table = benchmarks("ablation").table(RESULTS["ablation"]["variants"])
    assert shown("docs/ablation.md", "the paper's average") == rows_of(table)


def test_the_page_on_export_shows_scores_and_speeds() -> None:
    scores = RESULTS["int8_simbert"]["scores"] | RESULTS["int8"]["scores"]
    heads, *rows = shown("docs/export.md", "tnews10k")
    assert heads == ["", "bits", *scores["student"]]
    assert [[row[0], *row[2:]] for row in rows] == [
        [name, *(f"{100 * task['fp32']:.2f}, {100 * task['int8']:.2f}" for task in tasks.values())]
        for name, tasks in scores.items()
    ]
    models, lengths = RESULTS["inference"]["models"], ("32", "128", "512")
    base, expected = models["teacher"]["samples_per_s"]["transformers, 1 thread"], []
    for name, model in models.items():
        for form, size in model["megabytes"].items():
            memory = model["peak_megabytes"][form] - model["library_megabytes"][form]
            latency, fast = (model[key][f"{form}, 1 thread"] for key in ("latency_ms", "samples_per_s"))
            medians = [(fast[length][1], fast[length][1] / base[length][1]) for length in lengths]
            row = [f"{name}, {model['parameters'] / 1e6:.1f} M", form, f"{size:.1f}", f"{memory:.0f}"]
            row += [f"{latency[length][1]:.1f}" for length in lengths]
            expected.append(row + [f"{median:,.0f} ({times:.1f}x)" for median, times in medians])
    assert shown("docs/export.md", "ms, 32 tokens")[1:] == expected


def test_the_page_on_benchmarks_shows_their_figures() -> None:
    data, step, distill, service = (RESULTS[name] for name in ("data", "train_step", "distill", "service"))
    tasks = [task for scores in RESULTS["int8"]["scores"].values() for task in scores.values()]
    hugging_face, textbrewer = (distill[f"live_ratio_vs_{peer}"] for peer in ("hf", "textbrewer"))
    expected = [
        ("text to masked shards", f"{data['mb_per_s_per_core']:.1f}, {data['mb_per_s_per_core_ngram_pieces']:.1f}"),
        ("a further masked copy", f"{data['copy_share']:.1%}"),
        ("WordPiece", f"{data['ratio_vs_tokenizers']}x"),
        ("a training step", f"{step['ratio_vs_hf']['albert-tiny']}x"),
        ("12 x 768 at length 512", f"{step['ratio_vs_hf']['bert-base']}x"),
        ("a live step", f"{hugging_face['bert-base']}x, {hugging_face['small']}x"),
        ("beside TextBrewer", f"{textbrewer['bert-base']}x, {textbrewer['small']}x"),
        ("a step on stored answers", ", ".join(map(str, distill["stored_over_mlm"].values()))),
        ("what a student waits", f"{service['service_wait_share']:.2%}"),
        ("students that one teacher", f"{service['students_per_teacher']}"),
        ("what int8 costs", f"{max(100 * abs(task['fp32'] - task['int8']) for task in tasks):.1f} points"),
    ]
    rows = shown("docs/benchmarks.md", "what it says")
    for said, figure in expected:
        assert [row[2] for row in rows if row[1].startswith(said)] == [figure]


def test_the_page_on_benchmarks_says_what_each_result_holds() -> None:
    expected = []
    for name, result in sorted(RESULTS.items()):
        libraries = result.get("versions", [name for name in LIBRARIES if name in result])
        named = ", ".join(library for library in libraries if library != "python")
        commit = result["commit"][:7] if "commit" in result else "not kept"
        expected.append([f"{name}.json", commit, named or "none"])
        assert result["processor"].startswith("AMD EPYC")
    found = shown("docs/benchmarks.md", "spread")[1:]
    assert [row[:3] for row in found] == expected
