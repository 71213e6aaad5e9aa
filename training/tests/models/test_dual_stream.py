"""Co-attention: order of steps, what both directions share, where the logit is read."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.regions import prepared_step, region_model
from tandem_training.models.layers import CrossLayer

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
ORDERS = ("self,cross,feed", "cross,self,feed", "cross,feed,self,feed")


def attention(q: Tensor, kv: Tensor, heads: int) -> Tensor:
    """One head and one query at a time."""
    k, v = kv.chunk(2, -1)
    size, rows = q.shape[-1] // heads, []
    for p in range(len(q)):
        for t in range(q.shape[1]):
            parts = []
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                weights = (k[p, :, own] @ q[p, t, own] / size**0.5).softmax(0)
                parts.append(weights @ v[p, :, own])
            rows.append(torch.cat(parts))
    return torch.stack(rows).view_as(q)


@pytest.mark.parametrize("order", ORDERS)
def test_the_steps_of_a_layer_come_in_the_order_of_the_paper(order: str):
    torch.manual_seed(0)
    layer = CrossLayer(8, 2, 8, 0.0, order, ratio=4)
    x, other = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    found, y = layer(x, None, other), x
    feeds = [(layer.up, layer.down)]
    if order.count("feed") == 2:
        feeds.append((layer.second_up, layer.second_down))
    for step, norm in zip(order.split(","), layer.norms, strict=True):
        z = norm(y)
        if step == "self":
            q, kv = layer.self_qkv(z).split([8, 16], -1)
            z = layer.self_out(attention(q, kv, 2))
        elif step == "cross":
            z = layer.cross_out(attention(layer.cross_q(z), layer.cross_kv(other), 2))
        else:
            up, down = feeds.pop(0)
            z = down(F.gelu(up(z)))
        y = y + z
    assert not feeds
    torch.testing.assert_close(found, y, **CLOSE)


def logit_of(model, step) -> tuple[Tensor, Tensor, Tensor]:
    row = torch.arange(6)
    given = (step.features["text.tokens"], step.batch.whole["text.mask"],
             step.features["image.tokens"], torch.stack([row, row], 1))  # fmt: skip
    return model.fusion(*given), *model.fusion.hidden(*given)


@pytest.mark.parametrize("match", ["mean", "first", "product"])
def test_the_logit_is_read_from_what_the_recipe_says(match: str):
    model = region_model("dual_stream", match=match, pooled=True, text_before=1, image_before=1)
    logit, text, image = logit_of(model, prepared_step(model, itm=1.0))
    pools = model.fusion.pools
    first = pools["text"](text[:, 0]).tanh()
    if match == "first":
        joint = first
    elif match == "product":
        joint = first * pools["image"](image[:, 0]).tanh()
    else:
        joint = torch.cat([first, pools["image"](image.mean(1)).tanh()], 1)
    torch.testing.assert_close(logit, model.fusion.head(joint)[:, 0])


def test_a_shared_cross_attention_is_one_tensor_and_all_else_is_two():
    model = region_model("dual_stream", order="cross,self,feed", shared_cross=True)
    (text,), (image,) = model.fusion.text_layers, model.fusion.image_layers
    for name in ("cross_q", "cross_kv", "cross_out"):
        assert getattr(text, name).weight is getattr(image, name).weight
    for name in ("self_qkv", "self_out", "up", "down"):
        assert getattr(text, name).weight is not getattr(image, name).weight
    prepared = prepared_step(model, itm=1.0)
    before = logit_of(model, prepared)[0]
    with torch.no_grad():
        image.cross_out.weight.mul_(3)
    text_states = logit_of(model, prepared)
    assert not torch.allclose(text_states[0], before)


def test_both_streams_read_the_others_state_before_the_layer():
    model = region_model("dual_stream", order="cross,feed,self,feed")
    seen = {}
    for side in ("text", "image"):
        layer = getattr(model.fusion, f"{side}_layers")[0]
        layer.register_forward_pre_hook(lambda _, given, side=side: seen.update({side: given}))
    logit_of(model, prepared_step(model, itm=1.0))
    assert torch.equal(seen["text"][0], seen["image"][2])
    assert torch.equal(seen["image"][0], seen["text"][2])


def test_layers_of_one_modality_come_before_those_that_meet():
    model = region_model("dual_stream", text_before=2, image_before=1)
    assert (len(model.fusion.text_alone), len(model.fusion.image_alone)) == (2, 1)
    step = prepared_step(model, itm=1.0)
    before = logit_of(model, step)[0]
    nn.init.normal_(model.fusion.image_alone[0].down.weight)
    assert not torch.allclose(logit_of(model, step)[0], before)
