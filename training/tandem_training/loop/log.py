"""What a run reports: a JSON object a line in `metrics.jsonl`, every step exactly once, however
often it is killed; the same for TensorBoard where it is installed (the extra `curves`)."""

import importlib.util
import json
import time
from pathlib import Path

from ..data.atomic import replace_file


class Metrics:
    """The log of one run."""

    def __init__(self, folder: Path, step: int):
        """Continue the log in `folder` after `step`. Later lines, of steps that a kill undid, and a
        torn last line are dropped."""
        path = folder / "metrics.jsonl"
        lines = [line for line in read_lines(path) if line["step"] <= step]
        with replace_file(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        self.file = path.open("a")
        self.board = _board(folder / "tensorboard", step)

    def write(self, step: int, **values) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for name, value in _flat(values) if self.board else ():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        if self.board:
            self.board.close()


def read_lines(path: Path) -> list[dict]:
    """The log's whole lines; none where there is no log."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:  # torn by a kill
            continue
    return lines


def _board(folder: Path, step: int):
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def _flat(values: dict, prefix: str = "") -> list[tuple[str, float]]:
    """{"dev": {"itc": {"r1": 3.0}}} → [("dev/itc/r1", 3.0)]; a language is part of the name."""
    under = f"{prefix}{values['language']}/" if "language" in values else prefix
    flat = []
    for name, value in values.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{under}{name}/")
        elif not isinstance(value, str):
            flat.append((f"{under}{name}", value))
    return flat


class Progress:
    """The progress line of a run of `total` steps of `images` images each, begun or resumed at step
    `first`. A line a step, which a log file keeps; a progress bar would overwrite it."""

    def __init__(self, first: int, total: int, images: int):
        self.first, self.total, self.images, self.started = first, total, images, time.time()

    def line(self, step: int, losses: dict[str, float]) -> str:
        seconds = (time.time() - self.started) / (
            step - self.first
        )  # a step, evaluation and saving included
        left = seconds * (self.total - step)
        end = time.strftime("%H:%M", time.localtime(time.time() + left))
        values = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
        pace = f"{self.images / seconds:.1f} images/s, {left / 60:.1f} min left, ends {end}"
        return f"step {step}/{self.total} {values} | {pace}"
