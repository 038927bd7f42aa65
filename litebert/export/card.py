"""The model card of an exported folder: README.md, of facts that the run itself recorded."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path

from litebert.export.exported import Exported
from litebert.report.corpora import texts_of
from litebert.report.description import architecture, objective, training
from litebert.report.runs import Run
from litebert.train.metrics import lines_of
from litebert.train.trained import Trained

FIGURES = {
    "heldout_mlm": ("MLM loss", "{:.4f} nats per masked token"),
    "heldout_mlm_accuracy": ("MLM accuracy", "{:.1%}"),
    "heldout_sop_accuracy": ("SOP accuracy", "{:.1%}"),
    "heldout_nsp_accuracy": ("NSP accuracy", "{:.1%}"),
    "heldout_kl": ("KL from the teacher", "{:.4f} nats per masked token"),
    "heldout_agreement": ("same likeliest word as the teacher", "{:.1%}"),
}


def write_card(folder: Path, trained: Trained, exported: Exported, loading: str) -> None:
    """Write README.md into an exported folder.

    Args:
        folder: with config.json in it.
        loading: Python that opens the folder and uses it.
    """
    family = json.loads((folder / "config.json").read_text())["model_type"]
    shape, recipe = trained.model.config, trained.recipe
    facts = {
        "architecture": f"{family}, {architecture(shape)}",
        "parameters": f"{trained.model.parameter_count():,}",
        "longest input": f"{shape.max_positions} tokens",
        "vocabulary": f"{trained.tokenizer.vocab_size:,} pieces, {trained.tokenizer.KIND}",
        "pretraining": training(recipe, trained.step),
        "objective": objective(recipe),
        "data": f"fingerprint {trained.data_fingerprint}",
        "tokenizer": f"fingerprint {trained.tokenizer.fingerprint}",
        **_history(trained.run),
        **exported.facts,
        **_heldout(trained),
    }
    title, library = "A Chinese encoder, pretrained by litebert", exported.library
    card = page(title, facts, loading, pipeline="fill-mask", family=family, library=library)
    (folder / "README.md").write_text(card, encoding="utf-8")


def page(
    title: str, facts: Mapping[str, str], loading: str, *, pipeline: str, family: str, library: str, base: str = ""
) -> str:
    """A model card.

    Args:
        facts: of its table; what looks like Markdown's tables or like HTML, as labels may, is shown as it is.
        loading: Python that opens the folder and uses it.
        pipeline: Hugging Face's name of what the model is for.
        family: its ``model_type``.
        library: that opens it, as Hugging Face names it.
        base: name of the model that it was fine-tuned from, if it was.
    """
    header = [
        "language: zh",
        f"library_name: {library}",
        f"pipeline_tag: {pipeline}",
        f"tags: [{family}, litebert]",
        *([f"base_model: {json.dumps(base, ensure_ascii=False)}"] if base else []),  # a name may be any text
    ]
    rows = "\n".join(f"| {_plain(name)} | {_plain(value)} |" for name, value in facts.items())
    return _PAGE.format(header="\n".join(header), title=_plain(title), rows=rows, loading=loading)


def _plain(text: str) -> str:
    """A text in a line and in a cell."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;")


def _history(folder: Path) -> dict[str, str]:
    """What the folder of a run says of it, as a report reads it: nothing of that is needed to export the model."""
    try:
        run = Run.read(folder, folder.name)
        texts, _ = texts_of([run], [])
    except (ValueError, OSError):
        return {"run": "its own record cannot be read"}
    splits = [manifest.splits["train"] for text in texts.values() for manifest in text.manifests]
    documents, tokens = sum(split.documents for split in splits), sum(split.tokens for split in splits)
    facts = {
        "trained on": f"{documents:,} documents, {tokens:,} tokens" if splits else "",
        "teacher": f"fingerprint {run.fingerprints['teacher']}" if "teacher" in run.fingerprints else "",
        "began on": run.devices,
        "cost": f"{sum(run.sessions) / 3600:,.2f} hours to step {run.step:,}" if run.sessions else "",
        "libraries": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        "commit": run.commit,
    }
    return {name: value for name, value in facts.items() if value}


def _heldout(trained: Trained) -> dict[str, str]:
    """The figures of the last evaluation that the run made, up to the step that is exported."""
    measured = [line for line in lines_of(trained.run) if "heldout_mlm" in line and line["step"] <= trained.step]
    return _named(measured[-1]) if measured else {}


def _named(line: Mapping[str, float]) -> dict[str, str]:
    where = f"on held-out documents, at step {line['step']:,}"
    return {f"{name}, {where}": form.format(line[key]) for key, (name, form) in FIGURES.items() if key in line}


_PAGE = """\
---
{header}
# license: yours to choose
---

# {title}

| | |
|---|---|
{rows}

## Use

```python
{loading}```
"""
