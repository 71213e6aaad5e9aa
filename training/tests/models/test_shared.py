"""What defines the systems with a shared backbone. Sections are of the papers named beside."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from support.models import shrunk, with_fusion
from tandem_training.models.model import ModelConfig, Tandem
from tandem_training.models.shared_stack import SharedStack
from tandem_training.models.vision.shared import SharedVision, sample_cells

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def shared(experts: str, joint_layers: int = 1, layers: int = 2, **vision) -> Tandem:
    torch.manual_seed(0)
    config: ModelConfig = with_fusion("shared")
    vision = {"experts": experts, "joint_layers": joint_layers, "dropout": 0.0} | vision
    config = replace(
        config,
        vision=replace(config.vision, layers=layers, **vision),
        text=replace(config.text, dropout=0.0),
    )
    model = Tandem(config)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):  # so that two norms can be told apart
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model


def inputs(model: Tandem) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and mask of three texts of six tokens, pixels of two images."""
    ids, mask = torch.randint(4, 14, (3, 6)), torch.ones(3, 6, dtype=torch.int64)
    mask[1, 4:] = 0
    return ids, mask, torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)


def reached(model: Tandem, output: Tensor) -> set[str]:
    """Names of the stack's parameters that a loss on the output moves."""
    model.zero_grad()
    (output.float() ** 2).sum().backward()
    stack = model.vision.stack.named_parameters()
    return {name for name, p in stack if p.grad is not None and p.grad.any()}


def by_side(model: Tandem) -> dict[str, set[str]]:
    """The same for an image, a text and a pair of both."""
    ids, mask, pixels = inputs(model)
    tokens = model.vision.tokens(model.vision.trunk(pixels)).detach()
    words = model.text.embed(ids).detach()
    pairs = torch.tensor([[0, 0], [1, 1]])
    return {
        "image": reached(model, model.vision.states(tokens)),
        "text": reached(model, model.text(ids, mask)[1]),
        "both": reached(model, torch.cat(model.fusion.hidden(words, mask, tokens, pairs), 1)),
    }


def test_ufo_reads_images_texts_and_pairs_through_the_same_tensors():
    """UFO (arXiv:2111.10023), section 3.1: one transformer for both inputs and their sequence."""
    model = shared("none")
    every = {name for name, _ in model.vision.stack.named_parameters()}
    sides = by_side(model)
    assert sides["image"] == sides["text"] == sides["both"] == every
    assert not any("stack" in name for name, _ in model.text.named_parameters())
    assert not any("stack" in name for name, _ in model.fusion.named_parameters())


def test_ms_clip_shares_all_but_the_layer_norms():
    """MS-CLIP (arXiv:2207.12661), section 3.1: attention and feed-forward are shared, layer norms
    and the projections at both ends are not."""
    sides = by_side(shared("norm", joint_layers=0))
    common = sides["image"] & sides["text"]
    assert common and all("qkv" in n or "out" in n or "feed" in n for n in common)
    for side, other in (("image", "text"), ("text", "image")):
        own = sides[side] - sides[other]
        assert own and all("norm" in n and f".{side}." in n for n in own)
    assert "norm.image.weight" in sides["image"]


def test_vlmo_has_a_feed_forward_a_side_and_one_for_pairs_in_the_top_layers():
    """VLMo (arXiv:2111.02358), section 3.2: V-FFN, L-FFN, and VL-FFN in the top F layers alone."""
    sides = by_side(shared("feed", joint_layers=1, layers=3))
    feeds = {
        side: {name.split(".")[1] + "." + name.split(".")[3] for name in names if "feed" in name}
        for side, names in sides.items()
    }
    assert feeds["image"] == {"0.image", "1.image", "2.image"}
    assert feeds["text"] == {"0.text", "1.text", "2.text"}
    assert feeds["both"] == {"0.image", "1.image", "0.text", "1.text", "2.both"}
    attention = [{n for n in names if "qkv" in n or ".out." in n} for names in sides.values()]
    assert attention[0] == attention[1] == attention[2] != set()


