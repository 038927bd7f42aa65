"""The encoder's promises: samples do not see each other, sharing is what it says, a bad config says why."""

import math
from dataclasses import replace

import pytest
import torch

from litebert.model import ModelConfig, Packing, PretrainingModel
from litebert.model.encoder import Encoder

CONFIG = ModelConfig(
    vocab_size=50,
    hidden_size=24,
    embedding_size=8,
    num_layers=4,
    num_heads=4,
    intermediate_size=40,
    max_positions=32,
)
BLOCKS = {
    ("all", 1): ([0, 0, 0, 0], [0, 0, 0, 0]),
    ("all", 2): ([0, 0, 1, 1], [0, 0, 1, 1]),
    ("attention", 1): ([0, 0, 0, 0], [0, 1, 2, 3]),
    ("ffn", 1): ([0, 1, 2, 3], [0, 0, 0, 0]),
}


def test_a_sample_does_not_depend_on_its_neighbours(randomize, make_batch) -> None:
    model = PretrainingModel(CONFIG).eval()
    randomize(model)
    batch = make_batch([5, 12, 1, 7, 12], CONFIG.vocab_size)
    together = model(batch.ids_T, batch.token_types_T, batch.packing, torch.arange(batch.packing.tokens))
    start = 0
    for sample, length in enumerate(batch.packing.lengths.tolist()):
        rows = slice(start, start := start + length)
        alone = model(batch.ids_T[rows], batch.token_types_T[rows], Packing.of([length]), torch.arange(length))
        for ours, theirs in (
            (alone.hidden_TH, together.hidden_TH),
            (alone.mlm_logits_MV, together.mlm_logits_MV),
        ):
            torch.testing.assert_close(ours, theirs[rows], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(alone.pair_logits_B2[0], together.pair_logits_B2[sample])


@pytest.mark.parametrize(("sharing", "num_groups"), BLOCKS)
def test_sharing_equals_layers_with_the_same_weights(sharing, num_groups, randomize, make_batch) -> None:
    shared = Encoder(replace(CONFIG, sharing=sharing, num_groups=num_groups)).eval()
    apart = Encoder(CONFIG).eval()
    randomize(shared)
    attention_of, ffn_of = BLOCKS[sharing, num_groups]
    apart.embeddings.load_state_dict(shared.embeddings.state_dict())
    for layer in range(CONFIG.num_layers):
        apart.attention[layer].load_state_dict(shared.attention[attention_of[layer]].state_dict())
        apart.ffn[layer].load_state_dict(shared.ffn[ffn_of[layer]].state_dict())
    batch = make_batch([5, 9, 9], CONFIG.vocab_size)
    inputs = (batch.ids_T, batch.token_types_T, batch.packing)
    assert torch.equal(shared(*inputs), apart(*inputs))
    assert len(shared.attention) == len(set(attention_of)) and len(shared.ffn) == len(set(ffn_of))


def test_a_parameter_has_one_name() -> None:
    model = PretrainingModel(replace(CONFIG, sharing="all"))
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert len(names) == len(set(map(id, model.parameters()))) and list(model.state_dict()) == names
    assert [name for name in names if name.startswith("encoder.ffn")] == [
        f"encoder.ffn.0.{name}.{kind}" for name in ("up", "down", "norm") for kind in ("weight", "bias")
    ]
    assert model.parameter_count() == sum(value.numel() for value in model.state_dict().values())


def test_hidden_states_run_from_the_embeddings_to_the_last_layer(make_batch) -> None:
    encoder = Encoder(CONFIG).eval()
    batch = make_batch([3, 8], CONFIG.vocab_size)
    states = list(encoder.hidden_states(batch.ids_T, batch.token_types_T, batch.packing))
    assert [state.shape for state in states] == [(11, CONFIG.hidden_size)] * (CONFIG.num_layers + 1)
    assert torch.equal(states[-1], encoder(batch.ids_T, batch.token_types_T, batch.packing))
    again = encoder.ffn[3](encoder.attention[3](states[-2], batch.packing))
    assert torch.equal(states[-1], again)


def test_recomputed_layers_have_the_same_gradients_and_keep_less(randomize, make_batch) -> None:
    """Dropout too is drawn again as it was."""
    encoder = Encoder(replace(CONFIG, sharing="ffn", dropout=0.3, attention_dropout=0.2))
    randomize(encoder)
    batch = make_batch([3, 8, 8, 30], CONFIG.vocab_size)
    weights = {parameter.data_ptr() for parameter in encoder.parameters()}
    kept = {False: 0, True: 0}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[encoder.recompute] += tensor.numel() * (tensor.data_ptr() not in weights)
        return tensor

    gradients = []
    for encoder.recompute in (False, True):
        torch.manual_seed(4)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden_TH = encoder(batch.ids_T, batch.token_types_T, batch.packing)
        gradients.append(torch.autograd.grad(hidden_TH.square().sum(), list(encoder.parameters())))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    assert 0 < kept[True] < kept[False] / 4


@pytest.mark.parametrize("num_layers", [1, 4])
def test_some_rows_are_those_of_all(num_layers: int, randomize, make_batch) -> None:
    encoder = Encoder(replace(CONFIG, num_layers=num_layers)).double()
    randomize(encoder)
    batch = make_batch([3, 8, 8, 30], CONFIG.vocab_size)
    inputs = (batch.ids_T, batch.token_types_T, batch.packing)
    rows = torch.cat([batch.packing.first + 1, batch.packing.first])
    some, all_of_them = encoder(*inputs, rows), encoder(*inputs)[rows]
    torch.testing.assert_close(some, all_of_them, atol=1e-12, rtol=0)
    gradients = (torch.autograd.grad(x.square().sum(), list(encoder.parameters())) for x in (some, all_of_them))
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-10, rtol=1e-10)


