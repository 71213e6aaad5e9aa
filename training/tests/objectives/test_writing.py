"""Language objectives of fusions that write."""

import pytest
import torch

from support.models import step_of, tiny


@pytest.mark.parametrize("fusion", ["encoder_decoder", "merged_decoder"])
def test_prefix_lm_is_the_likelihood_of_the_words_after_the_prefix(fusion: str):
    """SimVLM (arXiv:2108.10904), equation 3, word by word."""
    model = tiny(fusion)
    step = step_of(model, prefix_lm=1.0)
    ids, mask = step.batch.whole["text.ids"], step.batch.whole["text.mask"]
    draws = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    slow = []
    for i in range(6):
        length = int(mask[i].sum())
        prefix = 1 + int(draws[0, i] * (length - 1))
        assert 1 <= prefix < length
        words, one = step.features["text.tokens"][i : i + 1, :length], mask[i : i + 1, :length]
        cells, row = step.features["image.tokens"][i : i + 1], torch.zeros(1, 2).long()
        states = model.fusion.write(words, one, cells, row, torch.tensor([prefix]))[0]
        logits = model.fusion.word_head(states, model.text.words).log_softmax(-1)
        slow += [-logits[j - 1, ids[i, j]] for j in range(prefix, length)]
    loss = model.objectives["prefix_lm"].loss(step)["prefix_lm"]
    torch.testing.assert_close(loss, torch.stack(slow).mean())


def test_a_blank_text_reads_no_image_and_the_head_is_the_fusions():
    model = tiny("encoder_decoder")
    step = step_of(model, prefix_lm={"blank": 1.0})
    objective = model.objectives["prefix_lm"]
    before = objective.loss(step)["prefix_lm"]
    step.features["image.tokens"] = step.features["image.tokens"].flip(0)
    step.generator.manual_seed(0)
    assert objective.loss(step)["prefix_lm"] == before
    assert not list(objective.parameters())