@pytest.mark.parametrize(("experts", "joint_layers"), [("none", 0), ("norm", 0), ("feed", 1)])
def test_each_token_of_a_pair_goes_through_the_experts_of_its_side(experts, joint_layers):
    torch.manual_seed(0)
    stack = SharedStack(8, 2, 2, 0.0, experts, joint_layers).eval()
    for p in stack.parameters():
        nn.init.normal_(p, std=0.3)
    x, n = torch.randn(1, 5, 8), 3

    def expert(modules: nn.ModuleDict, token: int) -> nn.Module:
        for name in ("all", "both", "image" if token < n else "text"):
            if name in modules:
                return modules[name]

    slow = x[0]
    for layer in stack.layers:
        y = torch.stack([expert(layer.norm1, i)(slow[i]) for i in range(5)])
        q, k, v = layer.qkv(y).split(8, -1)
        mixed = torch.zeros(5, 8)
        for head in (slice(0, 4), slice(4, 8)):
            for i in range(5):
                weight = torch.stack([q[i, head] @ k[j, head] / 2 for j in range(5)]).softmax(0)
                mixed[i, head] = sum(weight[j] * v[j, head] for j in range(5))
        slow = slow + layer.out(mixed)
        fed = [expert(layer.feed, i)(expert(layer.norm2, i)(slow[i])) for i in range(5)]
        slow = slow + torch.stack(fed)
    slow = torch.stack([expert(stack.norm, i)(slow[i]) for i in range(5)])
    torch.testing.assert_close(stack(x, None, "both", n)[0], slow, **CLOSE)


def test_the_fusion_reads_a_stored_image_as_the_vision_encoder_reads_it():
    model = shared("none").eval()
    ids, mask, pixels = inputs(model)
    with torch.no_grad():
        _, stored = model.encode_images(pixels)
        words = model.text.embed(ids)
        # Every word hidden: what is left is the image alone.
        nothing, pairs = torch.zeros_like(mask), torch.tensor([[0, 0], [0, 1]])
        _, image = model.fusion.hidden(words, nothing, stored, pairs)
        torch.testing.assert_close(image, model.vision(pixels), **CLOSE)
        torch.testing.assert_close(stored.norm(dim=-1), torch.ones(2, model.cells))


@pytest.mark.parametrize("causal", [False, True])
def test_a_causal_text_is_embedded_by_its_last_token_and_another_by_its_first(causal: bool):
    model = shared("norm", joint_layers=0).eval()
    model.text.causal = causal
    ids, mask, _ = inputs(model)
    later = ids.clone()
    later[:, 3] = 20
    with torch.no_grad():
        (before, tokens), (after, others) = model.text(ids, mask), model.text(later, mask)
    assert torch.allclose(tokens[:, :3], others[:, :3], **CLOSE) == causal
    assert not torch.allclose(before, after, **CLOSE)
    rows = torch.tensor([5, 3, 5]) if causal else torch.zeros(3, dtype=torch.int64)
    read = model.text.project(tokens[torch.arange(3), rows])
    torch.testing.assert_close(before, nn.functional.normalize(read, dim=-1), **CLOSE)


def test_vatt_drops_half_of_the_cells_in_training_alone():
    """VATT (arXiv:2104.11178), section 3.3, DropToken."""
    torch.manual_seed(0)
    config = shrunk(SharedVision.Config(drop_tokens=0.5), image_size=128)
    vision, pixels = SharedVision(config), torch.zeros(3, 128, 128, 3, dtype=torch.uint8)
    assert vision.train()(pixels).shape[1] == 8
    assert vision.eval()(pixels).shape[1] == 16
    cells = torch.arange(16.0)[None, :, None].expand(64, 16, 2)
    kept = sample_cells(cells, 0.5)[..., 0]
    assert all(len(set(row.tolist())) == 8 for row in kept)  # none twice
    assert len({tuple(row.tolist()) for row in kept}) > 60  # each image its own
    assert set(kept.flatten().tolist()) == set(range(16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": {"width": 32}}, r"\[text\] width = 32; the stack of \[vision\] has width = 24"),
        ({"vision": {"split": 1}}, "split = 1, drop_tokens = 0.0; expected split = 0"),
        ({"vision": {"image_size": 65}}, "image_size = 65 is no multiple of patch = 32"),
        ({"vision": {"experts": "both"}}, "experts = 'both'; expected one of none, norm, feed"),
    ],
)
def test_a_shared_model_that_cannot_be_built_is_refused_in_a_sentence(changes, message: str):
    config = with_fusion("shared")
    with pytest.raises(ValueError, match=message):
        Tandem(replace(config, **{r: replace(getattr(config, r), **c) for r, c in changes.items()}))
