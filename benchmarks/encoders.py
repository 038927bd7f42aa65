"""One encoder in a process of its own, which holds what its form needs and nothing else, and is timed when asked.

inference.py starts it: python encoders.py FORM PATH THREADS VOCABULARY BATCH LENGTH

It loads the encoder, runs one batch, and says in a line of JSON how many MB the process has had at most, and had before
it opened the encoder, with its libraries imported. Then for each line [batch, length, calls] of standard input it
writes a line: the seconds of each call. A call is ids to hidden states, of samples that all have the length; ids are
random.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from resident import most_resident

Encode = Callable[[np.ndarray], Any]  # ids int64 [batch, length] to hidden states [batch, length, H]
# Each form's libraries, and with them what opens it: no process is to hold another's.
Opened = Callable[[], Encode]


def of_litebert(folder: Path, threads: int) -> Opened:
    """Our encoder, of a Hugging Face folder, in fp32."""
    import torch

    from litebert.model import Packing, from_huggingface

    torch.set_num_threads(threads)

    def opened() -> Encode:
        encoder = from_huggingface(folder).encoder.eval()

        def encode(ids_BL: np.ndarray) -> Any:
            samples, length = ids_BL.shape
            with torch.inference_mode():
                hidden_TH = encoder(torch.from_numpy(ids_BL).flatten(), None, Packing.of([length] * samples))
                return hidden_TH.unflatten(0, (samples, length))

        return encode

    return opened


def of_transformers(folder: Path, threads: int) -> Opened:
    """The model that stock transformers makes of a Hugging Face folder, in fp32."""
    import torch
    from transformers import AutoModel, logging

    torch.set_num_threads(threads)
    logging.set_verbosity_error()  # that the heads' weights are not read is meant
    logging.disable_progress_bar()

    def opened() -> Encode:
        model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()

        def encode(ids_BL: np.ndarray) -> Any:
            ids = torch.from_numpy(ids_BL)
            with torch.inference_mode():
                return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state

        return encode

    return opened


def of_onnx(path: Path, threads: int) -> Opened:
    """An ONNX file whose only output is the hidden states, in ONNX Runtime with its own settings."""
    import onnxruntime

    def opened() -> Encode:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = {each.name for each in session.get_inputs()}

        def encode(ids_BL: np.ndarray) -> Any:
            ones, zeros = np.ones_like(ids_BL), np.zeros_like(ids_BL)
            inputs = {"input_ids": ids_BL, "attention_mask": ones, "token_type_ids": zeros}
            return session.run(None, {name: value for name, value in inputs.items() if name in names})[0]

        return encode

    return opened


FORMS: dict[str, Callable[[Path, int], Opened]] = {
    "litebert": of_litebert,
    "transformers": of_transformers,
    "onnx": of_onnx,
    "onnx int8": of_onnx,
}


def main() -> None:
    form, path, *numbers = sys.argv[1:]
    threads, vocab_size, samples, longest = map(int, numbers)
    chance = np.random.default_rng(0)
    opened = FORMS[form](Path(path), threads)
    libraries = most_resident()
    encode = opened()
    encode(chance.integers(vocab_size, size=(samples, longest)))
    print(json.dumps({"peak": most_resident(), "libraries": libraries}), flush=True)
    for line in sys.stdin:
        batch, length, calls = json.loads(line)
        seconds = []
        for ids_BL in chance.integers(vocab_size, size=(calls, batch, length)):
            begin = time.perf_counter()
            encode(ids_BL)
            seconds.append(time.perf_counter() - begin)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
