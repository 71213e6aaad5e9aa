"""Where a run starts: an earlier checkpoint, a bundle, or the published weights of those encoders
that have some."""

import fnmatch
from collections import Counter
from pathlib import Path

import torch
from tokenizers import Tokenizer

from ..bundle.rebuilt import bundle_checkpoint, check_architecture, check_embeddings
from ..data.tokens import for_captions, read_tokenizer
from ..models import weights
from ..models.fusion.late import Late
from ..models.model import Tandem
from ..models.registry import INPUTS
from ..recipe import Recipe, is_bundle
from .checkpoint import load


def starting_model(recipe: Recipe) -> Tandem:
    """Pre-trained encoders with new heads, or what fits of the checkpoint that the recipe names."""
    model = Tandem(recipe.model)
    if not recipe.train.start:
        load_published(model)
    return model


def load_published(model: Tandem) -> None:
    """Fill the parts that published weights exist for; the others start at random. ValueError when
    those weights have another shape."""
    for part in (model.vision, model.text, model.fusion):
        part.load_published()


def starting_tokenizer(recipe: Recipe) -> Tokenizer:
    """The tokenizer of the text encoder that the run starts from."""
    start, kept = recipe.train.start, None
    if start:
        kept = checkpoint_of(start).get("tokenizer")
    longest = recipe.model.text.max_tokens
    if kept is None:
        return read_tokenizer(weights.minilm_folder() / "tokenizer.json", longest)
    return for_captions(Tokenizer.from_str(kept), longest)


def checkpoint_of(start: str) -> dict:
    """Of a run, or of the bundle in a folder."""
    return bundle_checkpoint(Path(start)) if is_bundle(start) else load(Path(start))


@torch.no_grad()
def take_what_fits(model: Tandem, start: str, recipe: Recipe) -> list[dict]:
    """Copy every weight of the checkpoint or bundle that has the same name and shape. Where the
    encoders are frozen, the model also gets the checkpoint's further inputs, which still fit its
    images.

    Returns:
        The origins of the data that the checkpoint was trained on.
    Raises:
        ValueError: no part fits, the checkpoint lacks weights of the frozen trunk, or the encoders
            of a bundle are not those of the recipe.
    """
    checkpoint = checkpoint_of(start)
    if is_bundle(start):
        check_architecture(model, checkpoint["state"], Path(start))
    if set(recipe.train.freeze) >= {"vision.*", "pooler.*", "text.*"}:
        for name, description in checkpoint["inputs"].items():
            if name not in recipe.inputs:
                model.inputs[name] = INPUTS[name].from_description(description, model.config)
                model.inputs[name].requires_grad_(False)
    state, taken = model.state_dict(), {}
    for name, value in checkpoint["state"].items():
        if name in state and state[name].shape == value.shape:
            state[name].copy_(value)
            taken.setdefault(name.split(".")[0], []).append(name)
    missing = sorted({name.split(".")[0] for name in state} - taken.keys())
    if not taken.keys() & {"vision", "text", "fusion"}:
        raise ValueError(
            f"nothing of {start} fits the recipe; it is of the architecture {checkpoint['config']}"
        )
    trunk = {id(p) for p in model.vision.trunk_parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in trunk}
    if lacking := names.difference(*taken.values()):
        raise ValueError(f"{start} lacks {len(lacking)} weights of the frozen trunk of the recipe")
    if is_bundle(start):
        check_embeddings(model, Path(start))
    if "fusion" not in taken:
        model.fusion.load_published()
    elif isinstance(model.fusion, Late):
        model.fusion.load_aligned([name.removeprefix("fusion.") for name in taken["fusion"]])
    sizes = Counter(name.split(".")[0] for name in state)
    parts = ", ".join(f"{part} ({len(names)} of {sizes[part]})" for part, names in taken.items())
    news = f"; new: {', '.join(missing)}" if missing else ""
    print(f"started from {start}: {parts}{news}", flush=True)
    return checkpoint.get("data", [])


def freeze(model: Tandem, patterns: list[str]) -> None:
    """Freeze the trunk and the parameters that the globs name. ValueError for a glob of none."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(
                f"[train] freeze: {pattern!r} names no parameter; they begin with "
                f"{', '.join(dict.fromkeys(n.split('.')[0] for n in names))}"
            )
    for name, parameter in model.named_parameters():
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    for parameter in model.vision.trunk_parameters():
        parameter.requires_grad_(False)
