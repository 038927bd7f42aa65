"""How much of each source of a corpus an epoch holds, and how much of it is kept from training."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class MixConfig:
    """How the sources of a corpus are mixed. A source is what a document's record, or else its file's name, says.

    Attributes:
        weights: by source, how often each of its documents stands in an epoch, on average: 0.5 leaves out every other
            one, 2 takes each twice, paired and masked anew; 1 for a source that is not named.
        heldout: by source, the share of its documents kept from training; shards.heldout_share for one not named.
    """

    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    heldout: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [
            f"weights: {source} {weight} is not within 0 and 100"
            for source, weight in self.weights.items()
            if not 0 <= weight <= 100
        ]
        problems += [
            f"heldout: {source} {share} is not a share below 1"
            for source, share in self.heldout.items()
            if not 0 <= share < 1
        ]
        if problems:
            raise ValueError("; ".join(problems))
