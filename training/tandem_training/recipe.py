"""Recipes: TOML files that name every choice of a run; an unknown key is an error that names the nearest known one."""

import difflib
import tomllib
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path

from .model import ModelConfig


@dataclass
class DataConfig:
    train: str = ""
    dev: str = ""
    views: int = 6
    languages: dict[str, float] = field(default_factory=lambda: {"en": 1.0})  # weight of each in drawing a caption
    max_corrupt: float = 0.01  # share of samples that may be skipped


@dataclass
class TrainConfig:
    start: str = ""
    train_towers: bool = True
    epochs: int = 20
    batch: int = 256  # pairs that ITC contrasts with each other
    accumulate: int = 1  # batches a step, their gradients averaged
    chunk: int = 0  # pairs that the towers hold at a time (cached gradient); 0: the whole batch
    recompute_layers: bool = False  # gradient checkpointing
    seed: int = 0
    warmup: float = 0.05
    vision_rate: float = 1e-4
    text_rate: float = 5e-5
    head_rate: float = 5e-4
    fusion_rate: float = 5e-4
    weight_decay: float = 0.1
    ema: float = 0.99
    word_dropout: float = 0.1
    smoothing: float = 0.0
    soft_mix: float = 0.3
    soft_scale: float = 20.0
    token_itc_weight: float = 1.0
    token_batch: int = 128
    caption_tokens: int = 24
    itm_weight: float = 0.5
    itm_negatives: int = 5
    evaluate_every: int = 2  # epochs
    save_every: int = 100  # steps, and at the end of every epoch


@dataclass
class Recipe:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def read_recipe(path: Path) -> Recipe:
    """Parse and check a recipe. ValueError names the file, the key and the nearest known key, or the wrong type."""
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    return _fill(Recipe, table, str(path))


def _fill(kind, table: dict, where: str):
    known = {f.name: f for f in fields(kind)}
    default = kind()
    values = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
            raise ValueError(f"{where}: unknown key {key!r}; did you mean {near!r}?")
        standard = getattr(default, key)
        if isinstance(standard, dict) and isinstance(value, dict):
            values[key] = _weights(value, f"{where} [{key}]")
        elif isinstance(value, dict) and is_dataclass(standard):
            values[key] = _fill(type(standard), value, f"{where} [{key}]")
        elif type(value) is type(standard) or (isinstance(standard, float) and type(value) is int):
            values[key] = value
        else:
            raise ValueError(f"{where}: {key} = {value!r}; expected {type(standard).__name__}")
    return kind(**values)


def _weights(table: dict, where: str) -> dict[str, float]:
    """A table of free names, each with a weight above zero."""
    for name, weight in table.items():
        if type(weight) not in (int, float) or weight <= 0:
            raise ValueError(f"{where}: {name} = {weight!r}; expected a weight above 0")
    if not table:
        raise ValueError(f"{where}: empty; expected at least one name with its weight")
    return {name: float(weight) for name, weight in table.items()}
