r"""Average the weights of models that were trained from the same start: one model as large as each,
often better than all of them ("Model soups", Wortsman et al. 2022, arXiv:2203.05482).

python -m tandem_training.average runs/all-photos/model.pt ../models/tandem-small \
    --weights 0.6 0.4 --keep 'fusion.*' 'inputs.*' --out runs/average/model.pt"""

import fnmatch
import itertools
from pathlib import Path

from torch import Tensor

from .command import argument_parser, errors_as_sentences
from .loop.checkpoint import save
from .loop.start import checkpoint_of


def average(sources: list[str], weights: list[float], keep: list[str]) -> dict:
    """A checkpoint like the first of `sources`, checkpoints or folders of bundles, in which each
    weight that all have is their weighted mean. What `keep` names stays the first's.

    Raises:
        ValueError: fewer than two sources, not a positive weight for each, a glob of `keep` that
            names none, nothing in common, a weight of another shape, or of another tokenizer.
    """
    if len(sources) < 2:
        raise ValueError(f"{len(sources)} model is given; expected at least two to average")
    if len(weights) != len(sources) or min(weights) <= 0:
        raise ValueError(
            f"--weights has {' '.join(map(str, weights))} for {len(sources)} models; expected a "
            "number above 0 for each"
        )
    first, *others = (checkpoint_of(source) for source in sources)
    state = first["state"]
    for pattern in keep:
        if not fnmatch.filter(state, pattern):
            raise ValueError(f"--keep {pattern} names no weight of {sources[0]}")
    names = [name for name in state if not any(fnmatch.fnmatch(name, glob) for glob in keep)]
    names = [name for name in names if all(name in other["state"] for other in others)]
    if not names:
        raise ValueError(f"{', '.join(sources)} have no weight in common that is not kept")
    for source, other in zip(sources[1:], others, strict=True):
        for name in names:
            ours, theirs = state[name].shape, other["state"][name].shape
            if ours != theirs:
                raise ValueError(
                    f"{name} is {list(ours)} in {sources[0]} and {list(theirs)} in {source}; "
                    "expected models of one architecture"
                )
        _require_same_words(first, other, names, sources[0], source)
    for name in names:
        tensors = [state[name], *(other["state"][name] for other in others)]
        state[name] = _mean(tensors, weights)
    origins = _origins([checkpoint.get("data", []) for checkpoint in (first, *others)])
    print(f"averaged {len(names)} of {len(state)} weights", flush=True)
    return {key: value for key, value in first.items() if key != "version"} | {"data": origins}


def _require_same_words(ours: dict, theirs: dict, names: list[str], *sources: str) -> None:
    """ValueError for the mean of embeddings of other words: a row of them is a word's."""
    for key, part in (("tokenizer", "text."), ("inputs", "inputs.")):
        averaged = any(name.startswith(part) for name in names)
        if averaged and theirs.get(key) and ours.get(key) and ours[key] != theirs[key]:
            raise ValueError(
                f"{' and '.join(sources)} read texts by other tokenizers, so the mean of {part}* "
                f"means nothing; keep those of the first: --keep '{part}*'"
            )


def _origins(sources: list[list[dict]]) -> list[dict]:
    """The origins of the data of all. What several have seen counts once: the images of a source
    are as many as the model saw that saw most of it."""
    merged: dict[tuple, dict] = {}
    for origin in itertools.chain(*sources):
        key = tuple(value for name, value in origin.items() if name != "images")
        known = merged.setdefault(key, origin)
        merged[key] = max(known, origin, key=lambda o: o["images"])
    return list(merged.values())


def _mean(tensors: list[Tensor], weights: list[float]) -> Tensor:
    """Of counts and other integers the first."""
    first = tensors[0]
    if not first.is_floating_point():
        return first
    mean = sum(w * tensor.double() for w, tensor in zip(weights, tensors, strict=True))
    return (mean / sum(weights)).to(first.dtype)


@errors_as_sentences("average")
def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add(
        "models", nargs="+", help="checkpoints, or folders of bundles; the result is like the first"
    )
    add("--weights", nargs="+", type=float, help="of each model in the mean (default: equal)")
    add("--keep", nargs="*", default=[], help="globs of weights that stay the first's: 'fusion.*'")
    add("--out", type=Path, required=True, help="file of the new checkpoint")
    options = parser.parse_args()
    weights = options.weights or [1.0] * len(options.models)
    checkpoint = average(options.models, weights, options.keep)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save(options.out, checkpoint)


if __name__ == "__main__":
    main()
