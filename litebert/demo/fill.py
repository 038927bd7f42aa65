"""Five Chinese sentences with a [MASK], filled in by an exported model that transformers opens by itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from litebert.cloze import CANDIDATES, SENTENCES


@torch.inference_mode()
def fill(folder: Path) -> list[dict[str, object]]:
    """Each sentence, and the likeliest pieces for its mask with their probabilities, the best first."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    filled: list[dict[str, object]] = []
    for sentence in SENTENCES:
        inputs = tokenizer(sentence, return_tensors="pt")
        place = int((inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().item())
        best = model(**inputs).logits[0, place].softmax(-1).topk(CANDIDATES)
        pieces = tokenizer.convert_ids_to_tokens(best.indices.tolist())  # as pieces: a space alone shows as ▁
        filled.append({"sentence": sentence, "pieces": list(zip(pieces, best.values.tolist(), strict=True))})
    return filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a folder that transformers opens")
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args()
    options.output.write_text(json.dumps(fill(options.model), ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
