"""Losses and recall over the steps of one or more runs, as an image.

python -m tandem_training.loop.curves runs/towers runs/fusion --out curves.png"""

from pathlib import Path

import numpy as np

from ..command import argument_parser, errors_as_sentences
from ..evaluation.plot import new_figure
from .log import read_lines

SIDES = {"text_to_image": "text → image", "image_to_text": "image → text"}
SMOOTHING = 0.95


def smooth(values: np.ndarray, keep: float = SMOOTHING) -> np.ndarray:
    """Moving average whose weights fall by `keep` a step; the first values are not drawn towards
    zero."""
    total, weight, out = 0.0, 0.0, np.empty(len(values))
    for i, value in enumerate(values):
        total, weight = keep * total + value, keep * weight + 1
        out[i] = total / weight
    return out


def series(lines: list[dict]) -> tuple[dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]:
    """Lines of a log → losses {name: [n, 2] of step and value}, recall {(language,
    "text_to_image/itc/r1"): [n, 2]}."""
    losses: dict[str, list] = {}
    recall: dict[tuple[str, str], list] = {}
    for line in lines:
        for name, value in line.items():
            if isinstance(value, float):
                losses.setdefault(name, []).append((line["step"], value))
        for side in SIDES if "dev" in line else ():
            for order, values in line["dev"][side].items():
                for k, value in values.items():
                    key = (line.get("language", "en"), f"{side}/{order}/{k}")
                    recall.setdefault(key, []).append((line["step"], value))
    return tuple(
        {key: np.array(points) for key, points in lines.items()} for lines in (losses, recall)
    )


def draw(runs: list[Path], out: Path) -> None:
    """A row a run: its losses, then R@k on dev both ways, ITC alone dashed, reranked solid.
    ValueError for a run without a log, ModuleNotFoundError without matplotlib."""
    figure = new_figure(15, 4 * len(runs))
    for run, (left, *sides) in zip(runs, figure.subplots(len(runs), 3, squeeze=False), strict=True):
        lines = read_lines(run / "metrics.jsonl")
        if not lines:
            raise ValueError(
                f"{run} holds no metrics.jsonl with a step; expected the --out folder of a run"
            )
        losses, recall = series(lines)
        for number, (name, points) in enumerate(losses.items()):
            left.plot(*points.T, color=f"C{number}", alpha=0.2)
            left.plot(points[:, 0], smooth(points[:, 1]), color=f"C{number}", label=name)
        left.set(title=f"{run.name}: losses", xlabel="step")
        for side, axes in zip(SIDES, sides, strict=True):
            axes.set(
                title=f"{run.name}: {SIDES[side]} on dev",
                xlabel="step",
                ylabel="recall, %",
                ylim=(0, 100),
            )
            shown = [
                (key, points) for key, points in recall.items() if key[1].startswith(f"{side}/")
            ]
            for (language, name), points in shown:
                _, order, k = name.split("/")
                colour, line = f"C{('r1', 'r5', 'r10').index(k)}", "--" if order == "itc" else "-"
                axes.plot(
                    *points.T, line, color=colour, marker=".", label=f"{language} {order} R@{k[1:]}"
                )
        for axes in (left, *sides):
            if axes.lines:
                axes.legend(fontsize="x-small")
    figure.savefig(out, dpi=110)


@errors_as_sentences("curves")
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    args = parser.parse_args()
    draw(args.runs, args.out)


if __name__ == "__main__":
    main()
