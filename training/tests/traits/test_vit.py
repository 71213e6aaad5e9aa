"""Defining traits of the systems whose fusion reads a grid or patches."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support.models import FILES, TINY, small, step_of, with_fusion
from tandem_training.models import weights
from tandem_training.models.layers import attention_bias
from tandem_training.models.model import Tandem
from tandem_training.objectives.language import mask_tokens, mlm_loss
from tandem_training.objectives.matching import (
    Matching,
    binary_loss,
    match_another,
    match_logits,
    negatives_of,
)
from tandem_training.objectives.registry import losses

CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def model_of(name: str) -> Tandem:
    torch.manual_seed(0)
    return Tandem(small(name, FILES[name]).model).eval()


def texts_and_cells(model: Tandem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids, mask = torch.randint(4, 900, (2, 5)), torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    return ids, mask, model.encode_images(pixels)[1]


PAIRS = torch.tensor([[0, 0], [1, 1]])


def minilm_of(model: Tandem, layers: int) -> dict[str, torch.Tensor]:
    """A Hugging Face checkpoint of so many layers of the model's sizes."""
    width, hidden = model.text.width, 4 * model.text.width
    shapes = {
        "attention.self.query": (width, width), "attention.self.key": (width, width),
        "attention.self.value": (width, width), "attention.output.dense": (width, width),
        "attention.output.LayerNorm": (width,), "intermediate.dense": (hidden, width),
        "output.dense": (width, hidden), "output.LayerNorm": (width,),
    }  # fmt: skip
    state = {
        "embeddings.word_embeddings.weight": torch.randn(30522, width),
        "embeddings.token_type_embeddings.weight": torch.randn(2, width),
        "embeddings.position_embeddings.weight": torch.randn(512, width),
        "embeddings.LayerNorm.weight": torch.randn(width),
        "embeddings.LayerNorm.bias": torch.randn(width),
    }
    for i in range(layers):
        for name, shape in shapes.items():
            state[f"encoder.layer.{i}.{name}.weight"] = torch.randn(shape)
            state[f"encoder.layer.{i}.{name}.bias"] = torch.randn(shape[0])
    return state


def test_albefs_fusion_is_the_upper_half_of_the_text_encoders_bert(monkeypatch):
    config = with_fusion("cross_attention", base=TINY)
    config = replace(config, text=replace(config.text, layers=2),
                     fusion=replace(config.fusion, layers=2, gate=True))  # fmt: skip
    model, whole = Tandem(config), Tandem(replace(config, text=replace(config.text, layers=4)))
    state = minilm_of(model, 4)
    monkeypatch.setattr(weights, "minilm", lambda: state)
    for part in (model.text, model.fusion, whole.text):
        part.load_published()
    ids, mask, cells = texts_and_cells(model.eval())
    tokens = model.encode_texts(ids, mask)[1]
    states, _ = model.fusion.hidden(tokens, mask, cells, PAIRS)
    torch.testing.assert_close(states, whole.eval().text(ids, mask)[1], **CLOSE)
    for cross in model.fusion.cross:
        nn.init.ones_(cross.gate)
    opened, _ = model.fusion.hidden(tokens, mask, cells, PAIRS)
    assert not torch.allclose(opened, states, **CLOSE)
    with pytest.raises(ValueError, match="layers = 3 .* the checkpoint has 4 for both"):
        deep = replace(config, text=replace(config.text, layers=3))
        Tandem(deep).fusion.load_published()


def test_image_tokens_reach_a_fusion_at_the_length_that_layer_norm_gives():
    model = model_of("albef")
    ids, mask, cells = texts_and_cells(model)
    read = []
    model.fusion.cross[0].kv.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    model.fusion.hidden(model.encode_texts(ids, mask)[1], mask, cells, PAIRS)
    assert float(read[0].std()) == pytest.approx(1, rel=0.05)
    assert float(cells.norm(dim=-1).mean()) == pytest.approx(1, rel=1e-4)


def test_the_binary_loss_of_albef_weighs_every_pair_alike():
    torch.manual_seed(0)
    positive, images, texts = torch.randn(4), torch.randn(4, 1), torch.randn(4, 1)
    logits = torch.cat([positive, images[:, 0], texts[:, 0]])
    labels = torch.cat([torch.ones(4), torch.zeros(8)])
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(binary_loss(positive, images, texts), expected)


