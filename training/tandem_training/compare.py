"""Compare recipes at equal compute: each trains for the same core-seconds.

python -m tandem_training.compare --minutes 20 --out runs/compare
python -m tandem_training.compare recipes/*/{clip,albef}.toml --seeds 3 --out runs/compare

Without recipes, all that stand for a system, first those that represent the families (survey.toml),
which alone have further seeds. They train one after another, after those that they start from. The
same command goes on with a comparison that was stopped, also within a recipe. After each recipe the
page, its results (JSON) and the headers of the recipes are written from what is measured so far; on
the page the others are not measured. Results beside the page count on another machine too."""

import copy
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from . import survey
from .command import argument_parser, errors_as_sentences
from .data.atomic import replace_file
from .data.samples import Sample
from .evaluation.comparison import K, Outcome, Row, page, with_result
from .evaluation.plot import draw_costs
from .loop.start import starting_model, starting_tokenizer
from .loop.trainer import Trainer
from .recipe import Recipe, read_recipe
from .recipe_file import read_tables

SAVE_EVERY = 120.0  # core-seconds
TEXTS = 8  # whose pairs with K images are timed


@dataclass
class Job:
    """A recipe to be trained by one seed."""

    path: Path
    recipe: Recipe
    minutes: float
    out: Path  # of the comparison
    seed: int = 0  # added to the recipe's own
    before: "Job | None" = None  # whose model it starts from

    @property
    def name(self) -> str:
        return self.path.stem + (f".{self.seed}" if self.seed else "")

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def key(self) -> str:
        """What a result depends on: it counts for the same recipe, start and minutes alone. What
        the recipe says counts, so that an option it does not name may be added."""
        tables = {name: table for name, table in read_tables(self.path).items() if name != "system"}
        start = self.before.key if self.before else ""
        whole = json.dumps([tables, self.seed, self.minutes, start], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    @property
    def is_trained(self) -> bool:
        """Whether the folder has the model of this job, not one of an earlier recipe."""
        key_file = self.folder / "key"
        return (self.folder / "model.pt").exists() and key_file.read_text() == self.key


class Results:
    """The outcomes of a comparison by the names of their jobs, in a JSON file beside the page."""

    def __init__(self, page: Path):
        self.file = page.with_suffix(".json")
        stored = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.known = {name: Outcome(**outcome) for name, outcome in stored.items()}

    def of(self, job: Job) -> Outcome | None:
        outcome = self.known.get(job.name)
        return outcome if outcome and outcome.key == job.key else None

    def add(self, job: Job, outcome: Outcome) -> None:
        self.known[job.name] = outcome
        text = json.dumps({k: asdict(v) for k, v in sorted(self.known.items())}, indent=2)
        with replace_file(self.file) as file:
            file.write(text.encode() + b"\n")

    @property
    def seeds(self) -> int:
        """The number of seeds of the job with the most."""
        seeds = [int(name.partition(".")[2] or 0) for name in self.known]
        return 1 + max(seeds, default=0)


def jobs_of(paths: Iterable[Path], minutes: float, seeds: Iterable[int], out: Path) -> list[Job]:
    """A job a recipe and seed, seed by seed. A recipe that starts from the run of another starts
    from that of this comparison, which therefore comes before it, asked for or not."""
    paths = list(paths)
    by_run = {path.stem: path for path in survey.recipe_files()} | {p.stem: p for p in paths}
    jobs: dict[tuple[Path, int], Job] = {}

    def add(path: Path, seed: int) -> Job:
        if (path, seed) in jobs:
            return jobs[path, seed]
        recipe = read_recipe(path)
        start = Path(recipe.train.start)
        earlier = by_run.get(start.name) if start.parent.name == "runs" else None
        before = add(earlier, seed) if earlier else None
        recipe.train = replace(recipe.train, seed=recipe.train.seed + seed)
        return jobs.setdefault((path, seed), Job(path, recipe, minutes, out, seed, before))

    for seed in seeds:
        for path in paths:
            add(path, seed)
    return list(jobs.values())


def to_train(jobs: list[Job], results: Results) -> list[Job]:
    """Those without a result, and those that they start from whose model is not here."""
    needed = []
    for job in jobs:
        if results.of(job):
            continue
        chain = [job]
        while (earlier := chain[0].before) and not earlier.is_trained:
            chain.insert(0, earlier)
        needed += [job.name for job in chain]
    return [job for job in jobs if job.name in needed]


def train_for(trainer: Trainer, core_seconds: float) -> float:
    """Train until the steps have cost `core_seconds`, summed over threads → the actual cost. A run
    that was stopped goes on from its last state.

    The number of remaining steps is estimated after each one; the learning rates end there."""
    note = trainer.out / "spent.json"
    known = json.loads(note.read_text()) if note.exists() else {}  # core-seconds by step
    spent = saved = known.get(str(trainer.step), 0.0)
    if spent:
        trainer.total = max(trainer.step + 1, round(trainer.step * core_seconds / spent))
    while spent < core_seconds:
        start = time.process_time()
        losses = trainer.train_step()
        spent += time.process_time() - start
        trainer.total = max(trainer.step + 1, round(trainer.step * core_seconds / spent))
        print(f"step {trainer.step}/{trainer.total} {json.dumps(losses)}", flush=True)
        if spent - saved >= SAVE_EVERY:
            # Noted before the state is kept, so that every kept state has its note.
            known, saved = {**known, str(trainer.step): spent}, spent
            with replace_file(note) as file:
                file.write(json.dumps(known).encode())
            trainer.save_state()
    return spent


def pair_ms(trainer: Trainer, samples: list[Sample], language: str) -> float:
    """Milliseconds of a core that the fusion takes for a pair, K images a text, in PyTorch."""
    encoders = trainer.encoders(language)
    pixels = np.stack([encoders.rules.pixels(s.jpeg) for s in samples[:K]])
    images, texts = encoders.images(pixels)[1], [s.captions[0] for s in samples[:TEXTS]]
    words = encoders.texts(texts)[1]
    pairs = np.stack(np.meshgrid(range(len(words)), range(len(images))), -1).reshape(-1, 2)
    encoders.logits(words, images, pairs)
    start = time.process_time()
    encoders.logits(words, images, pairs)
    return round(1000 * (time.process_time() - start) / len(pairs), 3)


def outcome_of(name: str, recipe: Recipe, trainer: Trainer, core_seconds: float,
               key: str = "") -> Outcome:  # fmt: skip
    """Train for `core_seconds` and evaluate on dev, by captions of the first language."""
    spent = train_for(trainer, core_seconds)
    language, model = next(iter(recipe.data.languages)), trainer.model
    stored = 4 * recipe.model.dim  # float32
    if model.serves_fusion:
        stored += model.cells * recipe.model.vision.token_width  # int8
    return Outcome(
        recipe=name,
        fusion=recipe.model.fusion.kind,
        objectives={name: options.weight for name, options in recipe.objectives.items()},
        parameters=sum(p.numel() for p in model.parameters()),
        steps=trainer.step,
        pairs=trainer.step * recipe.train.batch * recipe.train.accumulate,
        core_minutes=round(spent / 60, 1),
        dev=trainer.evaluate(language, K),
        measured=f"{platform.machine()}, {torch.get_num_threads()} threads, {date.today()}",
        pair_ms=pair_ms(trainer, trainer.dev[language], language) if model.serves_fusion else 0.0,
        stored_bytes=stored,
        key=key,
    )


def measure(job: Job, cache: Path) -> Outcome:
    """Train and evaluate; of the run its model stays."""
    key_file = job.folder / "key"
    # The run of a recipe that has changed.
    if key_file.exists() and key_file.read_text() != job.key:
        shutil.rmtree(job.folder)
    job.folder.mkdir(parents=True, exist_ok=True)
    key_file.write_text(job.key)
    recipe = job.recipe
    if job.before:
        start = str(job.before.folder / "model.pt")
        recipe = replace(copy.copy(recipe), train=replace(recipe.train, start=start))
    torch.manual_seed(recipe.train.seed)
    model, tokenizer = starting_model(recipe), starting_tokenizer(recipe)
    trainer = Trainer(recipe, job.folder, cache, model, tokenizer)
    outcome = outcome_of(job.path.stem, recipe, trainer, 60 * job.minutes, job.key)
    trainer.save_model()
    for name in ("last.pt", "spent.json"):
        (job.folder / name).unlink(missing_ok=True)
    return outcome


def report(paths: Iterable[Path], minutes: float, results: Results, target: Path) -> None:
    """Write the page with its picture, and the headers of measured recipes: of all systems, and of
    the recipes of `paths`."""
    own = {path.resolve(): path for path in [*survey.recipe_files(), *paths]}
    jobs = jobs_of(own.values(), minutes, range(results.seeds), Path())
    rows = []
    for path in own.values():
        measured = [results.of(job) for job in jobs if job.path == path]
        outcomes = [outcome for outcome in measured if outcome]
        rows.append(Row(path.stem, read_recipe(path), outcomes))
        if outcomes:
            path.write_text(with_result(path.read_text(), outcomes[0]))
    picture = target.with_suffix(".png")
    fused = [row for row in rows if row.outcomes and row.outcomes[0].pair_ms]
    if fused:
        draw_costs({row.name: row.cost_and_recall() for row in fused}, picture)
    target.write_text(page(rows, picture.name if fused else ""))
    if any(row.outcomes and row.recipe.system for row in rows):
        survey.main()  # says how long each recipe is


@errors_as_sentences("compare")
def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("recipes", type=Path, nargs="*", help="all systems where none is named")
    add("--minutes", type=float, default=20.0, help="of training a recipe, summed over cores")
    add("--seeds", type=int, default=1, help="runs of each recipe")
    add("--out", type=Path, required=True, help="folder of the runs")
    add(
        "--cache", type=Path, default=Path("cache"), help="folder of the frozen trunk's activations"
    )
    add("--page", type=Path, default=Path("../docs/recipes.md"))
    args = parser.parse_args()
    first = args.recipes or survey.representatives()
    every = args.recipes or [*first, *survey.recipe_files()]
    jobs = jobs_of(dict.fromkeys(every), args.minutes, [0], args.out)
    jobs += jobs_of(first, args.minutes, range(1, args.seeds), args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    results = Results(args.page)
    report(args.recipes, args.minutes, results, args.page)
    failed = []
    for job in to_train(jobs, results):
        print(f"{job.name}: {args.minutes} core-minutes", flush=True)
        try:
            results.add(job, measure(job, args.cache))
        except (OSError, ValueError, RuntimeError) as error:
            failed.append(f"{job.name}: {error}")
            print(f"failed: {failed[-1]}", flush=True)
            continue
        report(args.recipes, args.minutes, results, args.page)
    if failed:
        raise ValueError("; ".join(failed))


if __name__ == "__main__":
    main()
