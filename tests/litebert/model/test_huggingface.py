"""Against Hugging Face, both ways: every layer's hidden states, logits, losses, gradients; and refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

from litebert.model import ModelConfig, PretrainingModel, from_huggingface, save_huggingface, to_huggingface

VOCAB = 50
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.3,
    "attention_probs_dropout_prob": 0.2,
}
DISTIL = {
    "vocab_size": VOCAB,
    "dim": 24,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 40,
    "dropout": 0.3,
    "attention_dropout": 0.2,
}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("AlbertForPreTraining", SHAPE | {"embedding_size": 8}),
    "albert groups": ("AlbertForPreTraining", SHAPE | {"embedding_size": 8, "num_hidden_groups": 2}),
    "albert unshared": (
        "AlbertForMaskedLM",
        SHAPE | {"embedding_size": 8, "num_hidden_groups": 4, "hidden_act": "gelu"},
    ),
    "bert": ("BertForPreTraining", SHAPE | {"layer_norm_eps": 1e-3}),
    "bert mlm": ("BertForMaskedLM", SHAPE | {"hidden_act": "relu", "type_vocab_size": 3}),
    "distilbert": ("DistilBertForMaskedLM", DISTIL),
}
OURS = ModelConfig(
    vocab_size=VOCAB,
    hidden_size=24,
    embedding_size=8,
    num_layers=4,
    num_heads=4,
    intermediate_size=40,
    max_positions=32,
    activation="gelu_tanh",
    dropout=0.3,
    attention_dropout=0.2,
    initializer_range=0.03,
)
EXPORTS = {
    "all": replace(OURS, sharing="all"),
    "groups": replace(OURS, sharing="all", num_groups=2),
    "attention": replace(OURS, sharing="attention"),
    "ffn": replace(OURS, sharing="ffn"),
    "none": OURS,
    "shared without a projection": replace(OURS, sharing="all", embedding_size=24),
    "albert mlm": replace(OURS, sharing="all", pooler=False, activation="relu"),
    "bert": replace(OURS, embedding_size=24, layer_norm_eps=1e-3),
    "bert mlm": replace(OURS, embedding_size=24, pooler=False),
    "distilbert": replace(OURS, embedding_size=24, pooler=False, token_types=0, activation="gelu"),
}
IDS: Any = {"pad_id": 4, "cls_id": 2, "sep_id": 3}
SIMBERT = Path(__file__).parents[4] / "shared/models/simbert-tiny-zh"


def make_theirs(name: str):
    class_name, settings = THEIRS[name]
    theirs = getattr(transformers, class_name)
    return theirs(theirs.config_class(**settings, attn_implementation="eager")).eval()


def run_theirs(model, batch):
    """Hugging Face's answer to the padded and masked batch: hidden states at real tokens, and logits."""
    inputs = {"input_ids": batch.padded(batch.ids_T), "attention_mask": batch.valid_BL.long()}
    if model.config.model_type != "distilbert":
        inputs["token_type_ids"] = batch.padded(batch.token_types_T)
    output = model(**inputs, output_hidden_states=True)
    logits = output.logits if "logits" in output else output.prediction_logits
    pair = next((output[key] for key in ("sop_logits", "seq_relationship_logits") if key in output), None)
    return (
        [hidden[batch.valid_BL] for hidden in output.hidden_states],
        logits[batch.valid_BL][batch.masked_M],
        pair,
    )


def assert_same(ours: PretrainingModel, theirs, batch, tolerance: float) -> None:
    hidden, logits, pair = run_theirs(theirs, batch)
    states = list(ours.encoder.hidden_states(batch.ids_T, batch.token_types_T, batch.packing))
    output = ours(batch.ids_T, batch.token_types_T, batch.packing, batch.masked_M)
    assert len(states) == len(hidden)
    for mine, reference in zip([*states, output.mlm_logits_MV], [*hidden, logits], strict=True):
        torch.testing.assert_close(mine, reference, atol=tolerance, rtol=tolerance)
    if pair is not None:
        torch.testing.assert_close(output.pair_logits_B2, pair, atol=tolerance, rtol=tolerance)


