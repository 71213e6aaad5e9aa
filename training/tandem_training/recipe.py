"""Recipes: TOML files that name every choice of a run; an unknown key is an error that names the
nearest known one."""

import difflib
import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path

from .models.model import ModelConfig
from .models.text.second import SecondTextConfig


@dataclass
class DataConfig:
    train: str = ""
    dev: str = ""
    views: int = 6
    languages: dict[str, float] = field(
        default_factory=lambda: {"en": 1.0}
    )  # weight of each in drawing a caption
    max_corrupt: float = 0.01  # share of samples that may be skipped


@dataclass
class TrainConfig:
    start: str = ""
    train_towers: bool = True
    epochs: int = 20
    batch: int = 256  # pairs that ITC contrasts with each other
    accumulate: int = 1  # batches a step, their gradients averaged
    captions: int = 1  # of each photo of a batch; those beyond the first are read by ITC alone
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
    smoothing: float = 0.0  # share of a target spread evenly: LM's, and without a queue ITC's
    soft_mix: float = (
        0.3  # share of ITC's target that follows a teacher: sentence encoder, or momentum encoder
    )
    soft_scale: float = 20.0
    token_itc_weight: float = 1.0
    token_batch: int = 128  # pairs of a batch that token ITC, MLM and LM read
    caption_tokens: int = 24
    itm_weight: float = 0.5
    itm_negatives: int = 5
    # embeddings that the momentum encoder (the average of the model) keeps for ITC; 0 = neither
    queue: int = 0
    evaluate_every: int = 2  # epochs
    save_every: int = 100  # steps, and at the end of every epoch

    def __post_init__(self):
        least = {"epochs": 1, "batch": 1, "accumulate": 1, "captions": 1, "chunk": 0, "evaluate_every": 1,
                 "save_every": 1}  # fmt: skip
        for key, bound in least.items():
            if getattr(self, key) < bound:
                raise ValueError(f"{key} = {getattr(self, key)}; expected at least {bound}")


@dataclass
class ObjectivesConfig:
    """The weight of each objective in the loss; 0 leaves it out."""

    itc: float = 0.0
    token_itc: float = 0.0
    siglip: float = 0.0
    itm: float = 0.0
    mlm: float = 0.0
    lm: float = 0.0


# What an objective needs: encoders that learn, a fusion that reads text and image together.
OF_THE_TOWERS = ("itc", "token_itc", "siglip")
OF_THE_FUSION = ("token_itc", "itm", "mlm", "lm")
OF_THE_SECOND_TEXT = ("second_itc", "second_text_itc")


@dataclass
class Recipe:
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)
    second_text: SecondTextConfig = field(default_factory=SecondTextConfig)

    def weights(self) -> dict[str, float]:
        """The objectives to train, each with its weight: those of [objectives], or where that table
        is missing ITC and the two weights that [train] has for the shipped bundle; and the two of
        [second_text]. ValueError when they do not go with each other, with the model or with the
        data."""
        older = [
            name
            for name in ("token_itc_weight", "itm_weight")
            if getattr(self.train, name) != getattr(TrainConfig, name)
        ]
        given = asdict(self.objectives)
        if any(given.values()) and older:
            raise ValueError(
                f"weights stand in [objectives] or in [train], not in both: {', '.join(older)}"
            )
        if not any(given.values()):
            given = {"itm": self.train.itm_weight}
            if self.train.train_towers:
                given = {"itc": 1.0, "token_itc": self.train.token_itc_weight} | given
        if self.second_text.languages:
            given |= {
                "second_itc": self.second_text.itc,
                "second_text_itc": self.second_text.text_itc,
            }
        weights = {name: weight for name, weight in given.items() if weight != 0}
        _check(weights, self)
        return weights

    def architecture(self) -> str:
        """What a checkpoint of the run must agree in."""
        second = self.second_text
        return repr(self.model) + (
            f" and a second text encoder: {second.architecture()}" if second.languages else ""
        )

    def sentence_teacher(self) -> bool:
        """Whether ITC follows a frozen copy of the sentence encoder that the text encoder starts
        from."""
        learns = not {"itc", "token_itc", *OF_THE_SECOND_TEXT}.isdisjoint(self.weights())
        return learns and self.train.soft_mix > 0 and self.train.queue == 0


