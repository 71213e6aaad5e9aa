"""Several captions of a photo in a step: how they are drawn, encoded and read by ITC."""

from pathlib import Path

import numpy as np
import pytest
import torch

from support.drawings import drawing, write_shard
from support.models import STILL, step_of, tiny_model, trainer
from tandem_training.data.draws import Shuffle
from tandem_training.data.samples import read_shards
from tandem_training.recipe import DataConfig, TrainConfig, read_recipe


def shuffle_of(tmp_path: Path, captions: int, told: dict, languages: dict) -> Shuffle:
    write_shard(tmp_path / "a.tar", {"x": (drawing("red", "bar"), told)})
    samples = read_shards(str(tmp_path / "a.tar"), languages)
    return Shuffle(samples, TrainConfig(batch=1), DataConfig("a.tar", captions=captions))


def test_no_caption_is_drawn_twice_while_an_image_has_enough(tmp_path: Path):
    shuffle = shuffle_of(tmp_path, 4, {"en": ["a", "b", "c", "d"]}, {"en": 1.0})
    rng = np.random.default_rng(0)
    drawn = [shuffle.further(0, 2, rng) for _ in range(20)]
    assert all(sorted(one) == [0, 1, 3] for one in drawn) and len({*map(tuple, drawn)}) > 3


@pytest.mark.parametrize(("told", "expected"), [(["a"], [0, 0, 0]), (["a", "b"], [1, 1, 1])])
def test_captions_repeat_where_an_image_has_too_few(
    told: list[str], expected: list[int], tmp_path: Path
):
    shuffle = shuffle_of(tmp_path, 4, {"en": told}, {"en": 1.0})
    assert shuffle.further(0, 0, np.random.default_rng(0)) == expected


def test_further_captions_are_drawn_by_the_weight_of_their_language(tmp_path: Path):
    told = {"en": ["a", "b"], "zh": ["c", "d"]}
    shuffle = shuffle_of(tmp_path, 2, told, {"en": 9.0, "zh": 1.0})
    rng = np.random.default_rng(0)
    chinese = [shuffle.further(0, 0, rng)[0] > 1 for _ in range(2000)]
    assert np.mean(chinese) == pytest.approx(2 * 0.05 / (0.45 + 0.1), abs=0.03)


def test_the_first_caption_and_view_are_the_same_with_further_captions(
    shard: Path, tmp_path: Path, tokenizer
):
    one, three = (
        trainer(
            shard, tmp_path / str(count), tokenizer, data={"captions": count, "word_dropout": 0.3}
        ).batch(5)
        for count in (1, 3)
    )
    for name, tensor in one.inputs.items():
        assert torch.equal(tensor, three.inputs[name]), name
    assert three.inputs.keys() - one.inputs.keys() == {"further.ids", "further.mask"}
    assert three.inputs["further.ids"].shape[:2] == (8, 2)
    assert three.whole["sentence.further"].shape[:2] == (8, 2)


def test_a_caption_that_is_cut_keeps_its_last_token(shard: Path, tmp_path: Path, tokenizer):
    run = trainer(shard, tmp_path / "run", tokenizer, data={"caption_tokens": 4})
    ids = run.batch(0).whole["text.ids"]
    assert ids.shape == (8, 4) and (ids[:, 0] == 2).all() and (ids[:, 3] == 3).all()


def test_a_further_caption_is_encoded_as_it_is_alone():
    model = tiny_model(STILL).eval()
    lengths = torch.tensor([[2, 7], [5, 1], [7, 3]])
    mask = (torch.arange(7) < lengths[:, :, None]).long()
    ids = torch.randint(4, 12, (3, 2, 7)) * mask
    found = model.encode_further(ids, mask)
    for row, column in np.ndindex(3, 2):
        length = lengths[row, column]
        alone = model.encode_texts(
            ids[row, column, None, :length], mask[row, column, None, :length]
        )[0]
        torch.testing.assert_close(found[row, column, None], alone, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("mix", [0.0, 0.3])
def test_itc_over_several_captions_an_image_equals_the_slow_reference(mix: float):
    model = tiny_model(STILL)
    step = step_of(model, itc={"soft_mix": mix})
    count, photos = 2, 6
    random = torch.Generator().manual_seed(3)

    def unit(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, generator=random), dim=-1)

    further, images = unit(photos, count, 16), step.features["image.embedding"]
    step.features["further.embedding"] = further
    spoken_of, about_of, spoken_further = unit(photos, 5), unit(photos, 5), unit(photos, count, 5)
    step.batch.whole |= {
        "sentence.text": spoken_of,
        "sentence.image": about_of,
        "sentence.further": spoken_further,
    }
    (found,) = model.objectives["itc"].loss(step).values()

    scale = model.logit_scale.exp().item()
    texts = [
        (photo, step.features["text.embedding"][photo], spoken_of[photo]) for photo in range(photos)
    ]
    texts += [
        (photo, further[photo, at], spoken_further[photo, at])
        for photo in range(photos)
        for at in range(count)
    ]
    there = back = 0.0
    for photo, text, spoken in texts:
        logits = torch.stack([scale * text @ image for image in images])
        soft = torch.stack([20.0 * spoken @ about for about in about_of]).softmax(0)
        hard = torch.tensor([float(other == photo) for other in range(photos)])
        there -= ((1 - mix) * hard + mix * soft) @ logits.log_softmax(0) / len(texts)
    for photo in range(photos):
        logits = torch.stack([scale * text @ images[photo] for _, text, _ in texts])
        soft = torch.stack([20.0 * spoken @ about_of[photo] for *_, spoken in texts]).softmax(0)
        hard = torch.tensor([float(of == photo) / (1 + count) for of, *_ in texts])
        back -= ((1 - mix) * hard + mix * soft) @ logits.log_softmax(0) / photos
    torch.testing.assert_close(found, (there + back) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]\ncaptions = 0", "captions = 0; expected at least 1"),
        (
            "[data]\ncaptions = 2\n[objectives]\nitc = { queue = 64 }",
            "beyond the first are read by objectives itc, without a queue, mil_nce and",
        ),
        (
            "[data]\ncaptions = 3\n[objectives]\nsiglip = 1.0",
            "captions = 3: those beyond the first are read by objectives itc, without",
        ),
    ],
)
def test_a_recipe_whose_further_captions_nothing_reads_is_refused(
    text: str, message: str, tmp_path: Path
):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(tmp_path / "recipe.toml")
