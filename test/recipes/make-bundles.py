"""Writes a bundle of each recipe named on the command line, small and hardly trained, into the folder that comes
first: FOLDER/<recipe>/, the drawings as FOLDER/<name>.jpg, and prints what `evaluate` finds with those bundles:

{recipe: {serve, queries: [{text, similarity: {name: score}, match: {name: score} | null}]}}"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2] / "training"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.drawings import write_drawings  # noqa: E402
from support.models import NAMES, masking_tokenizer, recipe_trainer, small  # noqa: E402

from tandem_training.bundle.encoders import BundleEncoders  # noqa: E402
from tandem_training.bundle.write import export_bundle  # noqa: E402
from tandem_training.data.samples import read_shards  # noqa: E402
from tandem_training.evaluation.recall import match_score  # noqa: E402
from tandem_training.evaluation.retrieval import Scored  # noqa: E402
from tandem_training.loop.checkpoint import save  # noqa: E402

STEPS = 2


def trained(name: str, folder: Path, shard: Path) -> tuple[str, Path]:
    """→ how the system serves, its bundle."""
    recipe, tokenizer = small(name, shard), masking_tokenizer()
    run = recipe_trainer(recipe, folder / "runs" / name, tokenizer)
    for _ in range(STEPS):
        run.train_step()
    checkpoint, tokenizer_file = folder / "runs" / f"{name}.pt", folder / "runs" / f"{name}.json"
    save(checkpoint, run.average.checkpoint())
    tokenizer.save(str(tokenizer_file))
    export_bundle(checkpoint, folder / name, tokenizer_file, "", "1.0.0")
    return recipe.system.serve, folder / name


def found(bundle: Path, names: list[str], samples: list) -> list[dict]:
    encoders = BundleEncoders(bundle)
    scored = Scored(encoders, samples, len(samples))
    way, queries = scored.text_to_image, []
    for row, text in enumerate(scored.encoded.captions):
        order = way.candidates[row]
        by_match = match_score(encoders.manifest["match"], way.logits[row], way.similarity[row])
        queries.append(
            {
                "text": text,
                "similarity": dict(zip(names, way.all_similarity[row].tolist(), strict=True)),
                "match": {names[i]: float(s) for i, s in zip(order, by_match, strict=True)}
                if encoders.fused
                else None,
            }
        )
    return queries


def main() -> None:
    folder, *recipes = sys.argv[1:]
    folder, report = Path(folder), {}
    torch.set_num_threads(1)
    shard = write_drawings(folder / "drawings-0000.tar", languages=("zh", "de"))
    samples = read_shards(str(shard))
    names = [f"drawing-{i}" for i in range(len(samples))]
    for name, sample in zip(names, samples, strict=True):
        (folder / f"{name}.jpg").write_bytes(sample.jpeg)
    with redirect_stdout(sys.stderr):
        for recipe in recipes or NAMES:
            serve, bundle = trained(recipe, folder, shard)
            report[recipe] = {"serve": serve, "queries": found(bundle, names, samples)}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
