import math
import sys
from pathlib import Path

import pytest
import torch

from tandem_training import evaluate, export, prepare, train
from tandem_training.loop.checkpoint import load, save
from tandem_training.models import weights


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (train, ["none.toml", "--out", "run"], "train: .*none.toml"),
        (evaluate, ["folder", "x.tar"], "evaluate: folder is no bundle"),
        (export, ["folder", "out"], "export: folder is a folder without a checkpoint"),
        (export, ["none.pt", "out"], "export: none.pt is no checkpoint that can be read"),
        (export, ["none.pt", "out", "--dev", "no-*.tar"], "export: no shard matches 'no-\\*.tar'"),
        (evaluate, ["folder", "no-*.tar"], "evaluate: "),
        (prepare, ["folder", "none.csv", "out"], "prepare: .*none.csv"),
    ],
)
def test_a_command_ends_with_a_sentence(
    tmp_path: Path, monkeypatch, command, arguments: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(sys, "argv", [command.__name__, *arguments])
    if command is export:  # needs no published weights
        monkeypatch.setattr(weights, "minilm_folder", lambda: tmp_path)
    with pytest.raises(SystemExit, match=message):
        command.main()


def test_training_ends_with_a_sentence_when_no_shard_matches(tmp_path: Path, monkeypatch):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[data]\ntrain = "none-*.tar"\ndev = "none-*.tar"\n[objectives]\nitc = 1\n')
    monkeypatch.setattr(sys, "argv", ["train", str(recipe), "--out", str(tmp_path / "run")])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="train: no shard matches 'none-\\*.tar'"):
        train.main()


def test_a_checkpoint_of_another_program_is_named(tmp_path: Path):
    torch.save([1, 2], tmp_path / "model.pt")
    with pytest.raises(ValueError, match="model.pt is no checkpoint of this trainer"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("weight", "message"),
    [(0.0, "export: .* the checkpoint ranks no better than chance"), (math.nan, "not finite")],
)
def test_the_whole_export_of_a_useless_model_ends_with_a_sentence(
    model, tokenizer, shard: Path, tmp_path: Path, monkeypatch, weight: float, message: str
):
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.constant_(parameter, weight)
    save(tmp_path / "model.pt", model.checkpoint())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(weights, "minilm_folder", lambda: tmp_path)
    given = [str(tmp_path / name) for name in ("model.pt", "out")]
    monkeypatch.setattr(sys, "argv", ["export", *given, "--dev", str(shard)])
    with pytest.raises(SystemExit, match=message):
        export.main()
    assert not (tmp_path / "out").exists()