def assert_same_gradients(ours: PretrainingModel, theirs, batch, tolerance: float) -> None:
    """The losses, and the gradient of every parameter; ours is left with gradients in place of its weights."""
    scored = ours(batch.ids_T, batch.token_types_T, batch.packing, batch.masked_M, batch.labels_M)
    loss = scored.mlm_loss / len(batch.labels_M)
    if scored.pair_logits_B2 is not None:
        loss = loss + F.cross_entropy(scored.pair_logits_B2, batch.order_B)
    loss.backward()

    labels_T = torch.full_like(batch.ids_T, -100).scatter(0, batch.masked_M, batch.labels_M)
    inputs = {"labels": batch.padded(labels_T, -100)}
    inputs |= {"input_ids": batch.padded(batch.ids_T), "attention_mask": batch.valid_BL.long()}
    if scored.pair_logits_B2 is not None:
        inputs["next_sentence_label" if theirs.config.model_type == "bert" else "sentence_order_label"] = batch.order_B
    if theirs.config.model_type != "distilbert":
        inputs["token_type_ids"] = batch.padded(batch.token_types_T)
    their_loss = theirs(**inputs).loss
    their_loss.backward()
    torch.testing.assert_close(loss.to(their_loss.dtype), their_loss, atol=tolerance, rtol=0)

    with torch.no_grad():
        for parameter in ours.parameters():
            assert parameter.grad is not None
            parameter.copy_(parameter.grad)
    _, gradients = to_huggingface(ours, **IDS)
    compared = {name: parameter for name, parameter in theirs.named_parameters() if parameter.grad is not None}
    assert compared.keys() == gradients.keys()
    for key, parameter in compared.items():
        limit = max(1e-6, tolerance * parameter.grad.abs().max().item())
        torch.testing.assert_close(gradients[key], parameter.grad.float(), atol=limit, rtol=1e-5, msg=key)


@pytest.mark.parametrize("name", THEIRS)
def test_import_computes_the_same(name: str, tmp_path: Path, randomize, make_batch) -> None:
    theirs = make_theirs(name)
    randomize(theirs)
    theirs.save_pretrained(tmp_path)
    ours = from_huggingface(tmp_path).eval()
    assert (ours.config.dropout, ours.config.attention_dropout) == (0.3, 0.2)
    batch = make_batch([5, 12, 1, 7, 12], VOCAB, getattr(theirs.config, "type_vocab_size", 0))
    assert_same(ours.double(), theirs.double(), batch, tolerance=1e-10)


@pytest.mark.parametrize("name", THEIRS)
def test_losses_and_gradients_are_the_same(name: str, tmp_path: Path, randomize, make_batch) -> None:
    theirs = make_theirs(name)
    randomize(theirs)
    theirs.save_pretrained(tmp_path)
    ours = from_huggingface(tmp_path).eval().double()
    batch = make_batch([5, 12, 1, 7, 12], VOCAB, getattr(theirs.config, "type_vocab_size", 0))

    assert_same_gradients(ours, theirs.double(), batch, tolerance=1e-10)


@pytest.mark.parametrize("name", EXPORTS)
def test_export_loads_and_computes_the_same(name: str, tmp_path: Path, randomize, make_batch) -> None:
    ours = PretrainingModel(EXPORTS[name]).eval()
    randomize(ours)
    save_huggingface(ours, tmp_path, **IDS)
    batch = make_batch([5, 12, 1, 7, 12], VOCAB)
    autos = [AutoModelForMaskedLM] + [AutoModelForPreTraining] * ours.config.pooler
    for auto in autos:
        theirs, info = auto.from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
        assert not info["missing_keys"] and not info["mismatched_keys"]
        if auto is AutoModelForPreTraining or not ours.config.pooler:
            assert not info["unexpected_keys"] and theirs.config.architectures == [type(theirs).__name__]
        described = theirs.config
        assert (described.pad_token_id, described.bos_token_id, described.eos_token_id) == (4, 2, 3)
        assert_same(ours, theirs.eval(), batch, tolerance=1e-5)

    again = from_huggingface(tmp_path).eval()
    written_out = ours.config.sharing in ("attention", "ffn")
    assert again.config == (replace(ours.config, sharing="none") if written_out else ours.config)
    inputs = (batch.ids_T, batch.token_types_T, batch.packing, batch.masked_M)
    for mine, reference in zip(again(*inputs), ours(*inputs), strict=True):
        assert mine is None or torch.equal(mine, reference)


