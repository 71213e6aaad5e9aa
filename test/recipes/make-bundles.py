"""Writes a bundle of each recipe named on the command line, small and hardly trained, into the folder that comes
first: FOLDER/<recipe>/, the drawings as FOLDER/<name>.jpg, and prints what `evaluate` finds with those bundles:

{recipe: {serve, queries: [{text, similarity: {name: score}, match: {name: score} | null}]}}"""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2] / "training"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support import checkpoints  # noqa: E402
from support.drawings import write_drawings  # noqa: E402
from support.models import (  # noqa: E402
    FILES,
    NAMES,
    cut,
    masking_tokenizer,
    recipe_trainer,
    small,
)
from tandem_training.bundle.beside import put_beside  # noqa: E402
from tandem_training.bundle.bundle import read_manifest, write_manifest  # noqa: E402
from tandem_training.bundle.encoders import BundleEncoders  # noqa: E402
from tandem_training.bundle.hugging_face import import_checkpoint  # noqa: E402
from tandem_training.bundle.replace_fusion import replace_fusion  # noqa: E402
from tandem_training.bundle.write import export_bundle  # noqa: E402
from tandem_training.data.samples import read_shards  # noqa: E402
from tandem_training.evaluation.recall import match_score  # noqa: E402
from tandem_training.evaluation.retrieval import Scored  # noqa: E402
from tandem_training.loop.checkpoint import save  # noqa: E402
from tandem_training.recipe import read_recipe  # noqa: E402
from tandem_training.train import trainer_of  # noqa: E402

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


def fusion_on_clip(folder: Path, shard: Path) -> Path:
    """A fusion encoder that was trained on the tokens of an imported random CLIP."""
    source, dual = checkpoints.clip(folder / "runs" / "clip"), folder / "runs" / "clip-tokens"
    import_checkpoint(source, dual, tokens=str(shard), token_width=8)
    recipe = cut(read_recipe(FILES["fusion-on-clip"]), shard)
    recipe.train = replace(recipe.train, start=str(dual), batch=6)
    recipe.objectives["lists"] = replace(recipe.objectives["lists"], size=3, nearest=4, gallery=8)
    run = trainer_of(recipe, folder / "runs" / "fusion-on-clip", folder / "runs" / "cache")
    for _ in range(STEPS):
        run.train_step()
    checkpoint = folder / "runs" / "fusion-on-clip.pt"
    save(checkpoint, run.average.checkpoint() | {"data": []})
    replace_fusion(checkpoint, dual, folder / "fusion-on-clip", "1.0.0", "")
    # Without captioned images to fit it on, the match rule ignores the logit: give it a share.
    write_match(folder / "fusion-on-clip", {"logit": 0.5, "similarity": 5.0, "bias": 0.0})
    return folder / "fusion-on-clip"


def write_match(bundle: Path, match: dict) -> None:
    manifest = read_manifest(bundle)
    del manifest["files"]
    write_manifest(bundle, manifest | {"match": match})


def blip_beside_clip(folder: Path, name: str, compute: bool) -> Path:
    runs = folder / "runs"
    if not (runs / "dual").exists():
        import_checkpoint(checkpoints.clip(runs / "dual-clip"), runs / "dual")
        checkpoints.blip(runs / "blip")
    put_beside(runs / "dual", runs / "blip", folder / name, "1.0.0", compute=compute)
    return folder / name


# Bundles of imported models that rerank.
IMPORTED = {
    "fusion-on-clip": fusion_on_clip,
    "blip-stored": lambda folder, _: blip_beside_clip(folder, "blip-stored", compute=False),
    "blip-computed": lambda folder, _: blip_beside_clip(folder, "blip-computed", compute=True),
}


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
        for recipe in recipes or [*NAMES, *IMPORTED]:
            if recipe in IMPORTED:
                (folder / "runs").mkdir(exist_ok=True)
                serve, bundle = "R", IMPORTED[recipe](folder, shard)
            else:
                serve, bundle = trained(recipe, folder, shard)
            report[recipe] = {"serve": serve, "queries": found(bundle, names, samples)}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
