import json
from pathlib import Path

import pytest
import torch

from support.models import (
    FUSION,
    TINY,
    TOWERS,
    VIT,
    masking_tokenizer,
    tiny_model,
    trainer,
    with_fusion,
)
from tandem_training.loop.checkpoint import load, save
from tandem_training.models.model import Tandem
from tandem_training.recipe import GroupConfig


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


def test_frozen_encoders_leave_only_the_fusion_to_train(shard: Path, tmp_path: Path, tokenizer):
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
    with pytest.raises(ValueError, match="batch = 9.*only 8 images"):
        trainer(shard, tmp_path / "run", tokenizer, batch=9)


def test_learnt_scalars_have_a_rate_of_their_own(shard: Path, tmp_path: Path, tokenizer):
    run = trainer(shard, tmp_path / "run", tokenizer, epochs=3, warmup=0.0)
    scale = run.model.logit_scale
    before = float(scale.detach())
    run.train_step()
    assert abs(float(scale.detach()) - before) > 1e-3
    (group,) = [g for g in run.optimiser.groups() if any(p is scale for p in g["params"])]
    assert group["peak"] == 1e-2 and all(p.ndim == 0 for p in group["params"])


def test_a_part_can_have_an_optimiser_of_its_own(shard: Path, tmp_path: Path, tokenizer):
    slow = GroupConfig(1e-2, kind="sgd", weight_decay=0.0)
    run = trainer(shard, tmp_path / "run", tokenizer, epochs=3, rates={"vision": slow}, warmup=0.0)
    assert set(run.optimiser.kinds) == {"adamw", "sgd"}
    head = run.model.vision.head.weight
    before = head.clone()
    run.train_step()
    torch.testing.assert_close(head, before - 1e-2 * head.grad)
    run.save_state()
    resumed = trainer(
        shard, tmp_path / "run", tokenizer, epochs=3, rates={"vision": slow}, warmup=0.0
    )
    assert resumed.train_step() == run.train_step()


def test_a_glob_that_freezes_nothing_is_refused(shard: Path, tmp_path: Path, tokenizer):
    with pytest.raises(ValueError, match="'txt.*' names no parameter; they begin with .*, text,"):
        trainer(shard, tmp_path / "run", tokenizer, freeze=["txt.*"])


def test_a_later_stage_takes_the_parts_and_the_heads_that_fit(shard: Path, tmp_path: Path, capsys):
    tokenizer, mlm = masking_tokenizer(), {"itc": {"queue": 4}, "mlm": 1.0}
    first = trainer(shard, tmp_path / "first", tokenizer, objectives=mlm, epochs=2)
    first.run()
    saved = load(tmp_path / "first")["state"]
    assert "objectives.mlm.head.bias" in saved and not any("queue" in name for name in saved)
    model = with_fusion("dual_stream", base=TINY)
    second = trainer(
        shard, tmp_path / "second", tokenizer, model=model, objectives=mlm,
        start=str(tmp_path / "first"),
    )  # fmt: skip
    state = second.model.state_dict()
    for name in ("vision.head.weight", "text.words.weight", "objectives.mlm.head.bias"):
        assert torch.equal(state[name], saved[name]), name
    assert "started from" in capsys.readouterr().out
    save(tmp_path / "other.pt", {"config": {}, "inputs": {}, "state": {}})
    with pytest.raises(ValueError, match="nothing of .*other.pt fits the recipe"):
        trainer(shard, tmp_path / "third", tokenizer, start=str(tmp_path / "other.pt"))


def test_a_checkpoint_of_another_version_is_refused_in_a_sentence(tmp_path: Path):
    torch.save({"config": {}, "state": {}}, tmp_path / "model.pt")
    with pytest.raises(
        ValueError, match="is a checkpoint of version 1; this trainer reads version 3: train it"
    ):
        load(tmp_path / "model.pt")


def test_a_start_without_the_frozen_trunk_is_refused(shard: Path, tmp_path: Path, tokenizer):
    save(tmp_path / "vit.pt", tiny_model(VIT).checkpoint())
    with pytest.raises(ValueError, match="vit.pt lacks .* weights of the frozen trunk"):
        trainer(shard, tmp_path / "run", tokenizer, start=str(tmp_path / "vit.pt"))
