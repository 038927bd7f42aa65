"""What came of runs, as one HTML page to hand on, with its pictures as PNG files beside it; no GPU is needed.

    python launcher/report.py RUN... [--figures FILE.json ...] [--data SHARDS ...] --output report.html

RUN...      folders of runs, to be compared: curves, cost, recipes, fingerprints, commits and versions; a student
            whose teacher is among them is held against it, in score, size and speed
--figures   what was measured of them, known by its fields and put beside its run; it is written by
            launcher/evaluate.py RUN --data SHARDS --output FILE.json,
            launcher/evaluate.py RUN --task TASK... --floor [--teacher FINETUNED...] --output FILE.json,
            benchmarks/inference.py RUN... --output FILE.json,  and as litebert.json in the folders of
            launcher/finetune.py RUN  and  launcher/export.py FINETUNED
--data      shards that are not where their run has them; or a URL
--output    the page; an older report of that name is replaced, anything else is left alone

Figures are known by the fingerprint of the weights that they are of, not by where these lay, and shares and ratios are
said only of what compares: scores on the same files by the same settings, speeds that were measured in turn.
What nobody measured is not on the page, and the page says so. Images are inline: it can be mailed, and opens anywhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from litebert.report.corpora import texts_of
from litebert.report.figures import measured
from litebert.report.page import Report, check
from litebert.report.runs import runs_of
from litebert.report.trade import teachers_of


def main(argv: Sequence[str]) -> int:
    """Write the page and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--figures", type=Path, nargs="+", default=[], metavar="FILE", help="JSON files of figures")
    parser.add_argument("--data", nargs="+", default=[], metavar="SHARDS", help="folders of shards")
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    options = parser.parse_args(argv)
    try:
        check(options.output)
        runs = runs_of(options.runs)
        texts, missing = texts_of(runs, options.data)
        report = Report(runs, measured(options.figures, runs), texts, missing, teachers_of(runs), options.figures)
        paths = report.write(options.output)
    except (ValueError, OSError) as error:
        print(f"report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("\n".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
