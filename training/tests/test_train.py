import json
from pathlib import Path

import pytest
import torch

from support.models import FUSION, TINY, TOWERS, trainer
from tandem_training.loop.checkpoint import load
from tandem_training.models.model import Tandem


def test_training_learns_the_drawings_and_leaves_a_checkpoint(
    shard: Path, tmp_path: Path, tokenizer
):
    run = trainer(
        shard,
        tmp_path / "run",
        tokenizer,
        epochs=40,
        evaluate_every=40,
        ema=0.8,
        rates={"projection": 3e-3},
    )
    run.run()
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    steps = [line for line in lines if "loss" in line]
    assert steps[-1]["itc"] < 0.7 * steps[0]["itc"]
    (report,) = [line["dev"] for line in lines if "dev" in line]
    assert report["photos"] == 8 and report["captions"] == 16
    assert report["text_to_image"]["itc"]["r1"] > 100 / 8
    loaded = Tandem.from_checkpoint(load(tmp_path / "run"))
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
    run = trainer(
        shard,
        tmp_path / "run",
        tokenizer,
        epochs=3,
        freeze=TOWERS,
        objectives=FUSION,
        rates={"fusion": 1e-2},
    )
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    losses = run.train_step()
    assert set(losses) == {"itm", "rank", "loss"}
    moved = {
        name
        for name, value in run.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved and all(name.startswith("fusion.") for name in moved)


def test_a_batch_larger_than_the_data_is_an_error(shard: Path, tmp_path: Path, tokenizer):
    with pytest.raises(ValueError, match="batch = 9.*only 8 photos"):
        trainer(shard, tmp_path / "run", tokenizer, batch=9)
