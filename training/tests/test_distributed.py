import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.drawings import write_drawings
from support.models import PYTHON_PATH, STILL, trainer
from tandem_training import distributed
from tandem_training.models.text.second import SecondText

SETTINGS = {
    "batch": 4,
    "epochs": 3,
    "accumulate": 1,
    "chunk": 1,
    "save_every": 2,
    "precision": "float32",
    "data": {"captions": 2},
}
SECOND = {
    "languages": {"zh": 1.0},
    "layers": 1,
    "width": 16,
    "heads": 2,
    "dropout": 0.0,
    "vocabulary": 60,
    "pretrain_steps": 2,
}
RUN = f"""
import sys, torch
from pathlib import Path
from support.models import STILL, tiny_tokenizer, trainer
from tandem_training import distributed
from tandem_training.models.text.second import SecondText
torch.set_num_threads(1)
distributed.start()
second = SecondText.Config(**{SECOND})
shard, out = map(Path, sys.argv[1:3])
trainer(shard, out, tiny_tokenizer(), model=STILL, second=second, **{SETTINGS}).run()
distributed.end()
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.mark.usefixtures("one_thread")  # as in the processes
def test_two_processes_train_as_one_with_the_same_global_batch(
    shard: Path, tmp_path: Path, tokenizer
):
    write_drawings(shard, languages=("zh",))
    common = {
        "PYTHONPATH": PYTHON_PATH,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    second = SecondText.Config(**SECOND)
    alone = trainer(
        shard, tmp_path / "one", tokenizer, model=STILL, second=second, **SETTINGS | {"chunk": 0}
    )
    processes = [  # what torchrun does, without its start-up time
        subprocess.Popen(
            [sys.executable, "-c", RUN, shard, tmp_path / "two"],
            env=os.environ
            | common
            | {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    alone.run()
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for single, shared in zip(one, two, strict=True):
        assert "loss" not in single or shared == pytest.approx(single, rel=1e-4)


def test_a_batch_that_does_not_divide_evenly_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: 3)
    assert distributed.own_rows(6) == slice(0, 2)
    with pytest.raises(ValueError, match="batch = 8 cannot be shared out evenly among 3 processes"):
        distributed.own_rows(8)
