"""What an export has made, as its command, its card and its record say it."""

from __future__ import annotations

import dataclasses
from typing import Literal

Weights = Literal["fp32", "fp16", "int8"]  # what they are kept as


@dataclasses.dataclass(frozen=True)
class Exported:
    """A folder that was written.

    Attributes:
        form: what its weights are kept as.
        library: that opens it, as Hugging Face names it.
        fidelity: how exactly its model equals the trained one, in words.
        processor: that int8 was measured on; empty where it was not.
        remark: why one should think before using it, and what to do; empty where there is nothing to say.
    """

    form: str
    library: str
    fidelity: str
    processor: str = ""
    remark: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """For a card."""
        named = {
            "kept as": self.form,
            "export": self.fidelity,
            "int8 measured on": self.processor,
            "beware": self.remark,
        }
        return {name: said for name, said in named.items() if said}
