"""A Hugging Face model as an ONNX file: traced, with its word embeddings kept once, in fp32, fp16 or int8."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import TENSOR_NAME_QUANT_SUFFIX, add_pre_process_metadata
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import nn

from litebert.export.exported import Weights

OPSET = 17  # the first with LayerNormalization; ONNX Runtime 1.12 and later read it
LARGEST = 2**31  # bytes of a protobuf
TOKENS, SAMPLES = ("batch", "length"), ("batch",)  # axes, the first of an output, that are free


def form_of(weights: Weights) -> str:
    """What a card says that weights are kept as."""
    return f"ONNX, opset {OPSET}, {weights}{', dynamically quantised' if weights == 'int8' else ''}"


def trace(model: nn.Module, inputs: Sequence[str], outputs: Mapping[str, Sequence[str]], path: Path) -> None:
    """Write a model as an ONNX file, its inputs int64 [batch, length], both free.

    Args:
        model: in evaluation mode; it takes and gives tensors in the order of the names.
        outputs: by name, TOKENS or SAMPLES.

    Raises:
        ValueError: the model is larger than an ONNX file can be.
    """
    if (size := sum(weight.nbytes for weight in model.parameters())) > LARGEST:
        raise ValueError(f"the model has {size / 1e9:.1f} GB of weights, an ONNX file 2 GB: use a Hugging Face folder")
    axes = {**dict.fromkeys(inputs, TOKENS), **outputs}
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
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(enumerate(free)) for name, free in axes.items()},
        )
    model_file = onnx.load(path)
    _name_shared_weights_once(model_file)
    onnx.save(model_file, path)


def tie(path: Path) -> None:
    """Make the decoder of a traced file its word embeddings, which it repeats transposed."""
    model = onnx.load(path)
    embeddings = _embeddings(model)
    decoder = _decoder(model, embeddings)
    (reader,) = (node for node in model.graph.node if decoder in node.input)
    reader.input[1] = "decoder"
    model.graph.node.insert(0, helper.make_node("Transpose", [embeddings.name], ["decoder"], perm=[1, 0]))
    _save(model, path)


def halve(path: Path) -> None:
    """Turn the numbers of a traced file into fp16, and what is computed with them; inputs and outputs stay as they are.

    What is beyond fp16's range becomes its largest number: the mask of attention, which has to be large alone.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that round to nothing, or to the largest: the comparison sees to it
        model = convert_float_to_float16(onnx.load(path), keep_io_types=True)
    _save(model, path)


def quantize(path: Path) -> None:
    """Turn the weights of a traced file into int8, and its word embeddings into the decoder's if it has one.

    Weights are symmetric, each column with a scale of its own, and so each word; what they are multiplied with becomes
    uint8 when it is known, each tensor with a scale and a zero of its own. What is multiplied has 7 bits of its 8, up
    to 64: on x86 without VNNI, ONNX Runtime adds two products in int16, which holds 2 * 255 * 64 and not 2 * 255 * 127
    (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "reduce-range").
    """
    model = onnx.load(path)
    decoder = _decoder(model, _embeddings(model))
    add_pre_process_metadata(model)  # or it warns that shapes are missing, which are there
    onnx.save(model, path)
    del model
    quantize_dynamic(
        path,
        path,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(path)
    graph, embeddings = model.graph, _embeddings(model)
    (at,) = (number for number, node in enumerate(graph.node) if embeddings.name in node.input)
    gather = graph.node.pop(at)
    nodes = _looked_up(ids=gather.input[1], words=gather.output[0])
    if decoder:
        nodes = _of_decoder(decoder) + nodes
        graph.initializer.append(numpy_helper.from_array(np.array([-1]), "last"))
    else:
        graph.initializer.extend(_of_words(numpy_helper.to_array(embeddings)))
    for node in reversed(nodes):
        graph.node.insert(at, node)
    _save(model, path)


def _looked_up(ids: str, words: str) -> list[NodeProto]:
    """What looks the words of ids up in "codes" [V, E] and "scales" [V, 1]."""
    return [
        helper.make_node("Gather", ["codes", ids], ["codes_of_ids"]),
        helper.make_node("Gather", ["scales", ids], ["scales_of_ids"]),
        helper.make_node("Cast", ["codes_of_ids"], ["steps_of_ids"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["steps_of_ids", "scales_of_ids"], [words]),
    ]


def _of_decoder(decoder: str) -> list[NodeProto]:
    """What makes codes and scales of the quantised decoder's, [E, V] and [V]."""
    return [
        helper.make_node("Transpose", [f"{decoder}{TENSOR_NAME_QUANT_SUFFIX}"], ["codes"], perm=[1, 0]),
        helper.make_node("Unsqueeze", [f"{decoder}_scale", "last"], ["scales"]),
    ]


def _of_words(words_VE: npt.NDArray[np.float32]) -> list[TensorProto]:
    """Codes and scales of words that no decoder has: looked up, never multiplied as codes, they have all 8 bits."""
    scales_V1 = np.abs(words_VE).max(1, keepdims=True) / np.float32(127)
    scales_V1[scales_V1 == 0] = 1  # of words that are all zeros, as padding may be
    codes_VE = np.rint(words_VE / scales_V1).astype(np.int8)
    return [numpy_helper.from_array(codes_VE, "codes"), numpy_helper.from_array(scales_V1, "scales")]


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


def _embeddings(model: ModelProto) -> TensorProto:
    """The word embeddings [V, E]."""
    (name,) = (node.input[0] for node in model.graph.node if list(node.input[1:]) == ["input_ids"])
    return next(weight for weight in model.graph.initializer if weight.name == name)


def _decoder(model: ModelProto, embeddings: TensorProto) -> str | None:
    """The name of the decoder [E, V], of the same numbers as the word embeddings; None of a model for a task."""
    words_VE = numpy_helper.to_array(embeddings)
    found = [
        weight.name
        for weight in model.graph.initializer
        if tuple(weight.dims) == words_VE.shape[::-1] and np.array_equal(numpy_helper.to_array(weight), words_VE.T)
    ]
    return found[0] if found else None


def _save(model: ModelProto, path: Path) -> None:
    """Write a file without the weights that no node reads: of those that layers share, the quantiser leaves some."""
    read = {name for node in model.graph.node for name in node.input}
    for number in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[number].name not in read:
            del model.graph.initializer[number]
    onnx.checker.check_model(model)
    onnx.save(model, path)
