"""The row of stages that a config of duplicates and evaluation text asks for.

signatures of the parts ─▶ exact, near (ranges of keys) ─▶ clusters ─▶ survivors (parts) ─▶ paragraphs (ranges of keys)
                             ▲                                            ▲
evaluation ─▶ contamination ─┴────────────────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from data_tools.dedup.clusters import Clusters
from data_tools.dedup.config import DedupConfig
from data_tools.dedup.contamination import Contamination, Evaluation
from data_tools.dedup.corpus import Corpus
from data_tools.dedup.repeats import Repeats
from data_tools.dedup.verdict import Survivors
from data_tools.documents.files import File
from data_tools.work import Stage


def dedup_stages(
    corpus: Corpus, config: DedupConfig, clean: Callable[[str], str], files: Sequence[File]
) -> list[Stage]:
    """The stages between the one that leaves the documents with their ``signatures``, and ``Deduplicated``.

    Args:
        corpus: the documents.
        config: what is looked for; each stage that it has no use for is left out.
        clean: from raw to canonical text, for the evaluation files; picklable.
        files: the evaluation files, found.
    """
    evaluation = bool(files)
    stages: list[Stage] = []
    if evaluation:
        stages += [Evaluation(config.evaluation, tuple(files), clean), Contamination(corpus, config.evaluation)]
    if config.exact:
        stages.append(Repeats(corpus, "exact", evaluation))
    if config.near:
        stages += [Repeats(corpus, "near", evaluation), Clusters(corpus)]
    if config.wanted:
        stages.append(Survivors(corpus, config))
    if config.paragraphs:
        stages.append(Repeats(corpus, "paragraphs", evaluation))
    return stages
