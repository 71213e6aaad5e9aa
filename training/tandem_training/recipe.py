"""Recipes: TOML files that name every choice of a run; an unknown key is an error that names the
nearest known one."""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import ClassVar

from .models.model import ModelConfig
from .models.part import Table
from .models.registry import INPUTS, PARTS, nearest, part_of
from .objectives import registry
from .objectives.objective import Objective
from .recipe_file import read_tables
from .system import SERVES, System


@dataclass(frozen=True)
class DataConfig(Table):
    """Which shards are read, and how a batch is drawn from them."""

    train: str = ""
    dev: str = ""
    views: int = 6  # kept of each image: itself, its mirror image, crops; 0: a new crop each time
    languages: dict[str, float] = field(default_factory=lambda: {"en": 1.0})  # weight in drawing
    max_corrupt: float = 0.01  # share of samples that may be skipped
    captions: int = 1  # of each image of a batch; only ITC reads those beyond the first
    caption_tokens: int = 24
    word_dropout: float = 0.1

    def gives(self) -> set[str]:
        gives = {"further.embedding"} if self.captions > 1 else set()
        gives |= {"visual.ids"}  # codes of the cells, which `loop.visual_tokens` computes
        gives |= {"image.other"} if self.views != 1 else set()
        if self.word_dropout == 0:
            gives |= {"text.words"} | ({"text.phrases"} if "en" in self.languages else set())
        return gives


@dataclass(frozen=True)
class ModelKeys(Table):
    """Of `ModelConfig`, beside the parts."""

    dim: int = 384
    companion: bool = False


@dataclass(frozen=True)
class TrainConfig(Table):
    """Where training starts, how long it takes, and what a step holds."""

    CHOICES: ClassVar[dict] = {"precision": ("auto", "float32", "bfloat16")}

    # Folder or checkpoint of an earlier run, of which the model takes what fits; or the folder of a
    # bundle: with the objective lists alone a fusion is trained on its tokens, otherwise the model
    # takes the weights of its graphs.
    start: str = ""
    freeze: list[str] = field(default_factory=list)  # globs over parameters: "text.*"
    epochs: int = 20
    batch: int = 256  # pairs that ITC contrasts with each other
    accumulate: int = 1  # batches a step, their gradients averaged
    chunk: int = 0  # pairs that the encoders hold at a time (cached gradient); 0: the whole batch
    one_of: bool = False  # one objective a batch, drawn in proportion to its weight
    recompute_layers: bool = False  # gradient checkpointing
    precision: str = "auto"  # of products: float32 or bfloat16; auto: the faster one here
    seed: int = 0
    warmup: float = 0.05  # share of the steps
    ema: float = 0.99
    evaluate_every: int = 2  # epochs
    save_every: int = 100  # steps, and at the end of every epoch


@dataclass(frozen=True)
class GroupConfig(Table):
    """How fast a group of parameters learns; a number alone is its rate."""

    SHORT: ClassVar[str] = "rate"
    CHOICES: ClassVar[dict] = {"kind": ("adamw", "sgd")}

    rate: float = 5e-4
    kind: str = "adamw"  # or sgd, with momentum 0.9
    weight_decay: float = 0.1  # of matrices; biases, norms and scalars do not decay


@dataclass(frozen=True)
class OptimiserConfig(Table):
    """How fast each group of parameters learns."""

    vision: GroupConfig = field(default_factory=lambda: GroupConfig(1e-4))
    text: GroupConfig = field(default_factory=lambda: GroupConfig(5e-5))
    projection: GroupConfig = field(default_factory=GroupConfig)  # into embedding and image tokens
    fusion: GroupConfig = field(default_factory=GroupConfig)  # and the heads of the objectives
    inputs: GroupConfig = field(default_factory=GroupConfig)  # such as a second text encoder
    # Temperatures and biases. Adam moves a number by at most the rate a step: at 5e-4 a temperature
    # of 20 stays within 9 % over all 345 steps of the towers' recipe.
    scalars: GroupConfig = field(default_factory=lambda: GroupConfig(1e-2))


