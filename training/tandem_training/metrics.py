"""What a run reports: a JSON object a line in `metrics.jsonl`, every step exactly once, however often it is killed."""

import json
import time
from pathlib import Path


class Metrics:
    def __init__(self, folder: Path, step: int):
        """Continue the log in `folder` behind `step`: later lines belong to steps that a kill undid, and the last line
        may be torn; both go."""
        path = folder / "metrics.jsonl"
        kept = [line for line in _lines(path) if line["step"] <= step]
        aside = path.with_suffix(".tmp")
        aside.write_text("".join(json.dumps(line) + "\n" for line in kept))
        aside.replace(path)
        self.file = path.open("a")

    def write(self, step: int, **values) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()


def _lines(path: Path) -> list[dict]:
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:  # torn by a kill
            continue
    return lines


class Progress:
    """The progress line of a run of `total` steps of `photos` photos each, begun or resumed at step `first`."""

    def __init__(self, first: int, total: int, photos: int):
        self.first, self.total, self.photos, self.started = first, total, photos, time.time()

    def line(self, step: int, losses: dict[str, float]) -> str:
        seconds = (time.time() - self.started) / (step - self.first)  # a step, evaluation and saving included
        left = seconds * (self.total - step)
        end = time.strftime("%H:%M", time.localtime(time.time() + left))
        values = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
        pace = f"{self.photos / seconds:.1f} photos/s, {left / 60:.1f} min left, ends {end}"
        return f"step {step}/{self.total} {values} | {pace}"
