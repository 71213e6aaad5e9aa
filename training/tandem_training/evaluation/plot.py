"""Diagrams as PNG, drawn with matplotlib (the extra `curves`)."""

from pathlib import Path

import numpy as np


def new_figure(width: float, height: float):
    """An empty matplotlib Figure, sizes in inches.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the error gives the command.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "diagrams need matplotlib; run: pip install -e 'training[curves]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def draw_reliability(bins: list[dict], out: Path) -> None:
    """Write the reliability diagram: observed over predicted, and below it the share of pairs.

    `bins` come from `calibration.reliability_of`. ModuleNotFoundError without matplotlib."""
    figure = new_figure(5, 6.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    predicted, observed, share = (
        np.array([entry[key] for entry in bins]) for key in ("predicted", "observed", "share")
    )
    above.plot([0, 1], [0, 1], color="grey", linestyle="dashed", label="exact")
    above.plot(predicted, observed, marker="o", label="measured")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of matches")
    above.legend()
    below.bar(predicted, share, width=0.04)
    below.set(xlabel="match", ylabel="share of pairs")
    figure.savefig(out, dpi=110)


def draw_costs(points: dict[str, tuple[float, float]], out: Path) -> None:
    """Write recall against what a pair costs to rerank: of each recipe milliseconds of a core, and
    R@1 in per cent. ModuleNotFoundError without matplotlib."""
    figure = new_figure(8, 6)
    axes = figure.subplots()
    for name, (cost, recall) in points.items():
        axes.plot(cost, recall, "o", color="C0")
        axes.annotate(name, (cost, recall), (4, 3), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", xlabel="ms of a core a pair", ylabel="text to image, R@1 reranked, %")
    figure.savefig(out, dpi=110)
