"""``python -m data_tools VERB``: train a tokenizer, build shards, verify them."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from data_tools.build import BuildConfig, build
from data_tools.documents.clean import CleanConfig, clean
from data_tools.documents.document import Rejected
from data_tools.documents.files import find_files
from data_tools.documents.filters import FilterConfig, rejection
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from data_tools.progress import Progress
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.interface import TextTokenizer
from data_tools.text.normalization import canonical_paragraphs
from data_tools.text.sentences import code_points
from data_tools.text.tokenizer import Tokenizer
from data_tools.text.training import TokenizerConfig, fair_sample, train
from data_tools.text.wordpiece import WordPiece
from data_tools.verification import verify


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m data_tools", description=__doc__, exit_on_error=False)
    verbs = parser.add_subcommands(required=True, dest="verb")

    tokenizer = ArgumentParser(
        description="Train a SentencePiece tokenizer on documents, or import a WordPiece one.", exit_on_error=False
    )
    _add_inputs(tokenizer, required=False)
    tokenizer.add_argument("--wordpiece", type=Path, help="BERT's vocab.txt, taken as it is: nothing is trained")
    tokenizer.add_argument("--output", type=Path, required=True, help="folder to make")
    tokenizer.add_argument("--vocab-size", type=int, default=TokenizerConfig.vocab_size, help="pieces")
    tokenizer.add_argument("--character-coverage", type=float, default=TokenizerConfig.character_coverage)
    tokenizer.add_argument("--sample-characters", type=int, default=TokenizerConfig.sample_characters)
    tokenizer.add_argument("--seed", type=int, default=TokenizerConfig.seed)
    tokenizer.add_argument("--reader", type=ReaderConfig, default=ReaderConfig())
    tokenizer.add_argument("--filter", type=FilterConfig, default=FilterConfig())
    tokenizer.add_argument("--clean", type=CleanConfig, default=CleanConfig())
    verbs.add_subcommand("tokenizer", tokenizer)

    shards = ArgumentParser(description="Build training shards from documents.", exit_on_error=False)
    shards.add_argument("--config", action=ActionConfigFile, help="YAML file with any of the keys below")
    _add_inputs(shards)
    shards.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    shards.add_argument("--output", type=Path, required=True, help="folder to make")
    shards.add_argument("--rejects", type=Path, help="file to keep all that is rejected in, as jsonl")
    shards.add_argument("--workers", type=int, default=1, help="processes; the result is the same for any number")
    shards.add_class_arguments(BuildConfig)
    verbs.add_subcommand("build", shards)

    check = ArgumentParser(description="Check every byte and count of a folder of shards.", exit_on_error=False)
    check.add_argument("shards", type=Path)
    verbs.add_subcommand("verify", check)
    return parser


def _add_inputs(parser: ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--input",
        type=str,
        nargs="+",
        required=required,
        help="files, folders, globs or URLs of jsonl, parquet, csv, tsv, text, html, xml, WARC, WikiExtractor's output"
        " or manual pages, plain or gz/bz2/xz/zst, in UTF-8, UTF-16, GB18030 or Big5",
    )


def _tokenizer(options: Namespace) -> None:
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
    if options.input or given:
        useless = ", ".join(f"--{name.replace('_', '-')}" for name in ["input"] * bool(options.input) + given)
        raise ValueError(f"--wordpiece trains nothing, so {useless} would have no effect; leave it out")
    return WordPiece(options.wordpiece.read_bytes(), str(options.wordpiece))


def _trained(options: Namespace) -> TextTokenizer:
    if not options.input:
        raise ValueError("give text to train on, --input FILE..., or a vocabulary to import, --wordpiece vocab.txt")
    config = TokenizerConfig(options.vocab_size, options.character_coverage, options.sample_characters, options.seed)
    files = find_files(options.input)
    rejected: Counter[str] = Counter()
    with Progress("reading text", "documents") as progress:

        def kept_texts() -> Iterator[str]:
            for item in read_documents(files, options.reader):
                progress.advance(1)
                if isinstance(item, Rejected):
                    rejected[item.reason] += 1
                    continue
                text = clean(item.text, options.clean)
                canonical = canonical_paragraphs(text)
                if reason := rejection(canonical, code_points(canonical), options.filter):
                    rejected[reason] += 1
                else:
                    yield text

        sample = fair_sample(kept_texts(), config)
    if not sample:
        inputs = f"{options.input[0]}{f' and {len(options.input) - 1} more' * (len(options.input) > 1)}"
        raise ValueError(f"no Chinese text in {inputs}: {_listed(rejected)}")
    if rejected:
        print(f"{options.output}: not learnt from: {_listed(rejected)}")
    return Tokenizer(train(sample, config), "the trained model")


def _build(options: Namespace) -> None:
    config = BuildConfig(
        options.reader,
        options.clean,
        options.filter,
        options.dedup,
        options.mix,
        options.pairs,
        options.masks,
        options.shards,
        options.seed,
    )
    manifest = build(options.input, options.tokenizer, options.output, config, options.workers, options.rejects)
    for name, split in manifest.splits.items():
        print(
            f"{options.output}: {name}: {split.documents:,} documents, {split.samples:,} samples,"
            f" {split.tokens:,} tokens, {len(split.shards)} shards"
        )
    broken = f"; {manifest.broken_bytes:,} broken bytes" if manifest.broken_bytes else ""
    print(
        f"{options.output}: {manifest.documents_read:,} documents read; rejected: {_listed(manifest.rejected)}{broken}"
    )


def _listed(rejected: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(rejected.items())) or "none"


def _verify(options: Namespace) -> None:
    print(verify(options.shards))


def main() -> int:
    """Run the verb on the command line; an error of the user's is one line on standard error and status 2."""
    parser = _parser()
    verb = next((word for word in sys.argv[1:] if word in _VERBS), "")
    try:
        options = parser.instantiate(parser.parse_args())
        _VERBS[options.verb](options[options.verb])
    except (ArgumentError, ValueError, OSError) as error:
        print(f"data_tools {verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"data_tools {verb}: stopped; nothing half-made is left under its name", file=sys.stderr)
        return 130
    return 0


_VERBS = {"tokenizer": _tokenizer, "build": _build, "verify": _verify}

if __name__ == "__main__":
    sys.exit(main())
