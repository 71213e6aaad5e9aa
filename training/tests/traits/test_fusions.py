"""Defining traits of fusions that no other system has: MLP-ViL, mPLUG, FIBER."""

import torch
import torch.nn.functional as F
from torch import nn

from support.models import tiny

CLOSE = {"atol": 1e-5, "rtol": 1e-4}
PAIRS = torch.tensor([[0, 0], [1, 1]])


def given(model) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Text tokens, mask and image tokens of two pairs."""
    torch.manual_seed(3)
    ids, mask = torch.randint(4, 900, (2, 5)), torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        return model.encode_texts(ids, mask)[1], mask, model.encode_images(pixels)[1]


def test_a_mixer_mixes_tokens_by_two_matrices_and_pads_with_zeros():
    model = tiny("mixer")
    layer = model.fusion.layers[0]
    places = layer.gather.shape[1]
    x, mask = torch.randn(1, 6, 16), torch.tensor([[1, 1, 1, 1, 1, 0]])
    whole = F.pad(layer.norm1(x) * mask[..., None], (0, 0, 0, places - 6))[0]  # [places, w]
    mixed = layer.spread @ F.gelu(layer.gather @ whole + layer.bias)
    expected = x[0] + mixed[:6]
    expected = expected + layer.down(F.gelu(layer.up(layer.norm2(expected))))
    found = layer(x, mask, torch.zeros(1, 1, 1, 6))
    torch.testing.assert_close(found[0], expected, **CLOSE)
    assert not any("qkv" in name for name, _ in model.fusion.named_parameters())


def test_an_image_skips_the_layers_in_which_words_attend_to_it():
    model = tiny("skip")
    fusion, (text, mask, cells) = model.fusion, given(model)
    into = []
    for cross in fusion.cross[0]:
        cross.register_forward_pre_hook(lambda _, inputs: into.append(inputs[1]))
    joined = []
    fusion.layers[0][-1].register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    x, y = fusion.hidden(text, mask, cells, PAIRS)
    assert len(into) == 2 and torch.equal(into[0], into[1])  # the image is as it was
    n = cells.shape[1]
    torch.testing.assert_close(joined[0][:, :n], into[0])
    assert not torch.allclose(y, into[0], **CLOSE)  # and changes in the connected layer
    changed = fusion.hidden(text.flip(0), mask, cells, PAIRS)[1]
    assert not torch.allclose(changed, y, **CLOSE)
    assert x.shape == (2, 5, 16)


def test_fiber_starts_as_both_encoders_alone_and_opens_gates_to_both_sides():
    model = tiny("gated_both")
    fusion, (text, mask, cells) = model.fusion, given(model)
    with torch.no_grad():
        x, y = fusion.hidden(text, mask, cells, PAIRS)
        alone = model.text.states(text, mask)
        assert torch.equal(x, alone)  # to the bit
        assert torch.equal(y, fusion.hidden(text.flip(0), mask, cells, PAIRS)[1])
        for cross in (*fusion.to_image, *fusion.to_text):
            nn.init.ones_(cross.gate)
        opened = fusion.hidden(text, mask, cells, PAIRS)
        assert not torch.allclose(opened[0], x, **CLOSE)
        assert not torch.allclose(opened[1], y, **CLOSE)
        other = fusion.hidden(text.flip(0), mask, cells, PAIRS)[1]
        assert not torch.allclose(opened[1], other, **CLOSE)
    assert not any("qkv" in name and "layers" not in name for name in fusion.state_dict())
