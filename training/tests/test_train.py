import json
from pathlib import Path

import pytest
import torch
from conftest import TINY, tiny_model

from tandem_training.model import Tandem
from tandem_training.recipe import DataConfig, Recipe, TrainConfig
from tandem_training.train import Trainer, save


def trainer(shard: Path, out: Path, tokenizer, **settings) -> Trainer:
    config = TrainConfig(
        batch=8, itm_negatives=2, token_batch=8, warmup=0.1, text_rate=1e-3, word_dropout=0.0, **settings
    )
    recipe = Recipe(data=DataConfig(str(shard), str(shard), views=2), model=TINY, train=config)
    return Trainer(recipe, out, shard.parent / "cache", tiny_model(), tokenizer)


def test_a_killed_run_resumes_to_the_identical_loss_curve(shard: Path, tmp_path: Path, tokenizer):
    whole = trainer(shard, tmp_path / "whole", tokenizer, epochs=6)
    curve = [whole.train_step() for _ in range(6)]
    broken = trainer(shard, tmp_path / "broken", tokenizer, epochs=6)
    first = [broken.train_step() for _ in range(3)]
    broken.save_state()
    broken.train_step()  # lost with the kill
    resumed = trainer(shard, tmp_path / "broken", tokenizer, epochs=6)
    assert resumed.step == 3
    assert first + [resumed.train_step() for _ in range(3)] == curve


def test_training_learns_the_drawings_and_leaves_a_checkpoint(shard: Path, tmp_path: Path, tokenizer):
    run = trainer(shard, tmp_path / "run", tokenizer, epochs=40, evaluate_every=40, ema=0.8, head_rate=3e-3)
    run.run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert steps[-1]["itc"] < 0.7 * steps[0]["itc"]
    (report,) = [line["dev"] for line in lines if "dev" in line]
    assert report["photos"] == 8 and report["captions"] == 16
    assert report["text_to_image"]["itc"]["r1"] > 100 / 8
    loaded = Tandem.from_checkpoint(torch.load(tmp_path / "run" / "model.pt", weights_only=True))
    assert loaded.config == TINY


def test_the_frozen_trunk_stays_as_it_was(shard: Path, tmp_path: Path, tokenizer):
    run = trainer(shard, tmp_path / "run", tokenizer, epochs=3)
    before = run.model.vision.stem.weight.clone()
    tail = run.model.vision.head.weight.clone()
    for _ in range(2):
        run.train_step()
    assert torch.equal(run.model.vision.stem.weight, before)
    assert not torch.equal(run.model.vision.head.weight, tail)


def test_frozen_towers_train_the_fusion_encoder_alone(shard: Path, tmp_path: Path, tokenizer):
    run = trainer(shard, tmp_path / "run", tokenizer, epochs=3, train_towers=False, fusion_rate=1e-2)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    losses = run.train_step()
    assert set(losses) == {"itm", "loss"}
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("fusion.") for name in moved)


def test_a_checkpoint_of_another_architecture_is_refused(shard: Path, tmp_path: Path, tokenizer):
    run = trainer(shard, tmp_path / "run", tokenizer, epochs=1)
    run.recipe.model = Recipe().model
    run.save_state()
    with pytest.raises(ValueError, match="another architecture"):
        trainer(shard, tmp_path / "run", tokenizer, epochs=1)


def test_a_batch_larger_than_the_data_is_an_error(shard: Path, tmp_path: Path, tokenizer):
    recipe = Recipe(data=DataConfig(str(shard), str(shard), views=1), model=TINY, train=TrainConfig(batch=9))
    with pytest.raises(ValueError, match="batch = 9.*only 8 photos"):
        Trainer(recipe, tmp_path / "run", tmp_path / "cache", Tandem(TINY), tokenizer)


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch):
    path = tmp_path / "last.pt"
    save(path, {"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tandem_training.train.torch.save", full)
    with pytest.raises(OSError, match="No space"):
        save(path, {"step": 2})
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
