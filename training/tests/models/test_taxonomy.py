from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from support.models import VIT, shrunk, tiny, with_fusion
from tandem_training.bundle.encoders import BundleEncoders, TorchEncoders
from tandem_training.bundle.graphs import Graphs
from tandem_training.bundle.write import export_bundle
from tandem_training.loop.checkpoint import save
from tandem_training.models.fusion.fusion import Fusion
from tandem_training.models.model import Tandem
from tandem_training.models.registry import PARTS
from tandem_training.models.text.causal import CausalText
from tandem_training.models.vision.vit import VisionTransformer, to_patches

FUSIONS = tuple(PARTS["fusion"])
MEETING = [name for name in FUSIONS if name != "none"]
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def by_pytorch(
    layers: nn.ModuleList, x: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """The same weights in PyTorch's own pre-norm layer."""
    for layer in layers:
        width = x.shape[-1]
        reference = nn.TransformerEncoderLayer(
            width, layer.heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        ).eval()
        reference.self_attn.in_proj_weight, reference.self_attn.in_proj_bias = (
            layer.qkv.weight,
            layer.qkv.bias,
        )
        names = {
            "self_attn.out_proj": layer.out, "linear1": layer.up, "linear2": layer.down,
            "norm1": layer.norm1, "norm2": layer.norm2,
        }  # fmt: skip
        for name, own in names.items():
            reference.get_submodule(name).load_state_dict(own.state_dict())
        x = reference(x, src_mask=mask)
    return x


def test_patches_are_cut_row_by_row():
    pixels = torch.randint(0, 256, (1, 4, 4, 3), dtype=torch.uint8)
    patches = to_patches(pixels, 2)
    for row in range(2):
        for column in range(2):
            cut = (
                pixels[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(-1) / 127.5
                - 1
            )
            torch.testing.assert_close(patches[0, :, row, column], cut)


@pytest.mark.parametrize("split", [0, 1, 2])
def test_the_vit_equals_pytorchs_layers_wherever_it_is_split(split: int):
    torch.manual_seed(0)
    config = shrunk(VisionTransformer.Config(), layers=2, split=split)
    vit = VisionTransformer(config).eval()
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    embedded = vit.embed(to_patches(pixels, 32).flatten(2).transpose(1, 2)) + vit.positions
    expected = vit.norm(by_pytorch(vit.blocks, embedded))
    torch.testing.assert_close(vit.tail(vit.trunk(pixels)), expected, **CLOSE)
    assert len(vit.trunk_parameters()) + len(vit.tail_parameters()) == len(list(vit.parameters()))


def test_the_causal_text_encoder_equals_pytorchs_layers_and_reads_the_last_token():
    torch.manual_seed(0)
    config = shrunk(CausalText.Config(), layers=2)
    text = CausalText(config, 16, vocabulary=30, positions=8).eval()
    ids, mask = torch.randint(30, (2, 5)), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    embedding, tokens = text(ids, mask)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    expected = text.norm(by_pytorch(text.layers, text.embed(ids), causal))
    torch.testing.assert_close(tokens[0], expected[0], **CLOSE)
    torch.testing.assert_close(tokens[1, :3], expected[1, :3], **CLOSE)
    for row, last in ((0, 4), (1, 2)):
        own = nn.functional.normalize(text.project(expected[row, last]), dim=-1)
        torch.testing.assert_close(embedding[row], own, **CLOSE)


def inputs(model: Tandem) -> tuple[torch.Tensor, ...]:
    ids, mask = torch.randint(10, 900, (3, 6)), torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0], [1] * 6])
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    return ids, mask, model.encode_images(pixels)[1]


@pytest.mark.parametrize("fusion", MEETING)
def test_a_pair_scores_the_same_alone_and_unpadded_as_in_a_batch(fusion: str):
    model = tiny(fusion)
    with torch.inference_mode():
        ids, mask, cells = inputs(model)
        pairs = torch.tensor([[t, m] for t in range(3) for m in range(2)])
        logits = model.fusion(model.encode_texts(ids, mask)[1], mask, cells, pairs)
        for logit, (t, m) in zip(logits, pairs.tolist(), strict=True):
            length = int(mask[t].sum())
            own, one = ids[t : t + 1, :length], torch.ones(1, length, dtype=torch.int64)
            alone = model.fusion(
                model.encode_texts(own, one)[1], one, cells[m : m + 1], torch.zeros(1, 2).long()
            )
            torch.testing.assert_close(logit, alone[0], **CLOSE)
    assert float(logits.std()) > 1e-3  # image and text do matter


