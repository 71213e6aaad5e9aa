"""Compare recipes at equal compute: each trains for the same core-seconds.

python -m tandem_training.compare --minutes 20 --out runs/compare
python -m tandem_training.compare recipes/*/{clip,albef}.toml --seeds 3 --out runs/compare

Without recipes, all that stand for a system. They train one after another, those first that others
start from. The same command goes on with a comparison that was stopped, also within a recipe.
After each recipe the page and the headers of the recipes are written from what is measured so far;
on the page the others are not measured."""

import argparse
import copy
import hashlib
import json
import platform
import shutil
import time
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from . import survey
from .command import errors_as_sentences
from .data.atomic import replace_file
from .data.samples import Sample
from .evaluation.comparison import K, Outcome, Row, page, with_result
from .evaluation.plot import draw_costs
from .loop.start import starting_model, starting_tokenizer
from .loop.trainer import Trainer
from .recipe import Recipe, read_recipe

SAVE_EVERY = 60.0  # core-seconds
TEXTS = 8  # whose pairs with K images are timed


@dataclass
class Job:
    """A recipe to be trained by one seed."""

    path: Path
    recipe: Recipe
    minutes: float
    out: Path  # of the comparison
    seed: int = 0  # added to the recipe's own

    @property
    def name(self) -> str:
        return self.path.stem + (f".{self.seed}" if self.seed else "")

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def key(self) -> str:
        """What a result depends on: it counts for the same recipe and minutes alone."""
        told = replace(copy.copy(self.recipe), system=None)
        return hashlib.sha256(f"{told!r} {self.minutes}".encode()).hexdigest()[:16]

    def outcome(self) -> Outcome | None:
        """Its result, if it has one."""
        file = self.out / f"{self.name}.json"
        found = json.loads(file.read_text()) if file.exists() else {}
        return Outcome(**found) if found.get("key") == self.key else None


def jobs_of(paths: list[Path], minutes: float, seeds: int, out: Path) -> list[Job]:
    """A job a recipe and seed, seed by seed. A recipe that starts from the run of another starts
    from that of this comparison, which therefore comes before it, asked for or not."""
    by_run = {path.stem: path for path in survey.recipe_files()} | {p.stem: p for p in paths}
    ordered: dict[Path, str] = {}  # to the run that each starts from

    def add(path: Path) -> None:
        if path in ordered:
            return
        start = Path(read_recipe(path).train.start)
        before = by_run.get(start.name) if start.parent.name == "runs" else None
        if before:
            add(before)
        ordered[path] = before.stem if before else ""

    for path in paths:
        add(path)
    jobs = []
    for seed in range(seeds):
        for path, before in ordered.items():
            recipe = read_recipe(path)
            changes: dict = {"seed": recipe.train.seed + seed}
            if before:
                name = before + (f".{seed}" if seed else "")
                changes["start"] = str(out / name / "model.pt")
            recipe.train = replace(recipe.train, **changes)
            jobs.append(Job(path, recipe, minutes, out, seed))
    return jobs


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


def measure(job: Job, cache: Path) -> None:
    """Train and write the result; of the run its model stays."""
    told = job.folder / "key"
    if told.exists() and told.read_text() != job.key:  # the run of a recipe that has changed
        shutil.rmtree(job.folder)
    job.folder.mkdir(parents=True, exist_ok=True)
    told.write_text(job.key)
    torch.manual_seed(job.recipe.train.seed)
    model, tokenizer = starting_model(job.recipe), starting_tokenizer(job.recipe)
    trainer = Trainer(job.recipe, job.folder, cache, model, tokenizer)
    outcome = outcome_of(job.path.stem, job.recipe, trainer, 60 * job.minutes, job.key)
    trainer.save_model()
    with replace_file(job.out / f"{job.name}.json") as file:
        file.write(json.dumps(asdict(outcome), indent=2).encode())
    for name in ("last.pt", "spent.json"):
        (job.folder / name).unlink(missing_ok=True)


def report(jobs: list[Job], target: Path) -> None:
    """Write the page with its picture, and the headers of measured recipes."""
    asked = [job.path for job in jobs]
    rows = []
    for path in dict.fromkeys([*survey.recipe_files(), *asked]):
        found = [job.outcome() for job in jobs if job.path.resolve() == path.resolve()]
        outcomes = [outcome for outcome in found if outcome]
        rows.append(Row(path.stem, read_recipe(path), outcomes))
        if outcomes:
            path.write_text(with_result(path.read_text(), outcomes[0]))
    picture = target.with_suffix(".png")
    fused = [row for row in rows if row.outcomes and row.outcomes[0].pair_ms]
    if fused:
        draw_costs({row.name: row.cost_and_recall() for row in fused}, picture)
    target.write_text(page(rows, picture.name if fused else ""))


@errors_as_sentences("compare")
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("recipes", type=Path, nargs="*", help="all systems where none is named")
    add("--minutes", type=float, default=20, help="of training a recipe, summed over cores")
    add("--seeds", type=int, default=1, help="runs of each recipe")
    add("--out", type=Path, required=True, help="folder of the results")
    add(
        "--cache", type=Path, default=Path("cache"), help="folder of the frozen trunk's activations"
    )
    add("--page", type=Path, default=Path("../docs/recipes.md"))
    args = parser.parse_args()
    jobs = jobs_of(args.recipes or survey.recipe_files(), args.minutes, args.seeds, args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    report(jobs, args.page)
    failed = []
    for job in jobs:
        if job.outcome():
            continue
        print(f"{job.name}: {args.minutes} core-minutes", flush=True)
        try:
            measure(job, args.cache)
        except (OSError, ValueError, RuntimeError) as error:
            failed.append(f"{job.name}: {error}")
            print(f"failed: {failed[-1]}", flush=True)
            continue
        report(jobs, args.page)
    own = {path.resolve() for path in survey.recipe_files()}
    if any(job.path.resolve() in own for job in jobs):
        survey.main()  # says how long each recipe is
    if failed:
        raise ValueError("; ".join(failed))


if __name__ == "__main__":
    main()
