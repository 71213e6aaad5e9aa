"""The mean of models: like the first, with weights between theirs, and refusals in a sentence."""

from pathlib import Path

import pytest
import torch

from tandem_training.average import average, main
from tandem_training.loop.checkpoint import load, save


@pytest.fixture
def runs(tmp_path):
    """Two checkpoints of one architecture, the second without the fusion's weight."""
    origins = ({"source": "a", "images": 1}, {"source": "b", "images": 2})
    for name, value, origin in zip("ab", (1.0, 4.0), origins, strict=True):
        state = {
            "vision.w": torch.full((2,), value),
            "vision.steps": torch.tensor(int(value)),
            "fusion.w": torch.full((3,), value),
        }
        if name == "b":
            del state["fusion.w"]
        save(tmp_path / name, {"config": {"name": name}, "state": state, "data": [origin]})
    return [str(tmp_path / name) for name in "ab"]


def with_state(path, **state):
    """The checkpoint at `path` with these weights alone."""
    named = {name.replace("_", "."): tensor for name, tensor in state.items()}
    save(Path(path), load(Path(path)) | {"state": named})


def test_a_weight_that_all_have_is_the_weighted_mean_and_the_rest_is_of_the_first(runs):
    mean = average(runs, [2.0, 1.0], [])
    assert mean["state"]["vision.w"].tolist() == [2.0, 2.0]
    assert mean["state"]["vision.steps"].item() == 1
    assert mean["state"]["fusion.w"].tolist() == [1.0, 1.0, 1.0]
    assert mean["config"] == {"name": "a"}
    assert [origin["source"] for origin in mean["data"]] == ["a", "b"]


def test_data_that_several_have_seen_counts_once(runs):
    seen = [[("x", 5), ("y", 1)], [("y", 3), ("x", 2)]]
    for path, origins in zip(runs, seen, strict=True):
        data = [{"source": source, "images": images} for source, images in origins]
        save(Path(path), load(Path(path)) | {"data": data})
    data = average(runs, [1.0, 1.0], [])["data"]
    assert {origin["source"]: origin["images"] for origin in data} == {"x": 5, "y": 3}


def test_the_command_writes_a_checkpoint_of_equal_weights(runs, tmp_path, monkeypatch):
    out = tmp_path / "new" / "model.pt"
    monkeypatch.setattr("sys.argv", ["average", *runs, "--out", str(out)])
    main()
    assert load(out)["state"]["vision.w"].tolist() == [2.5, 2.5]


def test_what_keep_names_stays_of_the_first(runs):
    with pytest.raises(ValueError, match=r"have no weight in common that is not kept"):
        average(runs, [1.0, 1.0], ["vision.*"])
    with_state(runs[1], fusion_w=torch.zeros(3), vision_w=torch.zeros(2))
    mean = average(runs, [1.0, 1.0], ["fusion.*"])
    assert mean["state"]["fusion.w"].tolist() == [1.0, 1.0, 1.0]
    assert mean["state"]["vision.w"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("count", "weights", "keep", "message"),
    [
        (1, [1.0], [], r"1 model is given; expected at least two"),
        (2, [1.0], [], r"--weights has 1.0 for 2 models"),
        (2, [1.0, 0.0], [], r"expected a number above 0 for each"),
        (2, [1.0, 1.0], ["txt.*"], r"--keep txt\.\* names no weight of"),
    ],
)
def test_bad_options_are_refused(runs, count, weights, keep, message):
    with pytest.raises(ValueError, match=message):
        average(runs[:count], weights, keep)


def test_models_of_another_shape_are_refused_with_the_weight(runs):
    with_state(runs[1], vision_w=torch.zeros(5))
    with pytest.raises(ValueError, match=r"vision\.w is \[2\] in .*a and \[5\] in .*b; expected"):
        average(runs, [1.0, 1.0], [])


@pytest.mark.parametrize(
    ("key", "weight"), [("tokenizer", "text.words"), ("inputs", "inputs.second")]
)
def test_weights_of_words_of_another_tokenizer_are_refused_unless_they_are_kept(runs, key, weight):
    for path, value in zip(runs, ("first", "other"), strict=True):
        state = {weight: torch.zeros(2), "vision.w": torch.zeros(2)}
        save(Path(path), load(Path(path)) | {"state": state, key: value})
    part = weight.split(".")[0]
    with pytest.raises(ValueError, match=rf"other tokenizers.*--keep '{part}\.\*'"):
        average(runs, [1.0, 1.0], [])
    assert average(runs, [1.0, 1.0], [f"{part}.*"])[key] == "first"
