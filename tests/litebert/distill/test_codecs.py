"""What codecs keep, in how many bytes, and how exactly: against whole distributions in float64."""

import dataclasses
import io
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from litebert.distill.codecs import CodecConfig, TeacherHead, codec_of, keyed_uniforms
from litebert.distill.soft_cross_entropy import soft_linear_cross_entropy
from litebert.distill.targets import Distribution, Sampled, TopK
from litebert.model import PretrainingModel
from litebert.model.cross_entropy import CHUNK
from litebert.model.encoder import ModelConfig
from tests.allocations import Allocations

TEACHER = ModelConfig(vocab_size=60, hidden_size=24, embedding_size=16, num_layers=1, num_heads=2, intermediate_size=32)
SAMPLED_WEIGHTED = CodecConfig("sampled", draws=10, exponent=0.7)
CONFIGS = [
    *(CodecConfig(kind, bits, k=7) for kind in ("hidden", "head", "topk") for bits in (16, 8)),
    CodecConfig("sampled", draws=10),
    SAMPLED_WEIGHTED,
    dataclasses.replace(SAMPLED_WEIGHTED, bits=8),
]
every_codec = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind}{c.bits}_{c.exponent}")


def head_of(sharpness: float = 3.0, device: str = "cpu") -> TeacherHead:
    """A head that has opinions, strong ones or weak, the same on every device."""
    torch.manual_seed(3)
    model = PretrainingModel(TEACHER)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        model.encoder.embeddings.word.weight.mul_(sharpness)
    return TeacherHead.of(model.to(device))


def hidden_of(rows: int, width: int = TEACHER.hidden_size) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(4))