@dataclass
class Recipe:
    """A recipe as it was read and checked: data, model, objectives and training."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    inputs: dict = field(default_factory=dict)  # config of each further input, by name
    objectives: dict[str, Objective.Options] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    system: System | None = None  # that it stands for

    def check(self) -> None:
        """ValueError where objectives need what nothing gives, or something is given in vain."""
        given = self.model.gives() | self.data.gives()
        if self.system:
            self._check_serving(self.system.serve, "match.logit" in given)
        if self.fuses_tokens:
            given |= {"near.lists"}
        elif self.train.start and "lists" in self.objectives:
            others = ", ".join(sorted(self.objectives.keys() - {"lists"}))
            raise ValueError(
                f"lists trains a fusion on the tokens of {self.train.start}, whose encoders stay; "
                f"{others} would change them: the objectives are lists alone, or others without it"
            )
        for name, config in self.inputs.items():
            INPUTS[name].check(config, self.data.languages, given, bool(self.train.start))
            given |= INPUTS[name].gives
        others = {
            "image.other": "another view of each image: [data] views = 2 would",
            "text.words": "words must be whole: [data] word_dropout = 0 would",
            "text.phrases": "noun phrases are those of whole English words: [data] word_dropout = 0"
            " and languages = { en = 1.0 } would",
            "further.embedding": "several captions an image: [data] captions = 5 would",
            "text.sentences": "soft_mix = 0 does without a teacher, [text] kind = 'bert' has one",
            "second.embedding": "a table [second_text] would",
            "near.lists": "[train] start = the folder of a bundle would, with no other objective",
        }
        registry.check(self.objectives, given, self.model, others, self.train.freeze)
        read = set().union(*(registry.OBJECTIVES[n].reads(o) for n, o in self.objectives.items()))
        if self.codes() and not self.data.views:
            raise ValueError("[data] views = 0: codes are those of kept views; give at least 1")
        vain = {
            "further.embedding": f"[data] captions = {self.data.captions}: those beyond the first"
            " are read by objectives itc, without a queue, mil_nce and second_caption",
            "second.embedding": "[second_text] is read by objectives second_itc and"
            " second_text_itc",
        }
        for feature, reader in vain.items():
            if feature in given - read:
                raise ValueError(f"{reader}, which the recipe has not")

    def _check_serving(self, serve: str, fused: bool) -> None:
        if fused == (serve == "E"):
            raise ValueError(
                f"[system] serve = {serve!r}: {SERVES[serve]}; but the fusion "
                f"{self.model.fusion.kind!r} gives {'a' if fused else 'no'} logit"
            )
        if serve in ("R", "R+") and self.model.companion != (serve == "R+"):
            raise ValueError(
                f"[system] serve = {serve!r}: {SERVES[serve]}; but [model] companion = "
                f"{str(self.model.companion).lower()}"
            )

    @property
    def fuses_tokens(self) -> bool:
        """Whether it trains a fusion alone, on the tokens of a bundle. Whether `start` is one shows
        when the run starts."""
        return bool(self.train.start) and self.objectives.keys() == {"lists"}

    def architecture(self) -> dict:
        """What a checkpoint of the run must agree in."""
        inputs = {name: config.architecture() for name, config in self.inputs.items()}
        return self.model.tables() | inputs | {"objectives": list(self.objectives)}

    def codes(self) -> int:
        """How many codes its objectives have for image cells; 0: they need none."""
        counts = {getattr(options, "codes", 0) for options in self.objectives.values()} - {0}
        if len(counts) > 1:
            raise ValueError(f"codes = {sorted(counts)}; expected the same in every objective")
        return max(counts, default=0)

    def needs(self, feature: str) -> bool:
        """Whether an objective needs it."""
        objectives = self.objectives.items()
        return any(feature in registry.OBJECTIVES[n].wants(options) for n, options in objectives)


def is_bundle(start: str) -> bool:
    """Whether `[train] start` names the folder of a bundle."""
    return bool(start) and (Path(start) / "manifest.json").is_file()


def read_recipe(path: Path) -> Recipe:
    """Parse and check a recipe. ValueError names the file, the key and the nearest known key, or
    the wrong type."""
    try:
        recipe = _recipe(read_tables(path))
        recipe.check()
    except ValueError as error:  # TOMLDecodeError is one
        raise ValueError(f"{path}: {error}") from error
    return recipe


def _recipe(tables: dict) -> Recipe:
    plain = {"data": DataConfig, "train": TrainConfig, "optimiser": OptimiserConfig}
    known = [*plain, "model", "objectives", "system", *PARTS, *INPUTS]
    for table, keys in tables.items():
        if table not in known:
            raise ValueError(f"unknown key {table!r}; did you mean {nearest(table, known)!r}?")
        if not isinstance(keys, dict):
            raise ValueError(f"{table} = {keys!r}; expected a table [{table}]")
    values = {name: _fill(kind, tables.get(name, {}), f"[{name}]") for name, kind in plain.items()}
    inputs = {n: _fill(i.Config, tables[n], f"[{n}]") for n, i in INPUTS.items() if n in tables}
    objectives = _objectives(tables.get("objectives", {}))
    system = _fill(System, tables["system"], "[system]") if "system" in tables else None
    return Recipe(
        model=_model(tables), inputs=inputs, objectives=objectives, system=system, **values
    )


def _model(tables: dict) -> ModelConfig:
    standard, parts = ModelConfig(), {}
    for role in PARTS:
        keys = dict(tables.get(role, {}))
        kind = keys.pop("kind", getattr(standard, role).kind)
        parts[role] = _fill(part_of(role, kind).Config, keys, f"[{role}]")
    keys = _fill(ModelKeys, tables.get("model", {}), "[model]")
    return ModelConfig(keys.dim, **parts, companion=keys.companion)


def _objectives(table: dict) -> dict[str, Objective.Options]:
    """The objectives of a weight above 0, each with its options."""
    options, known = {}, registry.OBJECTIVES
    for name, value in table.items():
        if name not in known:
            near = nearest(name, known)
            raise ValueError(f"[objectives]: unknown key {name!r}; did you mean {near!r}?")
        value = value if isinstance(value, dict) else {"weight": value}
        options[name] = _fill(known[name].Options, value, f"[objectives] {name}")
    return {name: value for name, value in options.items() if value.weight > 0}


def _fill(kind, table: dict, where: str):
    """An instance of a dataclass from the keys of a table."""
    known, default, values = {f.name for f in fields(kind)}, _default(kind), {}
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}; did you mean {nearest(key, known)!r}?")
        standard = default[key]
        if is_dataclass(standard):
            value = value if isinstance(value, dict) else {standard.SHORT: value}
            # A table that names some keys keeps the part's own default of the others.
            own = {f.name: getattr(standard, f.name) for f in fields(standard)}
            values[key] = _fill(type(standard), own | value, f"{where} {key}")
        elif isinstance(standard, dict) and isinstance(value, dict):
            values[key] = _weights(value, f"{where} {key}")
        elif isinstance(standard, list) and isinstance(value, list):
            values[key] = [str(item) for item in value]
        elif type(value) is type(standard) or (isinstance(standard, float) and type(value) is int):
            values[key] = type(standard)(value)
        else:
            raise ValueError(f"{where}: {key} = {value!r}; expected {type(standard).__name__}")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _default(kind) -> dict:
    """The default of each key."""
    return {
        f.name: f.default_factory() if f.default is MISSING else f.default for f in fields(kind)
    }


def _weights(table: dict, where: str) -> dict[str, float]:
    """A table of free names, each with a weight above zero."""
    for name, weight in table.items():
        if type(weight) not in (int, float) or weight <= 0:
            raise ValueError(f"{where}: {name} = {weight!r}; expected a weight above 0")
    if not table:
        raise ValueError(f"{where}: empty; expected at least one name with its weight")
    return {name: float(weight) for name, weight in table.items()}
