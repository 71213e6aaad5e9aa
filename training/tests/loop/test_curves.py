from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tandem_training.loop.curves import draw, series, smooth
from tandem_training.loop.log import Metrics, read_lines

REPORT = {
    "photos": 8,
    "text_to_image": {"itc": {"r1": 10.0, "r5": 20.0}, "rerank@16": {"r1": 12.0, "r5": 21.0}},
    "image_to_text": {"itc": {"r1": 11.0, "r5": 22.0}},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    metrics = Metrics(tmp_path, 0)
    for step in (1, 2, 3):
        metrics.write(step, itc=3.0 / step, loss=4.0 / step)
    metrics.write(3, language="zh", dev=REPORT)
    metrics.close()
    return tmp_path


def test_series_are_losses_and_recall_over_steps(run: Path):
    losses, recall = series(read_lines(run / "metrics.jsonl"))
    assert losses["itc"].tolist() == [[1, 3.0], [2, 1.5], [3, 1.0]] and set(losses) == {
        "itc",
        "loss",
    }
    assert recall["zh", "text_to_image/rerank@16/r1"].tolist() == [[3, 12.0]] and len(recall) == 6


def test_smoothing_keeps_a_constant_and_follows_a_change():
    np.testing.assert_allclose(smooth(np.full(5, 2.0)), 2.0)
    assert 0 < smooth(np.array([0.0] * 10 + [1.0]))[-1] < 0.2


def test_curves_are_an_image_with_a_row_a_run(run: Path):
    pytest.importorskip("matplotlib")
    draw([run], run / "one.png")
    draw([run, run], run / "two.png")
    one, two = (Image.open(run / f"{name}.png") for name in ("one", "two"))
    assert one.format == "PNG" and two.height == 2 * one.height
    with pytest.raises(ValueError, match="holds no metrics.jsonl with a step; expected"):
        draw([run / "none"], run / "none.png")


def test_tensorboard_shows_every_step_once_after_a_kill(run: Path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    again = Metrics(run, 2)
    again.write(3, loss=9.0)
    again.close()
    board = reading.EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("loss")] == [(1, 4.0), (2, 2.0), (3, 9.0)]
