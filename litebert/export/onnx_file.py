"""An ONNX file as a module: it takes and gives what the model of transformers does that it was made of."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from litebert.plan.processor import processor


class OnnxFile(nn.Module):
    """What ONNX Runtime makes of a file, on the CPU."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        # A thread that spins on a busy machine waits for itself.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._outputs = [each.name for each in self._session.get_outputs()]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Outputs by name, in the file's order. Inputs: int64 [batch, length]; it need not take all of them."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            given["token_type_ids"] = token_type_ids
        found = self._session.run(self._outputs, {name: given[name].cpu().numpy() for name in self._inputs})
        outputs = [torch.from_numpy(array).to(input_ids.device) for array in found]
        return dict(zip(self._outputs, outputs, strict=True))


def processor_of_int8() -> str:
    """This machine's processor, and of x86 whether it has VNNI, the instructions that int8 is fast with."""
    has = torch.cpu.get_capabilities()
    if has.get("architecture") != "x86_64":
        return processor()
    return f"{processor()}, {'with' if has['avx512_vnni'] or has['avx_vnni'] else 'without'} VNNI"
