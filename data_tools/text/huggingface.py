"""The tokenizer as a folder that Hugging Face's ``AutoTokenizer`` opens, with ids equal to its own.

Hugging Face's own ALBERT tokenizer folds quotes, case and accents in its own way, so the folder of a SentencePiece
tokenizer does not name it: ``tokenizer.json`` says every step itself, and the generic fast tokenizer runs it. That of
a WordPiece tokenizer is BERT's own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from data_tools.text.interface import SPECIAL_TOKENS, TextTokenizer
from data_tools.text.normalization import rules
from data_tools.text.tokenizer import SPACE, Tokenizer
from data_tools.text.wordpiece import WordPiece, bert_tokenizer

KINDS: tuple[type[TextTokenizer], ...] = (Tokenizer, WordPiece)


def load_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer in a folder, of whichever kind. Raises ValueError where there is none, or there are two."""
    found = [kind for kind in KINDS if (Path(folder) / kind.FILE).is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder} holds {' and '.join(kind.FILE for kind in found)}; leave one tokenizer in it")
    if not found:
        wanted = " or ".join(kind.FILE for kind in KINDS)
        raise ValueError(
            f"no tokenizer at {folder} ({wanted}); make one with: python -m data_tools tokenizer --output {folder}"
        )
    path = Path(folder) / found[0].FILE
    return found[0](path.read_bytes(), str(path))


def save_tokenizer(tokenizer: TextTokenizer, folder: Path, max_length: int = 512, token_types: bool = True) -> None:
    """Write the tokenizer's own file, ``tokenizer.json`` and ``tokenizer_config.json`` into a folder.

    Args:
        max_length: the longest input, in tokens, of the models it is meant for.
        token_types: whether those models tell segments apart, so that the tokenizer must.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / tokenizer.FILE).write_bytes(tokenizer.model)
    _with_specials(tokenizer).save(str(folder / "tokenizer.json"))
    pad, unk, cls, sep, mask = SPECIAL_TOKENS
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast" if isinstance(tokenizer, Tokenizer) else "BertTokenizer",
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


def _with_specials(tokenizer: TextTokenizer) -> tokenizers.Tokenizer:
    """What ``tokenizer.json`` holds: the tokenizer's pipeline, and what puts special tokens around its ids."""
    assert isinstance(tokenizer, (Tokenizer, WordPiece))
    fast = _unigram(tokenizer) if isinstance(tokenizer, Tokenizer) else bert_tokenizer(tokenizer)
    _, _, cls, sep, _ = SPECIAL_TOKENS
    fast.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.vocabulary.cls), (sep, tokenizer.vocabulary.sep)],
    )
    fast.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return fast


def _unigram(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    pieces = list(zip(tokenizer.pieces, tokenizer.scores, strict=True))
    fast = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=tokenizer.vocabulary.unk, byte_fallback=False))
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
    return fast


def _deleted() -> str:
    """A character class of all that the table deletes: spelt out, for another library's Unicode may be newer."""
    codes = np.array(sorted(ord(character) for character, folded in rules().items() if not folded))
    codes = codes[(codes < 0xD800) | (codes > 0xDFFF)]  # surrogates are in no UTF-8 text
    runs = np.split(codes, np.flatnonzero(np.diff(codes) > 1) + 1)
    return "[" + "".join(f"\\x{{{run[0]:X}}}-\\x{{{run[-1]:X}}}" for run in runs) + "]"
