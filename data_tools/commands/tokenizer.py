"""Train a SentencePiece tokenizer on documents, or import a WordPiece one."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from data_tools.commands.corpus import add_inputs, listed
from data_tools.documents.clean import CleanConfig, clean
from data_tools.documents.document import Rejected
from data_tools.documents.files import find_files
from data_tools.documents.filters import FilterConfig, rejections
from data_tools.documents.mixture import MixConfig
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from data_tools.progress import Progress
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.interface import TextTokenizer
from data_tools.text.normalization import canonical_paragraphs
from data_tools.text.tokenizer import Tokenizer
from data_tools.text.training import TokenizerConfig, fair_sample, train
from data_tools.text.wordpiece import WordPiece


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    add_inputs(parser, required=False)
    parser.add_argument("--wordpiece", type=Path, help="BERT's vocab.txt, taken as it is: nothing is trained")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--vocab-size", type=int, default=TokenizerConfig.vocab_size, help="pieces")
    parser.add_argument("--character-coverage", type=float, default=TokenizerConfig.character_coverage)
    parser.add_argument("--sample-characters", type=int, default=TokenizerConfig.sample_characters)
    parser.add_argument("--seed", type=int, default=TokenizerConfig.seed)
    parser.add_argument(
        "--mix.weights",
        type=dict[str, float],
        default={},
        help='chance of a document to be learnt from, by source, 1 where none is named: \'{"wiki": 2, "forum": 0.5}\'',
    )
    parser.add_argument("--reader", type=ReaderConfig, default=ReaderConfig())
    parser.add_argument("--filter", type=FilterConfig, default=FilterConfig())
    parser.add_argument("--clean", type=CleanConfig, default=CleanConfig())


def run(options: Namespace) -> None:
    """Make the folder of the tokenizer, whole or not at all."""
    output: Path = options.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists; give another --output")
    tokenizer = _imported(options) if options.wordpiece else _trained(options)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_tokenizer(tokenizer, partial)
    if output.exists():
        output.rmdir()
    partial.rename(output)
    print(f"{output}: {tokenizer.vocab_size} pieces, fingerprint {tokenizer.fingerprint[:12]}")


def _imported(options: Namespace) -> TextTokenizer:
    defaults = dataclasses.asdict(TokenizerConfig())
    given = [name for name, default in defaults.items() if options[name] != default]
    given += ["input"] * bool(options.input) + ["mix.weights"] * bool(options.mix.weights)
    if given:
        useless = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"--wordpiece trains nothing, so {useless} would have no effect; leave it out")
    return WordPiece(options.wordpiece.read_bytes(), str(options.wordpiece))


def _trained(options: Namespace) -> TextTokenizer:
    if not options.input:
        raise ValueError("give text to train on, --input FILE..., or a vocabulary to import, --wordpiece vocab.txt")
    config = TokenizerConfig(options.vocab_size, options.character_coverage, options.sample_characters, options.seed)
    mix = MixConfig(options.mix.weights)
    files = find_files(options.input)
    rejected: Counter[str] = Counter()
    with Progress("reading text", "documents") as progress:

        def kept_texts() -> Iterator[tuple[str, str]]:
            for item in read_documents(files, options.reader):
                progress.advance(1)
                if isinstance(item, Rejected):
                    rejected[item.reason] += 1
                    continue
                text = clean(item.text, options.clean)
                canonical = canonical_paragraphs(text)
                if reason := rejections([canonical], options.filter)[0]:
                    rejected[reason] += 1
                else:
                    yield item.source, text

        sample = fair_sample(kept_texts(), config, mix)
    if not sample:
        inputs = f"{options.input[0]}{f' and {len(options.input) - 1} more' * (len(options.input) > 1)}"
        raise ValueError(f"no Chinese text in {inputs}: {listed(rejected)}")
    if rejected:
        print(f"{options.output}: not learnt from: {listed(rejected)}")
    return Tokenizer(train(sample, config), "the trained model")
