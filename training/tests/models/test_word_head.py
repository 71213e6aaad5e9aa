"""A word head that serves keeps the words that training can meet."""

import copy

import pytest
import torch
from torch import nn

from support.models import tiny
from tandem_training.models.model import Tandem
from tandem_training.models.word_head import KeptWordHead, WordHead

KEPT = [1, 2, 3, 5, 8]


@pytest.fixture
def words() -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(12, 6)


def test_the_kept_words_have_the_logits_that_they_have_among_all(words: nn.Embedding):
    head, whole = KeptWordHead(4, words), WordHead(4, words)
    nn.init.normal_(head.bias)
    whole.load_state_dict({n: p for n, p in head.named_parameters()})
    states = torch.randn(2, 3, 4)
    torch.testing.assert_close(head(states, words), whole(states, words))
    head.keep(KEPT[1:], unknown=1)
    torch.testing.assert_close(head(states, words), whole(states, words)[..., KEPT])
    assert head.row_of.tolist() == [0, 0, 1, 2, 0, 3, 0, 0, 4, 0, 0, 0]
    head.keep([4], unknown=1)  # a second objective's
    assert head(states, words).shape[-1] == 6 and head.row_of[4] == 3
    odds = whole(states, words)[..., 5] - whole(states, words)[..., 7]
    torch.testing.assert_close(head.difference(states, words, 5, 7), odds)


def test_a_checkpoint_and_a_copy_keep_the_same_words(words: nn.Embedding):
    head = KeptWordHead(4, words)
    head.keep(KEPT, unknown=1)
    other = KeptWordHead(4, words)
    other.load_state_dict(head.state_dict())
    for one in (other, copy.deepcopy(head)):
        assert one.rows.tolist() == KEPT and torch.equal(one.row_of, head.row_of)


@pytest.mark.parametrize("fusion", ["merged_decoder", "encoder_decoder", "concept_decoder"])
def test_a_likelihood_is_among_the_kept_words_and_takes_others_for_unknown(fusion: str):
    model: Tandem = tiny(fusion)
    ids, mask = torch.tensor([[2, 5, 8, 3], [2, 9, 8, 3]]), torch.ones(2, 4, dtype=torch.int64)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    pairs = torch.tensor([[0, 0], [0, 1], [1, 0]])
    with torch.no_grad():
        tokens, cells = model.encode_texts(ids, mask)[1], model.encode_images(pixels)[1]
        states = model.fusion.write(tokens, mask, cells, pairs)[:, :-1]
        model.fusion.word_head.keep(KEPT, unknown=1)
        found = model.fusion.likelihood(tokens, mask, cells, pairs)
        logits = WordHead.forward(model.fusion.word_head, states, model.text.words)[..., KEPT]
        targets = torch.tensor([[3, 4, 2], [3, 4, 2], [0, 4, 2]])  # rows; 9 counts as 1
        expected = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0].mean(1)
    torch.testing.assert_close(found, expected)
