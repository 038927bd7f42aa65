"""The tokenizer as a folder that Hugging Face's ``AutoTokenizer`` opens, with ids equal to SentencePiece's.

Hugging Face's own ALBERT tokenizer folds quotes, case and accents in its own way, so the folder does not name
it: ``tokenizer.json`` says every step itself, and the generic fast tokenizer runs it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from data_tools.text.normalization import rules
from data_tools.text.tokenizer import CLS, MODEL_FILE, SEP, SPACE, SPECIAL_TOKENS, UNK, Tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int = 512, token_types: bool = True) -> None:
    """Write ``tokenizer.model``, ``tokenizer.json`` and ``tokenizer_config.json`` into a folder.

    Args:
        max_length: the longest input, in tokens, of the models it is meant for.
        token_types: whether those models tell segments apart, so that the tokenizer must.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(tokenizer.model)
    _fast(tokenizer).save(str(folder / "tokenizer.json"))
    pad, unk, cls, sep, mask = SPECIAL_TOKENS
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "pad_token": pad,
        "unk_token": unk,
        "cls_token": cls,
        "sep_token": sep,
        "mask_token": mask,
        "model_input_names": ["input_ids", *["token_type_ids"] * token_types, "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _fast(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    fast = tokenizers.Tokenizer(
        models.Unigram(list(zip(tokenizer.pieces, tokenizer.scores, strict=True)), unk_id=UNK, byte_fallback=False)
    )
    fast.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(_deleted()), ""),
            normalizers.NFC(),
            # The table is applied to a whole short grapheme if its first character is in it, and would swallow the
            # marks that follow; a zero-width space, which the table deletes, keeps them apart.
            normalizers.Replace(Regex(r"(?<=\P{M})(?=\p{M})"), "\u200b"),
            normalizers.Precompiled(tokenizer.charsmap),
            normalizers.NFC(),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    fast.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never", split=False)
    fast.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="never", split=False)
    cls, sep = SPECIAL_TOKENS[CLS], SPECIAL_TOKENS[SEP]
    fast.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, CLS), (sep, SEP)],
    )
    fast.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return fast


def _deleted() -> str:
    """A character class of all that the table deletes: spelt out, for another library's Unicode may be newer."""
    codes = np.array(sorted(ord(character) for character, folded in rules().items() if not folded))
    codes = codes[(codes < 0xD800) | (codes > 0xDFFF)]  # surrogates are in no UTF-8 text
    runs = np.split(codes, np.flatnonzero(np.diff(codes) > 1) + 1)
    return "[" + "".join(f"\\x{{{run[0]:X}}}-\\x{{{run[-1]:X}}}" for run in runs) + "]"
