"""A Hugging Face model as an ONNX file: traced, with its word embeddings kept once, in fp32 or in int8."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import TENSOR_NAME_QUANT_SUFFIX, add_pre_process_metadata
from torch import nn

OPSET = 17  # the first with LayerNormalization; ONNX Runtime 1.12 and later read it
LARGEST = 2**31  # bytes of a protobuf


def trace(model: nn.Module, inputs: list[str], outputs: list[str], path: Path) -> None:
    """Write a model as an ONNX file, its inputs int64 [batch, length], both free.

    Args:
        model: in evaluation mode; it takes and gives tensors in the order of the names.
        outputs: "pair_logits" is [batch, 2]; the others are [batch, length, ...].

    Raises:
        ValueError: the model is larger than an ONNX file can be.
    """
    if (size := sum(weight.nbytes for weight in model.parameters())) > LARGEST:
        raise ValueError(f"the model has {size / 1e9:.1f} GB of weights, an ONNX file 2 GB: export it with --format hf")
    axes = {name: {0: "batch", 1: "length"} for name in [*inputs, *outputs]} | {"pair_logits": {0: "batch"}}
    example = torch.zeros(2, 3, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # torch's newer exporter writes what layers share once for each layer, takes 15 times as long, and needs more
        # libraries. What tracing could freeze, a length above all, shows when the file is compared.
        torch.onnx.export(
            model,
            (example, torch.ones_like(example), example)[: len(inputs)],
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: axes[name] for name in [*inputs, *outputs]},
        )
    model_file = onnx.load(path)
    _name_shared_weights_once(model_file)
    onnx.save(model_file, path)


def tie(path: Path) -> None:
    """Make the decoder of a traced file its word embeddings, which it repeats transposed."""
    model = onnx.load(path)
    embeddings, decoder = _words(model)
    (reader,) = (node for node in model.graph.node if decoder in node.input)
    reader.input[1] = "decoder"
    model.graph.node.insert(0, helper.make_node("Transpose", [embeddings], ["decoder"], perm=[1, 0]))
    _save(model, path)


def quantize(path: Path) -> None:
    """Turn the weights of a traced file into int8, and its word embeddings into the decoder's.

    Weights are symmetric, each column with a scale of its own, so that each word has one; what they are multiplied with
    becomes uint8 when it is known, each tensor with a scale and a zero of its own.
    """
    model = onnx.load(path)
    embeddings, decoder = _words(model)
    add_pre_process_metadata(model)  # or it warns that shapes are missing, which are there
    onnx.save(model, path)
    del model
    quantize_dynamic(path, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
    model = onnx.load(path)
    (at,) = (number for number, node in enumerate(model.graph.node) if embeddings in node.input)
    gather = model.graph.node.pop(at)
    for node in reversed(_looked_up(decoder, ids=gather.input[1], words=gather.output[0])):
        model.graph.node.insert(at, node)
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "last"))
    _save(model, path)


def _looked_up(decoder: str, ids: str, words: str) -> list[NodeProto]:
    """What looks the words of ids up in the quantised decoder: codes [E, V] and scales [V]."""
    return [
        helper.make_node("Transpose", [f"{decoder}{TENSOR_NAME_QUANT_SUFFIX}"], ["codes"], perm=[1, 0]),
        helper.make_node("Unsqueeze", [f"{decoder}_scale", "last"], ["scales"]),
        helper.make_node("Gather", ["codes", ids], ["codes_of_ids"]),
        helper.make_node("Gather", ["scales", ids], ["scales_of_ids"]),
        helper.make_node("Cast", ["codes_of_ids"], ["steps_of_ids"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["steps_of_ids", "scales_of_ids"], [words]),
    ]


def _name_shared_weights_once(model: ModelProto) -> None:
    """Let every node read a weight by its one name. Tracing gives each layer a copy, an Identity, of what it shares;
    the quantiser takes copies for activations, and leaves those layers in fp32."""
    weights = {weight.name for weight in model.graph.initializer}
    alias = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    alias = {name: weight for name, weight in alias.items() if weight in weights}
    for number in reversed(range(len(model.graph.node))):
        node = model.graph.node[number]
        if node.output[0] in alias:
            del model.graph.node[number]
        else:
            node.input[:] = [alias.get(name, name) for name in node.input]


def _words(model: ModelProto) -> tuple[str, str]:
    """The names of the word embeddings [V, E] and of the decoder [E, V], the same numbers."""
    (embeddings,) = (node.input[0] for node in model.graph.node if list(node.input[1:]) == ["input_ids"])
    weights = {weight.name: weight for weight in model.graph.initializer}
    words_VE = numpy_helper.to_array(weights[embeddings])
    (decoder,) = (
        name
        for name, weight in weights.items()
        if tuple(weight.dims) == words_VE.shape[::-1] and np.array_equal(numpy_helper.to_array(weight), words_VE.T)
    )
    return embeddings, decoder


def _save(model: ModelProto, path: Path) -> None:
    """Write a file without the weights that no node reads: of those that layers share, the quantiser leaves some."""
    read = {name for node in model.graph.node for name in node.input}
    for number in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[number].name not in read:
            del model.graph.initializer[number]
    onnx.checker.check_model(model)
    onnx.save(model, path)
