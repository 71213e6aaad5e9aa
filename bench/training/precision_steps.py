"""Seconds of a training step of the recipe `clip` in the precision that `auto` chooses and in
float32, here and as on processors with fewer instructions.

    python bench/training/precision_steps.py --batch 16 --rounds 5

oneDNN and PyTorch are limited to the instructions of older processors by environment variables, in
a process each. Rounds alternate between the precisions. Prints a JSON line for each processor:
what `auto` chooses, and the median seconds of a step."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

PROCESSORS = {
    "this one": {},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "AVX2 for PyTorch alone": {"ATEN_CPU_CAPABILITY": "avx2"},
}


def measure(batch: int, tokens: int, rounds: int) -> dict:
    import torch
    from clip_steps import RECIPE, Own

    from tandem_training.objectives.features import Precision
    from tandem_training.recipe import read_recipe

    torch.manual_seed(0)
    recipe = read_recipe(RECIPE)
    size = recipe.model.vision.image_size
    images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
    own = Own(recipe, images, torch.randint(1000, 30000, (batch, tokens)))
    choices = {name: Precision.of(name, torch.device("cpu")) for name in ("auto", "float32")}
    seconds = {name: [] for name in choices}
    own.step(choices["float32"])  # first allocations
    for _ in range(rounds):
        for name, precision in choices.items():
            start = time.perf_counter()
            own.step(precision)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(of) for name, of in seconds.items()}
    return {"chosen": str(choices["auto"])} | medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16, help="of every caption")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--here", action="store_true", help="measure in this process alone")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.batch, args.tokens, args.rounds)))
        return
    for name, limits in PROCESSORS.items():
        command = [sys.executable, "-W", "ignore", *sys.argv, "--here"]
        printed = subprocess.run(
            command, env=os.environ | limits, check=True, capture_output=True, text=True
        )
        print(json.dumps({"processor": name} | json.loads(printed.stdout)), flush=True)


if __name__ == "__main__":
    main()
