"""What defines fusions that write. Sections are of the papers named beside."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from support.models import tiny, with_fusion
from tandem_training.models.fusion.writer import Writer
from tandem_training.models.layers import merged_bias
from tandem_training.models.model import Tandem
from tandem_training.models.registry import PARTS

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
PARTS_OF = PARTS["fusion"].items()
WRITERS = [n for n, part in PARTS_OF if issubclass(part, Writer) and part.extra_width]
PREFIXED = [n for n in WRITERS if "fusion.prefix" in PARTS["fusion"][n].gives]


def inputs(model: Tandem) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids and mask of three texts of six tokens, their tokens, those of three images."""
    ids, mask = torch.randint(4, 30000, (3, 6)), torch.ones(3, 6, dtype=torch.int64)
    mask[1, 4:] = 0
    pixels = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    return ids, mask, model.encode_texts(ids, mask)[1], model.encode_images(pixels)[1]


@pytest.mark.parametrize("fusion", WRITERS)
def test_the_logit_is_the_mean_log_likelihood_of_the_words_one_by_one(fusion: str):
    model = tiny(fusion)
    nn.init.ones_(model.fusion.head.weight)
    with torch.inference_mode():
        ids, mask, tokens, cells = inputs(model)
        assert torch.equal(model.fusion.ids(tokens.half()), ids)  # exact in float16
        pairs = torch.tensor([[0, 0], [1, 2], [2, 1]])
        logits = model.fusion(tokens, mask, cells, pairs)
        for logit, (t, m) in zip(logits, pairs.tolist(), strict=True):
            length, total = int(mask[t].sum()), 0.0
            for i in range(1, length):  # what stands behind the word is not there at all
                one = torch.ones(1, i, dtype=torch.int64)
                before = model.encode_texts(ids[t : t + 1, :i], one)[1]
                row = torch.zeros(1, 2, dtype=torch.int64)
                states = model.fusion.write(before, one, cells[m : m + 1], row)
                words = model.fusion.word_head(states[0, -1], model.text.words)
                total += words.log_softmax(0)[ids[t, i]]
            torch.testing.assert_close(logit, total / (length - 1), **CLOSE)


def test_the_prior_takes_off_the_likelihood_without_the_image():
    model = tiny("merged_decoder")
    with torch.inference_mode():
        _, mask, tokens, cells = inputs(model)
        pairs = torch.tensor([[0, 0], [1, 2], [0, 2]])
        score = model.fusion.likelihood(tokens, mask, cells, pairs)
        blank = model.fusion.likelihood(tokens, mask, torch.zeros_like(cells), pairs)
        model.fusion.prior = 0.5
        weight, bias = model.fusion.head.weight[0, 0], model.fusion.head.bias[0]
        expected = (score - 0.5 * blank) * weight + bias
        torch.testing.assert_close(model.fusion(tokens, mask, cells, pairs), expected, **CLOSE)


@pytest.mark.parametrize("fusion", PREFIXED)
def test_words_of_the_prefix_see_each_other_and_later_ones_what_stands_before(fusion: str):
    """SimVLM (arXiv:2108.10904), section 3.1: both directions in image and prefix, then one. What
    the loss reads are the states from the prefix's last word on."""
    model = tiny(fusion)
    with torch.inference_mode():
        _, mask, tokens, cells = inputs(model)
        mask[1] = 1
        row, prefix = torch.arange(3), torch.tensor([3, 1, 4])
        pairs = torch.stack([row, row], 1)
        states = model.fusion.write(tokens, mask, cells, pairs, prefix)
        for text, known in enumerate(prefix.tolist()):
            for place in range(6):
                other = tokens.clone()
                other[text, place, : model.text.width] += torch.randn(model.text.width)
                changed = model.fusion.write(other, mask, cells, pairs, prefix)
                same = (changed[text] - states[text]).abs().amax(1) < 1e-5
                if place >= known:  # a later word: nothing before it changes
                    assert same[:place].all() and not same[place:].any()
                else:  # a word of the prefix: all that the loss reads changes
                    assert not same[known - 1 :].any()
        other = model.fusion.write(tokens, mask, cells.flip(0), pairs, prefix)
        assert not torch.isclose(other[0], states[0], **CLOSE).all(1).any()