def test_the_share_of_the_momentum_encoder_rises_and_moves_mlm():
    model = model_of("albef")
    options = {"soft_mix": 0.4, "soft_rise": 4}
    step = step_of(model, mlm=options, itc={"queue": 8} | options)
    shares = [replace(step, number=n).taught(0.4, 4) for n in (0, 1, 2, 4, 9)]
    assert shares == pytest.approx([0, 0.1, 0.2, 0.4, 0.4])
    # A teacher that is sure of another word.
    torch.manual_seed(0)
    logits, ids = torch.randn(3, 6), torch.tensor([[1, 2, 3]])
    chosen, soft = torch.ones(1, 3, dtype=torch.bool), torch.randn(3, 6).softmax(1)
    hard = F.cross_entropy(logits, ids[0])
    distilled = -(soft * logits.log_softmax(1)).sum(1).mean()
    loss = mlm_loss(logits, ids, chosen, soft, 0.4)["loss"]
    torch.testing.assert_close(loss, 0.6 * hard + 0.4 * distilled)


def test_the_momentum_encoder_of_mlm_takes_no_gradient():
    model, average = model_of("albef"), model_of("albef")
    step = step_of(model, mlm={"soft_mix": 1.0})
    step_of(average, mlm={"soft_mix": 1.0})
    losses(replace(step, average=average))["loss"].backward()
    assert all(p.grad is None for p in average.parameters())
    assert model.fusion.layers[0].qkv.weight.grad.any()


def test_blip_marks_reading_and_writing_and_shares_all_but_the_self_attention():
    model = model_of("blip")
    ids, mask, cells = texts_and_cells(model)
    words = model.text.embed(ids)

    def states(causal: bool) -> torch.Tensor:
        return model.fusion.hidden(words, mask, cells, PAIRS, causal)[0]

    before = states(False), states(True)
    nn.init.ones_(model.fusion.modes[1:])  # [Decode]
    torch.testing.assert_close(states(False), before[0])
    assert not torch.allclose(states(True), before[1], **CLOSE)
    model.zero_grad()
    states(True).sum().backward()
    layer = model.text.layers[0]
    assert layer.qkv.weight.grad is None and layer.up.weight.grad.any()
    assert model.fusion.decoder[0].qkv.weight.grad.any()


def test_both_streams_of_meter_attend_to_the_state_before_the_layer_and_are_pooled():
    model = model_of("meter")
    fusion = model.fusion
    ids, mask, cells = texts_and_cells(model)
    text = model.encode_texts(ids, mask)[1]
    x, bias = fusion.text_in(text), attention_bias(mask)
    y = fusion.image_in(cells * cells.shape[-1] ** 0.5) + fusion.positions
    for own, other in zip(fusion.text_layers, fusion.image_layers, strict=True):
        after_text = own(x, bias, y)
        y = other(y, None, x, bias)
        x = after_text
        assert own.up.out_features == 4 * fusion.width and own.order == ["self", "cross", "feed"]
    x, y = fusion.text_norm(x), fusion.image_norm(y)
    states = fusion.hidden(text, mask, cells, PAIRS)
    torch.testing.assert_close(states, (x, y), **CLOSE)
    joint = torch.cat([fusion.pools["text"](x[:, 0]), fusion.pools["image"](y.mean(1))], 1).tanh()
    logits = fusion(text, mask, cells, PAIRS)
    torch.testing.assert_close(logits, fusion.head(joint)[:, 0], **CLOSE)


def test_itc_teaches_nothing_that_meter_is_made_of_but_the_companions_projections():
    model = model_of("meter")
    losses(step_of(model, itc={"soft_mix": 0.0}))["loss"].backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached and all(
        n.startswith(("pooler.", "text.project.", "logit_scale")) for n in reached
    )
    assert not any(n.startswith("pooler.tokens.") for n in reached)


def test_a_bare_stream_shares_only_the_word_embedding_with_its_companion():
    model = model_of("vilt")
    losses(step_of(model, itc={"soft_mix": 0.0}))["loss"].backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert "text.layers.0.qkv.weight" in reached and "vision.embed.weight" in reached
    assert not any(n.startswith(("fusion.", "text.words", "text.positions")) for n in reached)