def uniforms_of(rows: int, seed: int = 0) -> Tensor:
    return keyed_uniforms(seed, np.arange(rows, dtype=np.uint64) // 5, 1, np.arange(rows) % 5)


def exact_logs(head: TeacherHead, hidden_MH: Tensor, temperature: float = 1.0) -> Tensor:
    with torch.no_grad():
        rows_ME = head.transform(hidden_MH)
        logits_MV = rows_ME.double() @ head.weight_VE.double().t() + head.bias_V.double()
    return (logits_MV / temperature).log_softmax(-1)


@every_codec
@pytest.mark.parametrize("vocab_size", [60, 70000])
def test_the_bytes_stated_are_those_of_the_columns(config: CodecConfig, vocab_size: int) -> None:
    teacher = dataclasses.replace(TEACHER, vocab_size=vocab_size)
    codec = codec_of(config, teacher)
    head = TeacherHead(lambda hidden_MH: hidden_MH[:, :16], torch.randn(vocab_size, 16), torch.zeros(vocab_size))
    columns = codec.encode(head, hidden_of(9), uniforms_of(9))
    assert list(columns) == list(codec.columns)
    measured = 0
    for name, tensor in columns.items():
        assert (tensor.dtype, tensor.shape) == (codec.columns[name].dtype, (9, *codec.columns[name].shape))
        stream = io.BytesIO()
        np.save(stream, tensor.numpy(), allow_pickle=False)
        loaded = np.load(io.BytesIO(stream.getvalue()), allow_pickle=False)
        assert torch.equal(torch.from_numpy(loaded), tensor)
        measured += loaded.nbytes
    assert measured == 9 * codec.bytes_per_position


def test_the_bytes_of_a_real_teacher() -> None:
    """Of 21128 words and E = 128, H = 768: a row of logits in fp32 would be 84512."""
    teacher = dataclasses.replace(TEACHER, vocab_size=21128, hidden_size=768, embedding_size=128)
    configs = {
        CodecConfig("hidden"): 1536,
        CodecConfig("hidden", 8): 770,
        CodecConfig("head"): 256,
        CodecConfig("head", 8): 130,
        CodecConfig("topk", k=64): 258,
        CodecConfig("topk", 8, k=64): 195,
        CodecConfig("sampled", draws=64): 134,
        CodecConfig("sampled", draws=64, exponent=0.8): 266,
        CodecConfig("sampled", 8, draws=64, exponent=0.8): 202,
    }
    assert {config: codec_of(config, teacher).bytes_per_position for config in configs} == configs


@pytest.mark.parametrize("kind", ["hidden", "head"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_exact_codecs_give_the_dense_divergence_of_what_was_rounded(kind: str, temperature: float) -> None:
    """Bit for bit, and the gradients too."""
    head, hidden_MH, codec = head_of(), hidden_of(40), codec_of(CodecConfig(kind), TEACHER)
    decoded = codec.decode(codec.encode(head, hidden_MH), head)
    with torch.no_grad():
        if kind == "hidden":
            rows_ME = head.transform(hidden_MH.half().float())
            assert decoded.hidden_MH is not None and torch.equal(decoded.hidden_MH, hidden_MH.half().float())
        else:
            rows_ME = head.transform(hidden_MH).half().float()
            assert decoded.hidden_MH is None
    found, expected = (losses_of(targets, temperature) for targets in (decoded.targets, head.dense(rows_ME)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def losses_of(targets, temperature: float) -> list[Tensor]:
    """Of a student of 8 wide on 40 rows: the divergence, and the gradients of what makes its logits."""
    generator = torch.Generator().manual_seed(9)
    rows_ME, weight_VE, bias_V = (
        torch.randn(*shape, generator=generator).requires_grad_() for shape in ((40, 8), (60, 8), (60,))
    )
    losses = soft_linear_cross_entropy(
        rows_ME, weight_VE, bias_V, torch.arange(40), targets, temperature, mlm_weight=0.0
    )
    return [losses.kl, losses.agreed, *torch.autograd.grad(losses.loss, [rows_ME, weight_VE, bias_V])]


@pytest.mark.parametrize("kind", ["hidden", "head"])
def test_eight_bits_err_by_half_a_step_at_most(kind: str) -> None:
    """A step is a 127th of the row's largest number, itself rounded to the eleven bits of fp16."""
    head = dataclasses.replace(head_of(), transform=lambda hidden_MH: hidden_MH)
    hidden_MH = hidden_of(50, 16) * torch.logspace(-3, 3, 50)[:, None]
    hidden_MH[7] = 0
    codec = codec_of(CodecConfig(kind, 8), dataclasses.replace(TEACHER, hidden_size=16))
    kept_MH = codec.decode(codec.encode(head, hidden_MH), head).targets.rows_MD  # type: ignore[attr-defined]
    half_step_M1 = hidden_MH.abs().amax(1, keepdim=True) / 127 * (1 / 2 + 127 * 2**-11)
    assert ((kept_MH - hidden_MH).abs() <= half_step_M1).all()
    assert not kept_MH[7].any()
    assert (kept_MH - hidden_MH).abs().max() > half_step_M1.max() / 4, "as much as is lost at most"


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_topk_keeps_the_likeliest_words_and_the_mass_of_the_others(bits: int, temperature: float) -> None:
    head, hidden_MH = head_of(), hidden_of(200)
    codec = codec_of(CodecConfig("topk", bits, k=7, temperature=temperature), TEACHER)
    found = codec.decode(codec.encode(head, hidden_MH)).targets
    assert isinstance(found, TopK) and found.temperature == temperature
    exact_MV = exact_logs(head, hidden_MH, temperature)
    top_MK, ids_MK = exact_MV.topk(7)
    assert torch.equal(found.ids_MK, ids_MK)
    torch.testing.assert_close(found.logs_MK1.exp().sum(1), torch.ones(200), atol=1e-6, rtol=0)
    others_M1 = (1 - top_MK.exp().sum(1, keepdim=True)).log()
    classes_MK1 = torch.cat([top_MK, others_M1], 1)
    # fp16 keeps eleven bits of each; eight bits divide what lies between likeliest and least.
    spread_M1 = classes_MK1.amax(1, keepdim=True) - classes_MK1.amin(1, keepdim=True)
    error_M1 = spread_M1 / 255 * (1 / 2 + 255 * 2**-11) if bits == 8 else -classes_MK1.amin(1, keepdim=True) * 2**-11
    # Making them sum to one again moves all of a row together, by no more than the largest error.
    assert ((found.logs_MK1 - classes_MK1).abs() <= 2 * error_M1 + 1e-5).all()
    assert others_M1.exp().max() > 0.2, "there is a tail to speak of"


def test_topk_of_two_equal_classes() -> None:
    """Nothing lies between likeliest and least: no scale to divide by."""
    codec = codec_of(CodecConfig("topk", 8, k=1), dataclasses.replace(TEACHER, vocab_size=2))
    head = TeacherHead(lambda hidden_MH: hidden_MH, torch.zeros(2, 1), torch.zeros(2))
    found = codec.decode(codec.encode(head, torch.ones(3, 1))).targets
    assert isinstance(found, TopK)
    torch.testing.assert_close(found.logs_MK1.exp(), torch.full((3, 2), 0.5))


DRAWN = 20000
UNBIASED = [
    CodecConfig("sampled", draws=10),
    CodecConfig("sampled", draws=10, temperature=2.0),
    CodecConfig("sampled", draws=10, exponent=0.6),
    CodecConfig("sampled", 8, draws=10, exponent=0.6),
    CodecConfig("sampled", 8, draws=10, exponent=1.3, temperature=2.0),
]


def spread(targets: Sampled | TopK, vocab_size: int) -> Tensor:
    """What targets of a few words say of every word, [M, V]; of those left out, nothing."""
    if isinstance(targets, TopK):
        ids_MK, weights_MK = targets.ids_MK, targets.logs_MK1[:, :-1].exp().double()
        weights_MK = weights_MK / weights_MK.sum(1, keepdim=True)
    else:
        ids_MK, weights_MK = targets.ids_MN, targets.weights_MN.double()
    return weights_MK.new_zeros(len(ids_MK), vocab_size).scatter_add_(1, ids_MK, weights_MK)


def deviation(targets: Sampled | TopK, temperature: float, expected_V: Tensor) -> float:
    """The mean gradient over draws from the dense one, in standard errors, at the logit where it is the most."""
    generator = torch.Generator().manual_seed(9)
    row_E, weight_VE = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((1, 8), (60, 8)))
    bias_V = torch.zeros(60, dtype=torch.float64, requires_grad=True)
    losses = soft_linear_cross_entropy(
        row_E.expand(DRAWN, 8), weight_VE, bias_V, torch.full((DRAWN,), -1), targets, temperature
    )
    (of_bias_V,) = torch.autograd.grad(losses.loss / DRAWN, [bias_V])
    student_V = (row_E @ weight_VE.t() / temperature).softmax(-1)[0]
    dense_V = temperature * (student_V - expected_V)
    errors_MV = temperature * (student_V - spread(targets, 60))
    # A word whose due is nearly a whole number of draws has nearly no spread, and fp32 rounds.
    standard_errors_V = (errors_MV.var(0) / DRAWN).sqrt() + 1e-6
    return float(((of_bias_V - dense_V).abs() / standard_errors_V).max())


@pytest.mark.parametrize("config", UNBIASED, ids=lambda c: f"{c.bits}_{c.exponent}_{c.temperature}")
def test_the_mean_gradient_over_draws_is_the_dense_gradient(config: CodecConfig) -> None:
    """One position, drawn again and again under other keys. The likeliest words alone do not pass."""
    head = head_of(sharpness=1.5)
    hidden_MH = hidden_of(1).expand(DRAWN, -1)
    expected_V = exact_logs(head, hidden_MH[:1], config.temperature).exp()[0]
    assert expected_V.max() < 0.5 and expected_V.min() * DRAWN * config.draws > 10, "every word is drawn"
    codec = codec_of(config, TEACHER)
    drawn = codec.decode(codec.encode(head, hidden_MH, uniforms_of(DRAWN))).targets
    assert isinstance(drawn, Sampled)
    assert deviation(drawn, config.temperature, expected_V) < 4.5
    likeliest = codec_of(dataclasses.replace(config, kind="topk", bits=16, k=10), TEACHER)
    biased = likeliest.decode(likeliest.encode(head, hidden_MH)).targets
    assert isinstance(biased, TopK)
    left_out = Sampled(
        biased.ids_MK,
        biased.logs_MK1[:, :-1].softmax(-1),
        drawn.entropy_M,
        drawn.best_M,
        config.temperature,
    )
    assert deviation(left_out, config.temperature, expected_V) > 100


def test_the_mean_divergence_over_draws_is_the_dense_one() -> None:
    head, hidden_MH = head_of(), hidden_of(1).expand(DRAWN, -1)
    codec = codec_of(CodecConfig("sampled", draws=10), TEACHER)
    drawn = codec.decode(codec.encode(head, hidden_MH, uniforms_of(DRAWN))).targets
    assert isinstance(drawn, Sampled)
    student_V = torch.randn(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64).log_softmax(-1)
    expected_V = exact_logs(head, hidden_MH[:1])[0]
    dense = (expected_V.exp() * (expected_V - student_V)).sum()
    each_M = -(spread(drawn, 60) * student_V).sum(1) - drawn.entropy_M.double()
    assert abs(each_M.mean() - dense) < 4 * each_M.std() / math.sqrt(DRAWN)
    assert each_M.std() > 0.01
    assert (drawn.best_M == expected_V.argmax()).all()


@pytest.mark.parametrize("config", [c for c in UNBIASED if c.exponent != 1], ids=lambda c: f"{c.bits}_{c.exponent}")
def test_weights_are_rounded_without_bias(config: CodecConfig) -> None:
    """Each word's, in the mean over its draws, is p / (q N); rounded to the nearest it is not."""
    head = head_of(sharpness=1.5)
    hidden_MH = hidden_of(1).expand(DRAWN, -1)
    logs_V = exact_logs(head, hidden_MH[:1], config.temperature)[0]
    exact_V = (logs_V - (config.exponent * logs_V).log_softmax(-1)).exp() / config.draws
    codec = codec_of(config, TEACHER)
    drawn = codec.decode(codec.encode(head, hidden_MH, uniforms_of(DRAWN))).targets
    assert isinstance(drawn, Sampled)
    largest, deviations = drawn.weights_MN.max(), []
    for word, exact in enumerate(exact_V):
        weights_N = drawn.weights_MN[drawn.ids_MN == word].double()
        standard_error = weights_N.std() / math.sqrt(len(weights_N)) + 1e-6 * largest  # fp32 rounds too
        deviations.append(float((weights_N.mean() - exact).abs() / standard_error))
    assert max(deviations) < 4.5
    steps_V = exact_V / largest * (2**config.bits - 1)
    assert (steps_V - steps_V.round()).abs().max() > 0.3, "there is something to round"


def test_words_of_no_probability_are_never_drawn() -> None:
    """Not by the least uniform of all, nor by the largest."""
    bias_V = torch.zeros(60)
    bias_V[[*range(20), *range(40, 60)]] = -200
    head = TeacherHead(lambda hidden_MH: hidden_MH, torch.zeros(60, 24), bias_V)
    codec = codec_of(CodecConfig("sampled", draws=10), TEACHER)
    extremes_M2 = torch.tensor([0.0, 1 - 2**-24])[:, None].expand(2, 2)
    ids_MN = codec.encode(head, hidden_of(2), extremes_M2)["ids"].long()
    assert torch.equal(ids_MN, torch.tensor([[*range(20, 40, 2)], [*range(21, 41, 2)]]))


def test_draws_of_one_weight_are_counts_as_even_as_can_be() -> None:
    """Of N draws a word of probability p gets N p, rounded up or down: less spread than independent draws have."""
    head, hidden_MH = head_of(), hidden_of(300)
    codec = codec_of(CodecConfig("sampled", draws=10), TEACHER)
    drawn = codec.decode(codec.encode(head, hidden_MH, uniforms_of(300))).targets
    assert isinstance(drawn, Sampled)
    due_MV = 10 * exact_logs(head, hidden_MH).exp()
    counts_MV = 10 * spread(drawn, 60)
    assert ((counts_MV - due_MV).abs() < 1 + 1e-5).all()
    assert (counts_MV.sum(1) - 10).abs().max() < 1e-5


@every_codec
def test_a_position_is_kept_the_same_in_any_company(config: CodecConfig) -> None:
    """Numbers so round that no matrix product rounds them: what is left is the codec's own doing."""
    generator = torch.Generator().manual_seed(6)
    weight_VE = torch.randint(-2, 3, (60, 24), generator=generator).float()
    head = TeacherHead(lambda hidden_MH: hidden_MH, weight_VE, torch.zeros(60))
    hidden_MH = torch.randint(-2, 3, (32, 24), generator=generator).float() / 4
    codec = codec_of(config, dataclasses.replace(TEACHER, embedding_size=24))
    uniforms_M2 = uniforms_of(32)
    together = codec.encode(head, hidden_MH, uniforms_M2)
    for rows in ([5], [31, 2, 3], list(range(31, -1, -1))):
        apart = codec.encode(head, hidden_MH[rows], uniforms_M2[rows])
        assert all(torch.equal(apart[name], together[name][rows]) for name in codec.columns)


def test_draws_are_a_function_of_seed_sample_copy_and_position() -> None:
    keys_M, positions_M = np.array([3, 3, 2**63 + 1], np.uint64), np.array([4, 5, 4])
    first = keyed_uniforms(0, keys_M, 0, positions_M)
    assert torch.equal(first, keyed_uniforms(0, keys_M, 0, positions_M))
    assert torch.equal(first[[2, 0]], keyed_uniforms(0, keys_M[[2, 0]], 0, positions_M[[2, 0]]))
    others = [keyed_uniforms(1, keys_M, 0, positions_M), keyed_uniforms(0, keys_M, 1, positions_M)]
    assert len(torch.cat([first, *others]).unique()) == 18, "no two alike"
    many = uniforms_of(100000)
    assert many.dtype == torch.float32 and many.min() >= 0 and many.max() < 1
    # Uniform, and the two of a position independent: mean, variance and correlation within five standard errors.
    assert (many.mean(0) - 0.5).abs().max() < 5 * math.sqrt(1 / 12 / 100000)
    assert abs(torch.corrcoef(many.t())[0, 1]) < 5 / math.sqrt(100000)


@every_codec
def test_codecs_wait_for_no_device_and_never_hold_all_logits(config: CodecConfig) -> None:
    """On the meta device there are shapes and no numbers: whatever asks for one fails."""
    teacher = dataclasses.replace(TEACHER, vocab_size=21128, hidden_size=256, embedding_size=128)
    with torch.device("meta"):
        head, hidden_MH, uniforms_M2 = (
            TeacherHead.of(PretrainingModel(teacher)),
            torch.zeros(5000, 256),
            torch.zeros(5000, 2),
        )
    codec = codec_of(config, teacher)
    with Allocations() as found:
        columns = codec.encode(head, hidden_MH, uniforms_M2)
        decoded = codec.decode(columns, head)
    assert all(len(tensor) == 5000 and tensor.is_meta for tensor in columns.values())
    assert decoded.targets is not None
    assert max(shape.numel() for shape in found.shapes) <= CHUNK < 5000 * 21128


@every_codec
def test_no_positions_are_columns_of_none(config: CodecConfig) -> None:
    codec = codec_of(config, TEACHER)
    columns = codec.encode(head_of(), hidden_of(0), uniforms_of(0))
    assert {name: tensor.shape for name, tensor in columns.items()} == {
        name: (0, *column.shape) for name, column in codec.columns.items()
    }
    codec.decode(columns, head_of())


def test_a_teacher_in_bf16_is_kept_and_comes_back_in_bf16() -> None:
    head, hidden_MH = head_of(), hidden_of(12)
    model_half = TeacherHead(
        lambda h: head.transform(h.float()).bfloat16(), head.weight_VE.bfloat16(), head.bias_V.bfloat16()
    )
    for config in CONFIGS:
        codec = codec_of(config, TEACHER)
        decoded = codec.decode(codec.encode(model_half, hidden_MH.bfloat16(), uniforms_of(12)), model_half)
        student = Distribution.of(exact_logs(head, hidden_MH).float())
        assert torch.isfinite(decoded.targets.score(slice(None), student, 1.0).kl)


def test_what_is_wrong_with_a_config_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="codec: ") as raised:
        CodecConfig("all", 4, k=0, draws=0, exponent=0.0, temperature=math.nan)
    for problem in ("kind 'all'", "bits 4", "k must", "draws must", "exponent 0.0", "temperature nan"):
        assert problem in str(raised.value)
    with pytest.raises(ValueError, match="at exponent 1 there are none: set bits to 16"):
        CodecConfig("sampled", 8)
    with pytest.raises(ValueError, match="k 60 must be below the vocabulary's 60: use head"):
        codec_of(CodecConfig("topk", k=60), TEACHER)


def test_only_hidden_states_supply_losses_of_hidden_states() -> None:
    supplied = {config.kind: codec_of(config, TEACHER).supplies for config in CONFIGS}
    assert supplied.pop("hidden") == {"ce", "hidden"}
    assert set(itertools.chain(*supplied.values())) == {"ce"}