@pytest.mark.parametrize("fusion", PREFIXED)
def test_a_prefix_of_the_first_word_is_none(fusion: str):
    """So training on prefixes fits what a search computes, the likelihood of the whole text."""
    model = tiny(fusion)
    with torch.inference_mode():
        _, mask, tokens, cells = inputs(model)
        row = torch.arange(3)
        pairs = torch.stack([row, row], 1)
        # Of an encoder the first word is no part, of a merged stream it is a word as any.
        one = torch.zeros(3, dtype=torch.int64)
        torch.testing.assert_close(
            model.fusion.write(tokens, mask, cells, pairs, one),
            model.fusion.write(tokens, mask, cells, pairs), **CLOSE,
        )  # fmt: skip


def test_the_mask_of_git_is_that_of_seq2seq():
    """GIT (arXiv:2205.14100), section 3.1, figure 3, cell by cell."""
    mask, n = torch.tensor([[1, 1, 1, 0]]), 2
    bias = merged_bias(mask, n, causal=True).expand(1, 1, 6, 6)[0, 0]
    for query in range(6):
        for key in range(6):
            sees = key < n or (n <= key <= query and mask[0, key - n] > 0)
            assert (bias[query, key] == 0) == sees


def test_the_lower_half_of_coca_sees_no_image_and_its_last_word_is_embedded():
    """CoCa (arXiv:2205.01917), section 3.2: unimodal layers without cross-attention, then
    multimodal ones; one causal pass gives the embedding and the captioner's states."""
    model = tiny("causal_decoder").train()
    assert not any("cross" in name for name, _ in model.text.named_parameters())
    assert all(hasattr(layer, "cross_kv") for layer in model.fusion.layers)
    ids, mask, pixels = torch.randint(4, 14, (2, 5)), torch.ones(2, 5, dtype=torch.int64), None
    calls = []
    model.text.layers[0].register_forward_hook(lambda *_: calls.append(1))
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    inputs = {"image.activations": model.vision.trunk(pixels), "text.ids": ids, "text.mask": mask}
    features = model(inputs)
    pairs = torch.tensor([[0, 0], [1, 1]])
    states, _ = model.fusion.hidden(features["text.tokens"], mask, features["image.tokens"], pairs,
                                    causal=True)  # fmt: skip
    (features["text.embedding"].sum() + states.square().sum()).backward()
    assert len(calls) == 1  # one pass for both
    changed = ids.clone()
    changed[:, -1] = 20
    with torch.no_grad():
        model.eval()
        before, after = model.text(ids, mask), model.text(changed, mask)
        torch.testing.assert_close(before[1][:, :-1], after[1][:, :-1])
        assert not torch.allclose(before[0], after[0], **CLOSE)


def test_closed_gates_leave_the_language_model_as_it_is_to_the_bit():
    """Flamingo (arXiv:2204.14198), section 2.2: tanh(0) = 0."""
    torch.manual_seed(0)
    config = with_fusion("gated_decoder")
    model = Tandem(replace(config, text=replace(config.text, layers=2, dropout=0.0))).eval()
    with torch.no_grad():
        ids, mask, tokens, cells = inputs(model)
        pairs = torch.tensor([[0, 0], [1, 2], [2, 1]])
        alone = model.text.states(model.text.embed(ids), mask)
        assert torch.equal(model.fusion.write(tokens, mask, cells, pairs), alone)
        nn.init.constant_(model.fusion.gates, 0.5)
        assert not torch.allclose(model.fusion.write(tokens, mask, cells, pairs), alone, **CLOSE)


def test_the_resampler_gives_as_many_tokens_as_it_has_queries_and_reads_them_too():
    """Flamingo, appendix A.1.1: keys and values are the cells and the queries."""
    resampler = tiny("gated_decoder").fusion.resampler
    with torch.no_grad():
        cells = torch.randn(2, 9, resampler.queries.shape[1])
        assert resampler(cells).shape == (2, 32, resampler.queries.shape[1])
        assert resampler(cells[:, :4]).shape == resampler(cells).shape
        before = resampler(cells)
        resampler.queries[-1] += 1.0  # seen by the others
        assert not torch.isclose(resampler(cells)[:, 0], before[:, 0], **CLOSE).all()
        order = torch.randperm(9)
        torch.testing.assert_close(resampler(cells[:, order]), resampler(cells), **CLOSE)