@pytest.mark.parametrize("fusion", [name for name in MEETING if PARTS["fusion"][name].writes])
def test_a_causal_reading_never_looks_ahead_and_looks_at_the_image(fusion: str):
    model = tiny(fusion)
    with torch.inference_mode():
        ids, mask, cells = inputs(model)
        other = ids.clone()
        other[:, 4:] = 7
        pairs = torch.tensor([[0, 0], [2, 1]])

        def hidden(ids: torch.Tensor, cells: torch.Tensor, causal: bool) -> torch.Tensor:
            return model.fusion.hidden(model.text.embed(ids), mask, cells, pairs, causal)[0]

        torch.testing.assert_close(
            hidden(ids, cells, True)[:, :4], hidden(other, cells, True)[:, :4], **CLOSE
        )
        assert not torch.allclose(
            hidden(ids, cells, False)[:, :4], hidden(other, cells, False)[:, :4], **CLOSE
        )
        assert not torch.allclose(
            hidden(ids, cells, True)[:, 0], hidden(ids, cells.flip(0), True)[:, 0], **CLOSE
        )


def test_inserted_attention_of_zero_weights_gives_the_text_encoders_states():
    model = tiny("inserted_attention")
    for cross in model.fusion.cross:
        nn.init.zeros_(cross.out.weight)
        nn.init.zeros_(cross.out.bias)
    with torch.inference_mode():
        ids, mask, cells = inputs(model)
        pairs = torch.tensor([[0, 0], [2, 1]])
        text = model.encode_texts(ids, mask)[1]
        hidden, _ = model.fusion.hidden(text, mask, cells, pairs)
        torch.testing.assert_close(hidden, model.text(ids, mask)[1][[0, 2]], **CLOSE)
        model.fusion.load_published()
        causal, _ = model.fusion.hidden(text, mask, cells, pairs, causal=True)
        assert not torch.allclose(causal, hidden, **CLOSE)
    assert not any("text" in name for name, _ in model.fusion.named_parameters())


@pytest.mark.parametrize(
    ("text", "fusion"),
    [("bert", name) for name in FUSIONS]
    + [("causal", name) for name in FUSIONS if "text.layers" not in PARTS["fusion"][name].needs],
)
def test_every_fusion_exports_as_the_bundles_three_graphs(
    text: str, fusion: str, tokenizer, tmp_path: Path
):
    model = tiny(fusion, text=text)
    save(tmp_path / "model.pt", model.checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    manifest = export_bundle(
        tmp_path / "model.pt", tmp_path / "tiny", tmp_path / "tokenizer.json", "", "1.0.0"
    )
    assert manifest["rerank"]["default"] == (fusion != "none")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    pairs = np.array([[t, m] for t in range(2) for m in range(3)])
    bundle = BundleEncoders(tmp_path / "tiny")
    reference = TorchEncoders(Graphs.of(model), tokenizer, bfloat16=False)
    (embedding, cells), (expected, expected_cells) = (
        side.images(pixels) for side in (bundle, reference)
    )
    np.testing.assert_allclose(embedding, expected, atol=1e-3)
    if not cells.size:
        return
    assert np.abs(cells.astype(int) - expected_cells).max() <= 1  # one step, where it is rounded
    texts = [side.texts(["a red square", "one bar that is blue"]) for side in (bundle, reference)]
    np.testing.assert_allclose(texts[0][0], texts[1][0], atol=1e-3)
    logits, expected = (side.logits(texts[0][1], cells, pairs) for side in (bundle, reference))
    np.testing.assert_allclose(logits, expected, atol=0.02)


@pytest.mark.parametrize("fusion", ["single_stream", "patch_stream", "dual_stream"])
def test_a_fusion_that_gives_image_states_has_one_a_cell(fusion: str):
    model = tiny(fusion)
    assert "fusion.image" in model.config.gives()
    with torch.inference_mode():
        ids, mask, cells = inputs(model)
        text = model.encode_texts(ids, mask)[1]
        states, image = model.fusion.hidden(text, mask, cells, torch.tensor([[0, 0], [2, 1]]))
    assert states.shape == (2, 6, 16) and image.shape == (2, model.cells, 16)


@pytest.mark.parametrize("role", PARTS)
def test_every_part_has_the_contract_of_its_role(role: str):
    for name, part in PARTS[role].items():
        config = part.Config()
        assert (part.role, part.name, config.kind) == (role, name, name)
        assert config == part.Config(**{k: v for k, v in config.table().items() if k != "kind"})
        for key in set(config.table()) - {"kind"}:
            with pytest.raises(AttributeError):
                setattr(config, key, 3)
        assert issubclass(part, Fusion) == (role == "fusion")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda: with_fusion("patch_stream",
                             base=replace(VIT, vision=replace(VIT.vision, split=1))),
         r"\[fusion\] kind = 'patch_stream' needs 'image.patches', which no part gives; "
         r"\[vision\] kind = 'vit' would"),
        (lambda: with_fusion("inserted_attention", "causal"),
         r"needs 'text.layers', which no part gives; \[text\] kind = 'bert' would"),
        (lambda: replace(VIT.text, heads=5), "width = 24 is no multiple of heads = 5"),
        (lambda: replace(VIT.vision, patch=30), "image_size = 64 is no multiple of patch = 30"),
        (lambda: replace(VIT.vision, split=4), "split = 4; a ViT of 1 layers splits at 0 to 1"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_built_is_refused_in_a_sentence(changes, message: str):
    with pytest.raises(ValueError, match=message):
        Tandem(changes())
