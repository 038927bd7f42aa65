"""``python -m data_tools VERB``: train a tokenizer, build shards, verify them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from data_tools.build import BuildConfig, build
from data_tools.documents.clean import CleanConfig, clean
from data_tools.documents.readers import ReaderConfig, find_files, read_documents
from data_tools.progress import Progress
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.tokenizer import MODEL_FILE, Tokenizer
from data_tools.text.training import TokenizerConfig, train
from data_tools.verification import verify


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m data_tools", description=__doc__, exit_on_error=False)
    verbs = parser.add_subcommands(required=True, dest="verb")

    tokenizer = ArgumentParser(description="Train a SentencePiece tokenizer on documents.", exit_on_error=False)
    _add_inputs(tokenizer)
    tokenizer.add_argument("--output", type=Path, required=True, help="folder to make")
    tokenizer.add_argument("--vocab-size", type=int, default=TokenizerConfig.vocab_size, help="pieces")
    tokenizer.add_argument("--character-coverage", type=float, default=TokenizerConfig.character_coverage)
    tokenizer.add_argument("--sample-characters", type=int, default=TokenizerConfig.sample_characters)
    tokenizer.add_argument("--seed", type=int, default=TokenizerConfig.seed)
    tokenizer.add_argument("--reader", type=ReaderConfig, default=ReaderConfig())
    tokenizer.add_argument("--clean", type=CleanConfig, default=CleanConfig())
    verbs.add_subcommand("tokenizer", tokenizer)

    shards = ArgumentParser(description="Build training shards from documents.", exit_on_error=False)
    shards.add_argument("--config", action=ActionConfigFile, help="YAML file with any of the keys below")
    _add_inputs(shards)
    shards.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    shards.add_argument("--output", type=Path, required=True, help="folder to make")
    shards.add_argument("--workers", type=int, default=1, help="processes; the result is the same for any number")
    shards.add_class_arguments(BuildConfig)
    verbs.add_subcommand("build", shards)

    check = ArgumentParser(description="Check every byte and count of a folder of shards.", exit_on_error=False)
    check.add_argument("shards", type=Path)
    verbs.add_subcommand("verify", check)
    return parser


def _add_inputs(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        type=Path,
        nargs="+",
        required=True,
        help="files or folders: jsonl, txt, plain or gz/bz2/xz/zst",
    )


def _tokenizer(options: Namespace) -> None:
    if (options.output / MODEL_FILE).exists() or options.output.is_file():
        raise ValueError(f"{options.output} exists; give another --output")
    config = TokenizerConfig(options.vocab_size, options.character_coverage, options.sample_characters, options.seed)
    with Progress("reading text", "documents") as progress:

        def texts() -> Iterator[str]:
            for document in read_documents(find_files(options.input), options.reader):
                progress.advance(1)
                yield clean(document.text, options.clean)

        model = train(texts(), config)
    tokenizer = Tokenizer(model, "the trained model")
    save_tokenizer(tokenizer, options.output)
    print(f"{options.output}: {tokenizer.vocab_size} pieces, fingerprint {tokenizer.fingerprint[:12]}")


def _build(options: Namespace) -> None:
    config = BuildConfig(
        options.reader, options.clean, options.filter, options.pairs, options.masks, options.shards, options.seed
    )
    manifest = build(options.input, options.tokenizer, options.output, config, options.workers)
    for name, split in manifest.splits.items():
        print(
            f"{options.output}: {name}: {split.documents:,} documents, {split.samples:,} samples,"
            f" {split.tokens:,} tokens, {len(split.shards)} shards"
        )
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in manifest.rejected.items()) or "none"
    print(f"{options.output}: {manifest.documents_read:,} documents read; rejected: {rejected}")


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
