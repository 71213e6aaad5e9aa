"""Seconds of a training step: the recipe `clip` against open_clip_torch with the same architecture.

    python bench/training/clip_steps.py --batch 256 --rounds 5 --steps 4

Both start from the same batch in memory. A step is forward, loss, backward, clipping and AdamW, in
bf16 autocast. Rounds alternate. open_clip pads captions to its context length, which is their
length here. Prints one JSON object: seconds of every step, and the parameters of both."""

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path

import open_clip
import torch
from open_clip.loss import ClipLoss

from tandem_training.loop.optim import Optimiser
from tandem_training.models.model import MAX_LOGIT_SCALE, Tandem, limit_scales
from tandem_training.objectives.features import Batch, Precision
from tandem_training.objectives.objective import Step
from tandem_training.objectives.registry import attach, losses
from tandem_training.recipe import read_recipe

RECIPE = Path(__file__).parents[2] / "training" / "recipes" / "dual-encoders" / "clip.toml"
BFLOAT16 = Precision(True)


class Own:
    """The recipe as `train` runs it: encode, objectives, clipping, AdamW, moving average."""

    def __init__(self, recipe, images: torch.Tensor, ids: torch.Tensor):
        self.model = Tandem(recipe.model)
        attach(recipe.objectives, self.model, vocabulary=None)
        self.average = copy.deepcopy(self.model)
        self.optimiser = Optimiser.of(self.model, recipe.optimiser, recipe.train.warmup)
        texts = {"text.ids": ids, "text.mask": torch.ones_like(ids)}
        patches = self.model.vision.trunk(images).to(torch.bfloat16)
        whole = {"image.ids": torch.arange(len(ids))} | texts
        self.batch = Batch({"image.activations": patches} | texts, whole)

    def parameters(self) -> list[torch.nn.Parameter]:
        return list(self.model.parameters())

    def step(self, precision: Precision = BFLOAT16) -> None:
        self.model.train()
        self.optimiser.zero_grad()
        random = torch.Generator()
        inputs = dict(self.batch.inputs)
        if not precision.bfloat16:  # as the trainer does
            inputs["image.activations"] = inputs["image.activations"].float()
        with precision(torch.device("cpu")):
            features = self.model(inputs)
        step = Step(0, self.model, self.average, self.batch, features, random, precision)
        losses(step)["loss"].backward()
        self.optimiser.step(0.5)
        limit_scales(self.model)
        with torch.no_grad():
            for average, value in zip(
                self.average.parameters(), self.model.parameters(), strict=True
            ):
                average.lerp_(value, 0.01)


class OpenClip:
    """The same widths, layers and heads, trained as open_clip's own loop does."""

    def __init__(self, recipe, images: torch.Tensor, ids: torch.Tensor):
        own = recipe.model
        vision = {
            "image_size": own.vision.image_size, "layers": own.vision.layers,
            "width": own.vision.width, "head_width": own.vision.width // own.vision.heads,
            "patch_size": own.vision.patch,
        }  # fmt: skip
        text = {
            "context_length": ids.shape[1], "vocab_size": 30522, "width": own.text.width,
            "heads": own.text.heads, "layers": own.text.layers,
        }  # fmt: skip
        self.model = open_clip.CLIP(embed_dim=own.dim, vision_cfg=vision, text_cfg=text)
        self.images = (images.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()
        # Its pooling reads the position of the highest id, the end of the text.
        self.ids = ids.clone()
        self.ids[:, -1] = 30521
        self.loss = ClipLoss()
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        decayed = {"params": matrices, "weight_decay": recipe.optimiser.text.weight_decay}
        groups = [decayed, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98))

    def parameters(self) -> list[torch.nn.Parameter]:
        return list(self.model.parameters())

    def step(self) -> None:
        self.model.train()
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            image, text, scale = self.model(self.images, self.ids)[:3]
            loss = self.loss(image, text, scale)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16, help="of every caption")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of each, a round")
    args = parser.parse_args()
    torch.manual_seed(0)
    recipe = read_recipe(RECIPE)
    recipe.train = replace(recipe.train, batch=args.batch)
    size = recipe.model.vision.image_size
    images = torch.randint(0, 256, (args.batch, size, size, 3), dtype=torch.uint8)
    ids = torch.randint(1000, 30000, (args.batch, args.tokens))
    sides = {
        "tandem": Own(recipe, images, ids),
        "open_clip": OpenClip(recipe, images, ids),
    }
    seconds = {name: [] for name in sides}
    for side in sides.values():
        side.step()  # first allocations
    for _ in range(args.rounds):
        for name, side in sides.items():
            for _ in range(args.steps):
                start = time.perf_counter()
                side.step()
                seconds[name].append(time.perf_counter() - start)
    figures = {
        name: {
            "seconds": seconds[name],
            "parameters": sum(p.numel() for p in side.parameters()),
        }
        for name, side in sides.items()
    }
    about = {
        "batch": args.batch,
        "tokens": args.tokens,
        "open_clip_version": open_clip.__version__,
    }
    print(json.dumps({**about, "torch_version": torch.__version__, **figures}))


if __name__ == "__main__":
    main()
