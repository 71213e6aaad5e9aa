import numpy as np
import pytest
import torch

from tandem_training.data.phrases import (
    MOST,
    Phrase,
    given_phrases,
    noun_phrases,
    phrase_tensors,
    read_regions,
)


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a brown dog runs through the tall grass", ["brown dog", "tall grass"]),
        ("two men in red shirts ride a dirt bike", ["two men", "red shirts", "dirt bike"]),
        ("a girl is climbing beside a brick building", ["girl", "brick building"]),
        ("the gi ##raf ##fe eats green leaves", ["green leaves"]),  # whole words alone
        ("[CLS] it is not there [SEP]", []),
    ],
)
def test_a_noun_phrase_is_a_noun_with_the_adjectives_before_it(caption: str, phrases: list[str]):
    pieces = caption.split()
    assert [" ".join(pieces[p.start : p.stop]) for p in noun_phrases(pieces)] == phrases


def test_a_caption_has_at_most_so_many_phrases():
    assert len(noun_phrases(" in ".join(["a dog"] * 9).split())) == MOST


def test_a_given_phrase_is_found_where_the_caption_has_it_word_for_word():
    box = (0.0, 0.1, 0.5, 1.0)
    regions = [([7, 8], box), ([8, 7], box), ([9], box)]
    assert given_phrases([2, 9, 7, 8, 3], regions) == [Phrase(2, 4, box), Phrase(1, 2, box)]


def test_a_box_is_mirrored_with_its_view_and_negative_where_unknown():
    phrases = [[Phrase(1, 3, (0.1, 0.2, 0.4, 0.8)), Phrase(3, 4)]] * 2
    found = phrase_tensors(phrases, np.array([False, True]), 5)
    words, boxes = found["phrase.words"], found["phrase.boxes"]
    assert words[0, 0].tolist() == [False, True, True, False, False]
    assert words[:, 2:].sum() == 0
    torch.testing.assert_close(boxes[0, 0], torch.tensor([0.1, 0.2, 0.4, 0.8]))
    torch.testing.assert_close(boxes[1, 0], torch.tensor([0.6, 0.2, 0.9, 0.8]))
    assert (boxes[:, 1:] < 0).all()


def test_regions_are_read_from_a_sample():
    region = {"phrase": "a dog", "box": [0, 0.25, 0.5, 1]}
    assert read_regions({"regions": [region]}) == [("a dog", (0, 0.25, 0.5, 1))]
    assert read_regions({}) == []


@pytest.mark.parametrize(
    "regions",
    [
        {"phrase": "a dog"},
        [{"phrase": "a dog"}],
        [{"phrase": "", "box": [0, 0, 1, 1]}],
        [{"phrase": "a dog", "box": [0.5, 0, 0.2, 1]}],
        [{"phrase": "a dog", "box": [10, 20, 110, 220]}],
        [{"phrase": "a dog", "box": [0, 0, 1, "1"]}],
        ["a dog"],
        7,
    ],
)
def test_a_region_of_another_form_is_refused_in_a_sentence(regions):
    with pytest.raises(ValueError, match="a region is .*expected .*in shares of the image"):
        read_regions({"regions": regions})