def test_absent_token_types_are_type_0(make_batch, randomize) -> None:
    encoder = Encoder(CONFIG)
    randomize(encoder)
    batch = make_batch([3, 8], CONFIG.vocab_size)
    zeros = torch.zeros_like(batch.ids_T)
    assert torch.equal(encoder(batch.ids_T, None, batch.packing), encoder(batch.ids_T, zeros, batch.packing))


def test_birth() -> None:
    torch.manual_seed(11)
    config = replace(CONFIG, vocab_size=2000, hidden_size=96, initializer_range=0.05)
    model = PretrainingModel(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            error = 5 * 0.05 / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() == pytest.approx(0.05, abs=error), name
    torch.manual_seed(11)
    again = PretrainingModel(config).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (replace(CONFIG, dropout=0.5), ["embeddings", "attention.0", "ffn.0"]),
        (replace(CONFIG, attention_dropout=0.5), ["attention.0"]),
    ],
)
def test_dropout_is_for_training_only(config: ModelConfig, parts: list[str], randomize, make_batch) -> None:
    encoder = Encoder(config)
    randomize(encoder)
    batch = make_batch([6, 6], config.vocab_size)
    hidden_TH = torch.randn(12, config.hidden_size)
    inputs = {
        "embeddings": (batch.ids_T, None, batch.packing.position_ids),
        "attention.0": (hidden_TH, batch.packing),
        "ffn.0": (hidden_TH,),
    }
    for name, arguments in inputs.items():
        part = encoder.get_submodule(name)
        encoder.train()
        assert torch.equal(part(*arguments), part(*arguments)) == (name not in parts), name
        encoder.eval()
        assert torch.equal(part(*arguments), part(*arguments)), name


def test_without_a_pooler_there_are_no_pair_logits(make_batch) -> None:
    model = PretrainingModel(replace(CONFIG, pooler=False))
    batch = make_batch([4, 6], CONFIG.vocab_size)
    output = model(batch.ids_T, batch.token_types_T, batch.packing, batch.masked_M)
    assert output.pair_logits_B2 is None and output.mlm_logits_MV.shape == (4, CONFIG.vocab_size)


def test_a_sample_longer_than_the_positions_is_refused() -> None:
    encoder = Encoder(replace(CONFIG, max_positions=4))
    with pytest.raises(ValueError, match="a sample of 5 tokens in a model of max_positions 4"):
        encoder(torch.zeros(7, dtype=torch.int64), None, Packing.of([2, 5]))


def test_a_config_lists_all_that_is_wrong() -> None:
    with pytest.raises(ValueError) as error:
        replace(
            CONFIG,
            vocab_size=0,
            num_heads=5,
            sharing="some",
            activation="swish",
            dropout=1.0,
            layer_norm_eps=0,
        )
    for problem in (
        "vocab_size must be at least 1",
        "hidden_size 24 is not a multiple of num_heads 5",
        "sharing 'some' is none of all, attention, ffn, none",
        "activation 'swish' is none of gelu, gelu_tanh, relu",
        "dropout must be in [0, 1)",
        "layer_norm_eps must be above 0",
    ):
        assert problem in str(error.value)
    with pytest.raises(ValueError, match="num_layers 4 is not a multiple of num_groups 3"):
        replace(CONFIG, sharing="all", num_groups=3)
    with pytest.raises(ValueError, match="num_groups 2 needs sharing 'all', not 'ffn'"):
        replace(CONFIG, sharing="ffn", num_groups=2)