def _check(weights: dict[str, float], recipe: Recipe) -> None:
    model, train, fusion = recipe.model, recipe.train, recipe.model.fusion
    if not weights:
        raise ValueError("nothing to train: give [objectives] a weight above 0, such as itc = 1.0")
    for name, weight in weights.items():
        if weight < 0:
            raise ValueError(f"objective {name} has the weight {weight}; expected 0 or more")
        if name in OF_THE_TOWERS and not train.train_towers:
            raise ValueError(f"objective {name} trains the encoders, but train_towers = false")
        if name in OF_THE_FUSION and fusion == "none":
            raise ValueError(f"objective {name} reads text and image together, but fusion = 'none'")
        if name in ("mlm", "lm") and train.word_dropout > 0:
            raise ValueError(
                f"objective {name} learns the words: set word_dropout = 0, not {train.word_dropout}"
            )
    if "token_itc" in weights and fusion != "aligned":
        raise ValueError(
            f"objective token_itc aligns words with cells for fusion = 'aligned', not {fusion!r}"
        )
    if "lm" in weights and fusion == "co-attention":
        raise ValueError(
            "objective lm: the image stream of fusion = 'co-attention' sees the words to be written"
        )
    if "lm" in weights and model.text == "bert" and fusion not in ("inserted-attention", "patches"):
        raise ValueError(
            "objective lm: the text tokens of text = 'bert' have seen the words to be written; use text = 'clip', or "
            f"fusion = 'inserted-attention' or 'patches', not {fusion!r}"
        )
    contrasts = not {"itc", *OF_THE_SECOND_TEXT}.isdisjoint(weights)
    if contrasts and model.text == "clip" and train.soft_mix > 0 and train.queue == 0:
        raise ValueError(
            f"soft_mix = {train.soft_mix} follows the sentence encoder that text = 'bert' starts from; with text = "
            "'clip' set soft_mix = 0, or queue above 0 for a momentum encoder to follow"
        )
    if train.captions > 1 and ("itc" not in weights or train.queue > 0):
        raise ValueError(
            f"captions = {train.captions} are read by objective itc without a queue; expected 1"
        )
    if train.queue > 0 and "itc" not in weights:
        raise ValueError(f"queue = {train.queue} serves objective itc, which has no weight")
    if recipe.second_text.languages:
        _check_second_text(recipe)


def _check_second_text(recipe: Recipe) -> None:
    second = recipe.second_text
    if both := second.languages.keys() & recipe.data.languages.keys():
        raise ValueError(
            f"languages of [data] and of [second_text] share {', '.join(sorted(both))}: one encoder reads a language"
        )
    if second.pretrain_steps and recipe.model.text == "clip" and not recipe.train.start:
        raise ValueError(
            f"[second_text] pretrain_steps = {second.pretrain_steps} follows the first text encoder, which with text = "
            "'clip' has learnt nothing yet; set pretrain_steps = 0"
        )


def read_recipe(path: Path) -> Recipe:
    """Parse and check a recipe. ValueError names the file, the key and the nearest known key, or
    the wrong type."""
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
    recipe = _fill(Recipe, table, str(path))
    if "second_text" in table and not recipe.second_text.languages:
        raise ValueError(
            f"{path} [second_text]: no languages; expected some with their weights: languages = {{ zh = 1 }}"
        )
    try:
        recipe.weights()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return recipe


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
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _weights(table: dict, where: str) -> dict[str, float]:
    """A table of free names, each with a weight above zero."""
    for name, weight in table.items():
        if type(weight) not in (int, float) or weight <= 0:
            raise ValueError(f"{where}: {name} = {weight!r}; expected a weight above 0")
    if not table:
        raise ValueError(f"{where}: empty; expected at least one name with its weight")
    return {name: float(weight) for name, weight in table.items()}