def test_random_negatives_ignore_similarity_and_semi_hard_ones_stay_below_the_match():
    model = model_of("albef")
    step = step_of(model, itc={"soft_mix": 0.0}, itm=1.0)
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
    similarity = torch.full((6, 6), -0.5)
    similarity.fill_diagonal_(0.5)
    similarity[:, 0], similarity[:, 1] = 0.9, 0.4  # image 0 is nearer than the match, 1 below it
    step.similarity = lambda: similarity
    drawn = {}
    for draw in ("hard", "random", "semi"):
        counts = torch.zeros(6)
        for seed in range(200):
            step.generator.manual_seed(seed)
            step.shared.clear()
            images, _ = negatives_of(step, Matching.Options(negatives=1, draw=draw))
            counts += torch.bincount(images[2:].flatten(), minlength=6)
        drawn[draw] = counts / counts.sum()
    assert drawn["hard"][0] > 0.9
    assert drawn["random"][0] == pytest.approx(0.2, abs=0.05)
    assert drawn["semi"][0] == 0 and drawn["semi"][1] > 0.9


def test_a_text_that_another_image_has_too_is_no_mismatch():
    ids, texts = torch.arange(3), torch.tensor([[2, 5, 3], [2, 6, 3], [2, 5, 3]])
    assert match_another(ids, texts).tolist() == [
        [False, True, False],
        [True, False, True],
        [False, True, False],
    ]


def test_with_weigh_half_a_text_has_one_image_its_own_with_probability_one_half():
    model = model_of("vilt")
    step = step_of(model, itc={"soft_mix": 0.0}, itm={"weigh": "half", "draw": "random"})
    seen = []
    monitored = model.fusion.forward
    model.fusion.forward = lambda *inputs: seen.append(inputs[3]) or monitored(*inputs)
    for seed in range(40):
        step.generator.manual_seed(seed)
        step.shared.clear()
        losses(step)
    pairs = torch.cat(seen)
    assert len(pairs) == 40 * 6
    assert float((pairs[:, 0] == pairs[:, 1]).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_whole_words_are_hidden_with_all_their_pieces():
    ids = torch.arange(4, 12).repeat(300, 1)
    starts = torch.tensor([1, 1, 0, 0, 1, 1, 0, 1], dtype=torch.bool).repeat(300, 1)
    random = torch.Generator().manual_seed(0)
    maskable = torch.ones_like(starts)
    _, chosen = mask_tokens(ids, maskable, 3, 20, 0.3, random, starts)
    assert torch.equal(chosen[:, 1], chosen[:, 2]) and torch.equal(chosen[:, 1], chosen[:, 3])
    assert torch.equal(chosen[:, 5], chosen[:, 6])
    assert not torch.equal(chosen[:, 0], chosen[:, 1])
    assert float(chosen.float().mean()) == pytest.approx(0.3, abs=0.03)
    _, pieces = mask_tokens(ids, maskable, 3, 20, 0.3, random)
    assert not torch.equal(pieces[:, 1], pieces[:, 2])


def test_loopitrs_fusion_teaches_the_encoders_and_learns_nothing_from_it():
    model = model_of("loopitr")
    nn.init.normal_(model.fusion.head.weight)
    step = step_of(model, itc={"soft_mix": 0.0}, distil={"negatives": 2})
    loss = model.objectives["distil"].loss(step)["distil"]
    positive, images, texts = match_logits(step, model.objectives["distil"].options)
    drawn = negatives_of(step, model.objectives["distil"].options)
    scaled, expected = step.similarity() * model.logit_scale.exp(), 0.0
    for similarity, rows, logits in ((scaled, drawn[0], images), (scaled.T, drawn[1], texts)):
        for i in range(6):
            own = torch.stack([similarity[i, i], *similarity[i, rows[i]]]).log_softmax(0)
            guide = torch.cat([positive[i : i + 1], logits[i]]).softmax(0)
            expected -= float((guide * own).sum()) / 12
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.fusion.parameters())
    assert model.text.project.weight.grad.any() and model.pooler.mean.weight.grad.any()
