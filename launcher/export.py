"""Export the model of a run: python launcher/export.py RUN --output DIR --format hf."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from litebert.export.huggingface import export_huggingface
from litebert.train.trained import load_trained


def main() -> int:
    """Write the folder and say how exactly it equals the trained model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--format", choices=["hf"], default="hf", help="hf: a folder for transformers' Auto classes")
    options = parser.parse_args()
    try:
        trained = load_trained(options.run)
        difference = export_huggingface(trained, options.output)
    except (ValueError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    print(f"exported step {trained.step}, its logits within {difference:.1e} of the trained model's")
    return 0


if __name__ == "__main__":
    sys.exit(main())
