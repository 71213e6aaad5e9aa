from pathlib import Path

import numpy as np
import pytest

from support.drawings import drawing, write_shard
from support.models import FILES
from tandem_training.data.draws import Shuffle
from tandem_training.data.images import augment, decode
from tandem_training.data.samples import read_shards
from tandem_training.data.tokens import drop_words, pad
from tandem_training.recipe import DataConfig, TrainConfig, read_recipe


def test_shards_are_read_in_order_without_the_images_that_have_no_caption(tmp_path: Path):
    image = drawing("red", "square")
    write_shard(
        tmp_path / "b.tar", {"two": (image, {"en": ["x"]}), "three": (image, {"zh": ["y"]})}
    )
    write_shard(tmp_path / "a.tar", {"one": (image, {"en": ["x", "z"]})})
    samples = read_shards(str(tmp_path / "*.tar"))
    assert [(s.key, s.captions) for s in samples] == [("one", ["x", "z"]), ("two", ["x"])]


def test_the_error_names_a_missing_or_broken_shard(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no shard matches"):
        read_shards(str(tmp_path / "none-*.tar"))
    (tmp_path / "broken.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(ValueError, match="broken.tar"):
        read_shards(str(tmp_path / "broken.tar"))


def test_images_have_the_requested_size_and_augmentation_follows_its_seed():
    jpeg = drawing("blue", "bar", size=90)
    assert decode(jpeg, 64).shape == (64, 64, 3)
    one, same, other = (augment(jpeg, 64, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == (64, 64, 3) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_padding_fills_the_end_and_word_dropout_keeps_first_and_last():
    ids, mask = pad([[2, 5, 3], [2, 3]])
    assert ids.tolist() == [[2, 5, 3], [2, 3, 0]] and mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    row = [2, *range(10, 210), 3]
    dropped = drop_words(row, 0.3, 1, np.random.default_rng(0))
    assert dropped[0] == 2 and dropped[-1] == 3 and 30 < dropped.count(1) < 90
    assert drop_words(row, 0.0, 1, np.random.default_rng(0)) == row


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepoch = 3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("[modle]\ndim = 3", "unknown key 'modle'; did you mean 'model'"),
        ("[train]\nepochs = 'three'", "epochs = 'three'; expected int"),
        ("[train\n", "recipe.toml"),
        ("[train]\naccumulate = 0", "accumulate = 0; expected at least 1"),
        ("[data.languages]\nen = 0", "languages.*en = 0; expected a weight above 0"),
        ("[data.languages]", "languages.*: empty"),
    ],
)
def test_the_error_of_a_wrong_recipe_names_the_key_and_the_nearest_one(
    tmp_path: Path, text: str, message: str
):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(path)


def test_the_shipped_recipes_are_valid():
    recipes = list(FILES.values())
    assert recipes and all(read_recipe(path).train.epochs > 0 for path in recipes)


def test_captions_are_drawn_by_the_weight_of_their_language(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text("[data.languages]\nen = 3\nzh = 1\n[objectives]\nitc = 1")
    languages = read_recipe(tmp_path / "recipe.toml").data.languages
    assert languages == {"en": 3.0, "zh": 1.0}
    captions = {"en": ["a", "b"], "zh": ["c", "d", "e"]}
    write_shard(tmp_path / "a.tar", {"x": (drawing("red", "bar"), captions)})
    shuffle = Shuffle(
        read_shards(str(tmp_path / "a.tar"), languages), TrainConfig(batch=1), DataConfig("a.tar")
    )
    drawn = [shuffle.draw(step).captions[0] for step in range(2000)]
    share = np.bincount(drawn, minlength=5) / len(drawn)
    np.testing.assert_allclose(share, [0.375, 0.375, 1 / 12, 1 / 12, 1 / 12], atol=0.04)
