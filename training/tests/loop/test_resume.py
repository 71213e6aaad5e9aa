import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support.drawings import write_drawings
from support.models import PYTHON_PATH, trainer
from tandem_training.loop.checkpoint import load, save
from tandem_training.loop.log import Metrics, Progress
from tandem_training.models.model import ModelConfig

SETTINGS = {"batch": 4, "epochs": 5, "save_every": 3}
RUN = f"""
import sys, torch
from pathlib import Path
from support.models import tiny_tokenizer, trainer
torch.set_num_threads(1)
run = trainer(Path(sys.argv[1]), Path(sys.argv[2]), tiny_tokenizer(), **{SETTINGS})
run.run()
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_killed_and_resumed_run_has_the_log_of_an_unbroken_one(
    shard: Path, tmp_path: Path, tokenizer
):
    trainer(shard, tmp_path / "whole", tokenizer, **SETTINGS).run()
    log = tmp_path / "broken" / "metrics.jsonl"
    command, path = (
        [sys.executable, "-c", RUN, shard, log.parent],
        {"PYTHONPATH": PYTHON_PATH},
    )
    with subprocess.Popen(command, env=os.environ | path) as run:
        deadline = time.time() + 300
        while not log.exists() or len(log.read_text().splitlines()) < 5:
            assert run.poll() is None and time.time() < deadline
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    with log.open("a") as file:
        file.write('{"step": 9, "lo')  # and torn while writing
    resumed = trainer(shard, log.parent, tokenizer, **SETTINGS)
    assert 3 <= resumed.step < 10
    resumed.run()
    whole, broken = ((tmp_path / name) for name in ("whole", "broken"))
    assert log.read_text() == (whole / "metrics.jsonl").read_text()
    weights = [
        torch.load(folder / "model.pt", weights_only=True)["state"] for folder in (whole, broken)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_momentum_queue_is_part_of_what_is_resumed(shard: Path, tmp_path: Path, tokenizer):
    settings = {
        "batch": 4,
        "epochs": 2,
        "chunk": 3,
        "objectives": {"itc": {"queue": 6}, "itm": {"negatives": 2}},
    }
    whole = trainer(shard, tmp_path / "whole", tokenizer, **settings)
    curve = [whole.train_step() for _ in range(4)]
    broken = trainer(shard, tmp_path / "broken", tokenizer, **settings)
    first = [broken.train_step() for _ in range(2)]
    broken.save_state()
    resumed = trainer(shard, tmp_path / "broken", tokenizer, **settings)
    assert first + [resumed.train_step() for _ in range(2)] == curve


def test_a_run_over_other_images_captions_or_batches_is_not_resumed(
    shard: Path, tmp_path: Path, tokenizer
):
    trainer(shard, tmp_path / "run", tokenizer, epochs=1).run()
    with pytest.raises(ValueError, match="another batch: 8, now 4; use another --out"):
        trainer(shard, tmp_path / "run", tokenizer, epochs=2, batch=4)
    write_drawings(shard, captions=1)
    with pytest.raises(ValueError, match="another images or captions of .*drawings-0000.tar"):
        trainer(shard, tmp_path / "run", tokenizer, epochs=2)


def test_a_checkpoint_of_another_architecture_or_a_damaged_one_is_refused(
    shard: Path, tmp_path: Path, tokenizer
):
    run = trainer(shard, tmp_path / "run", tokenizer, epochs=1)
    run.recipe.model = ModelConfig()
    run.save_state()
    with pytest.raises(ValueError, match="last.pt is of another architecture"):
        trainer(shard, tmp_path / "run", tokenizer, epochs=1)
    (tmp_path / "run" / "last.pt").write_bytes(b"torn")
    with pytest.raises(ValueError, match="last.pt is no checkpoint that can be read"):
        load(tmp_path / "run" / "last.pt")


def test_a_disk_that_fills_up_while_saving_leaves_the_old_checkpoint(tmp_path: Path):
    path = tmp_path / "last.pt"
    save(path, {"step": 1, "architecture": {}})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (100_000, limits[1])
    )  # a write beyond it fails half-way
    try:
        with pytest.raises(
            OSError, match="could not save .*last.pt .the previous checkpoint is whole"
        ):
            save(path, {"step": 2, "big": torch.zeros(1_000_000)})
        with pytest.raises(OSError, match="there is no earlier one"):
            save(tmp_path / "new.pt", {"big": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load(path, {})["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_disk_too_small_for_the_activations_is_an_error(
    shard: Path, tmp_path: Path, tokenizer, monkeypatch
):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="cache has 0 MiB left; the activations need"):
        trainer(shard, tmp_path / "run", tokenizer)


def test_the_log_continues_after_the_saved_step(tmp_path: Path):
    first = Metrics(tmp_path, 0)
    for step in (1, 2, 3):
        first.write(step, loss=step / 10)
    first.close()
    again = Metrics(tmp_path, 2)
    again.write(3, loss=0.5)
    again.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2}, {"step": 3, "loss": 0.5}]


def test_the_progress_line_has_pace_and_end(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    progress = Progress(first=10, total=40, images=32)
    monkeypatch.setattr("time.time", lambda: 1020.0)
    line = progress.line(20, {"itc": 1.5, "loss": 2.0})
    assert line.startswith("step 20/40 itc 1.5000 loss 2.0000 | 16.0 images/s, 0.7 min left, ends ")