def test_older_names_and_half_precision_are_read(tmp_path: Path, randomize, make_batch) -> None:
    """Conversions from TensorFlow call LayerNorm's parameters gamma and beta; many are stored in fp16."""
    ours = PretrainingModel(replace(OURS, embedding_size=24))
    randomize(ours)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(parameter.half())
    save_huggingface(ours, tmp_path, **IDS)
    state = load_file(tmp_path / "model.safetensors")
    older = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value.half()
        for key, value in state.items()
    } | {"bert.embeddings.position_ids": torch.arange(32).half()}
    save_file(older, tmp_path / "model.safetensors")
    again = from_huggingface(tmp_path).state_dict()
    for name, value in ours.state_dict().items():
        assert again[name].dtype == torch.float32 and torch.equal(again[name], value), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta' is none of albert, bert, distilbert"),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type 'relative_key' is not supported",
        ),
        ({"inner_group_num": 2}, "inner_group_num 2 is not supported, only 1"),
        ({"hidden_act": "silu"}, "activation 'silu' is none of gelu"),
        ({"hidden_size": None}, "config.json lacks hidden_size"),
        ({"intermediate_size": 41}, r"ffn.weight is not of the shape that config.json says"),
        ({"num_hidden_layers": 4, "num_hidden_groups": 2}, r"no weight .*groups.1.*; and \d+ more"),
        ({"num_attention_heads": 5}, "hidden_size 24 is not a multiple of num_heads 5"),
        ({"hidden_size": "24"}, "hidden_size '24' is no whole number"),
        ({"num_hidden_layers": 2.5, "num_hidden_groups": "2"}, "2.5 is no whole number; num_hidden_groups '2' is no"),
        ({"type_vocab_size": True}, "type_vocab_size True is no whole number"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps '1e-12' is no number"),
        ({"hidden_act": ["gelu"]}, r"activation \['gelu'\] is none of gelu"),
        ({"model_type": ["albert"]}, r"model_type \['albert'\] is none of albert"),
    ],
)
def test_a_config_we_cannot_follow_is_refused(changes: dict, message: str, tmp_path: Path) -> None:
    save_huggingface(PretrainingModel(EXPORTS["all"]), tmp_path, **IDS)
    described = json.loads((tmp_path / "config.json").read_text()) | changes
    described = {key: value for key, value in described.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=message) as error:
        from_huggingface(tmp_path)
    assert str(error.value).startswith(str(tmp_path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("predictions.decoder.weight", torch.zeros(VOCAB, 8), "predictions.decoder.weight is not tied"),
        ("predictions.decoder.bias", torch.ones(VOCAB), "predictions.decoder.bias is not tied"),
        ("qa_outputs.weight", torch.zeros(2, 24), "weights of an unknown use: qa_outputs.weight"),
    ],
)
def test_weights_we_cannot_use_are_refused(key: str, value, message: str, tmp_path: Path) -> None:
    described, weights = to_huggingface(PretrainingModel(EXPORTS["all"]), **IDS)
    save_file(weights | {key: value}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=message):
        from_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", r"config\.json is damaged \(Expecting property name"),
        ("config.json", b"\xff\xfe\xfa", r"config\.json is damaged \(.*codec can't decode"),
        ("config.json", b"[]", r"config\.json holds no keys and values"),
        ("model.safetensors", b"xx" * 100, r"model\.safetensors is damaged or cut off \("),
        ("model.safetensors", b"", r"model\.safetensors is damaged or cut off \("),
        ("model.safetensors", None, r"model\.safetensors is damaged or cut off \("),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    """None stands for one that lacks its end."""
    save_huggingface(PretrainingModel(EXPORTS["all"]), tmp_path, **IDS)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    with pytest.raises(ValueError, match=rf"^{tmp_path}: {message}.*: copy the model again$") as error:
        from_huggingface(tmp_path)
    assert "\n" not in str(error.value)


def test_a_model_without_token_types_comes_back_as_it_was(tmp_path: Path, randomize, make_batch) -> None:
    """Hugging Face wants one type; the second segment, which would be the next, has the same."""
    ours = PretrainingModel(replace(OURS, sharing="all", token_types=0)).eval()
    randomize(ours)
    save_huggingface(ours, tmp_path, **IDS)
    again = from_huggingface(tmp_path).eval()
    batch = make_batch([5, 12, 1, 7, 12], VOCAB)
    assert again.config.token_types == 1 and batch.token_types_T.max() == 1
    inputs = (batch.ids_T, batch.token_types_T, batch.packing, batch.masked_M)
    for mine, reference in zip(again(*inputs), ours(*inputs), strict=True):
        torch.testing.assert_close(mine, reference, atol=0, rtol=0)


def test_a_projection_of_equal_sizes_is_refused(tmp_path: Path) -> None:
    theirs = make_theirs("albert").config
    theirs.embedding_size = theirs.hidden_size
    transformers.AlbertForPreTraining(theirs).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"embedding_hidden_mapping_in.weight is not the identity"):
        from_huggingface(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no model\.safetensors: save the model there"):
        from_huggingface(tmp_path)


@pytest.mark.skipif(not SIMBERT.is_dir(), reason="needs the shared Chinese ALBERT")
def test_a_real_chinese_albert(tmp_path: Path, make_batch) -> None:
    theirs = AutoModelForMaskedLM.from_pretrained(SIMBERT, dtype=torch.float32).eval()
    ours = from_huggingface(SIMBERT).eval()
    assert not ours.config.pooler and ours.config.num_layers == 4 and ours.config.attention_blocks == 4
    batch = make_batch([30, 64, 3], ours.config.vocab_size)
    assert_same(ours, theirs, batch, tolerance=1e-4)
    save_huggingface(ours, tmp_path, **IDS)
    assert_same_gradients(ours, theirs, batch, tolerance=1e-4)
    exported = load_file(tmp_path / "model.safetensors")
    original = load_file(SIMBERT / "model.safetensors")
    assert exported.keys() == original.keys()
    assert all(torch.equal(exported[key], value.float()) for key, value in original.items())
