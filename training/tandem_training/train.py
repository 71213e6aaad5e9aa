"""Train dual encoder and fusion encoder together: ITC on embeddings, ITC on tokens, ITM with hard negatives.

python -m tandem_training.train recipes/tandem-small.toml --out runs/small"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from . import weights
from .cache import TrunkCache
from .data import read_shards
from .evaluate import evaluate
from .model import Tandem
from .recipe import Recipe, TrainConfig, read_recipe
from .step import Towers, centre_logits, matching_losses, tower_losses
from .tokens import drop_words, pad, read_tokenizer
from .torch_encoders import TorchEncoders

UNKNOWN = 100  # [UNK] of the BERT vocabulary


def starting_model(recipe: Recipe) -> Tandem:
    """The checkpoint that the recipe starts from, or pre-trained towers with new heads; what stays frozen is marked."""
    model = Tandem(recipe.model)
    if recipe.train.start:
        checkpoint = torch.load(recipe.train.start, weights_only=True)
        try:
            model.load_state_dict(checkpoint["state"])
        except RuntimeError as error:
            raise ValueError(f"{recipe.train.start} is of another architecture: {checkpoint['config']}") from error
    else:
        model.vision.load_imagenet(weights.imagenet_efficientnet_lite2())
        model.text.load_minilm(weights.minilm())
    if not recipe.train.train_towers:
        for module in (model.vision, model.heads, model.text):
            module.requires_grad_(False)
    for parameter in [*model.vision.stem.parameters(), *model.vision.blocks[: recipe.model.split].parameters()]:
        parameter.requires_grad_(False)
    return model


def optimiser(model: Tandem, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with a rate for each part; matrices decay, biases, norms and scalars do not."""
    rates = [
        (config.vision_rate, model.vision.tail_parameters()),
        (config.text_rate, [p for n, p in model.text.named_parameters() if not n.startswith("project")]),
        (config.head_rate, [*model.heads.parameters(), *model.text.project.parameters()]),
        (config.fusion_rate, [*model.fusion.parameters(), model.logit_scale, model.token_logit_scale]),
    ]
    groups = []
    for rate, parameters in rates:
        for matrix in (True, False):
            chosen = [p for p in parameters if p.requires_grad and (p.ndim > 1) == matrix]
            groups.append({"params": chosen, "lr": rate, "weight_decay": config.weight_decay if matrix else 0.0})
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
    return optimizer


def schedule(progress: float, warmup: float) -> float:
    """Linear warm-up, then cosine to zero; progress in [0, 1]."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def save(path: Path, state: dict) -> None:
    """Written aside, then renamed: a kill or a full disk leaves the previous checkpoint whole."""
    aside = path.with_suffix(".tmp")
    try:
        with aside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


class Trainer:
    """The state of a run: model, its moving average, optimiser, step. `model` is the starting point."""

    def __init__(self, recipe: Recipe, out: Path, cache: Path, model: Tandem, tokenizer: Tokenizer):
        self.recipe, self.out, self.model, self.tokenizer = recipe, out, model, tokenizer
        config = recipe.train
        self.samples = read_shards(recipe.data.train)
        self.dev = read_shards(recipe.data.dev)
        self.activations = TrunkCache(
            self.samples, self.model.vision, recipe.model.image_size, recipe.data.views, cache
        )
        self.captions = [[e.ids for e in tokenizer.encode_batch(s.captions)] for s in self.samples]
        # Before the towers move; frozen ones need no teacher.
        self.sentences = self._teacher_sentences() if config.train_towers else []
        self.optimizer = optimiser(self.model, config)
        self.average = Tandem(recipe.model)
        self.average.load_state_dict(self.model.state_dict())
        self.step = 0
        self.steps_per_epoch = len(self.samples) // config.batch
        if self.steps_per_epoch == 0:
            raise ValueError(f"batch = {config.batch}, but {recipe.data.train} holds only {len(self.samples)} photos")
        out.mkdir(parents=True, exist_ok=True)
        if (out / "last.pt").exists():
            self._resume(torch.load(out / "last.pt", weights_only=True))

    @torch.inference_mode()
    def _teacher_sentences(self) -> list[Tensor]:
        """Frozen sentence vectors of every caption of every photo, [captions, dim] each, before any training."""
        model = self.model.text.eval()
        flat = [row for rows in self.captions for row in rows]
        order = sorted(range(len(flat)), key=lambda i: len(flat[i]))
        vectors = torch.empty(len(flat), model.width)
        for i in range(0, len(order), 256):
            ids, mask = pad([flat[j] for j in order[i : i + 256]])
            with torch.autocast("cpu", torch.bfloat16):
                _, tokens = model(ids, mask)
            mean = (tokens * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
            vectors[order[i : i + 256]] = torch.nn.functional.normalize(mean.float(), dim=-1)
        return list(vectors.split([len(rows) for rows in self.captions]))

    def save_state(self) -> None:
        """All that a resumed run needs; what a step draws at random depends on its number, so no generator is kept."""
        state = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "step": self.step, "recipe": repr(self.recipe.model)}
        save(self.out / "last.pt", state)

    def _resume(self, state: dict) -> None:
        if state["recipe"] != repr(self.recipe.model):
            raise ValueError(f"{self.out / 'last.pt'} is of another architecture: {state['recipe']}")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        print(f"resumed at step {self.step}", flush=True)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Activations, token ids, mask, and the teacher's similarity (None where the towers are frozen). It depends
        on seed and step alone, so a resumed run sees what an unbroken one sees."""
        config = self.recipe.train
        epoch, at = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([config.seed, 0, epoch]).permutation(len(self.samples))
        photos = order[at * config.batch : (at + 1) * config.batch]
        rng = np.random.default_rng([config.seed, 1, step])
        chosen = [int(rng.integers(len(self.captions[p]))) for p in photos]
        rows = [
            drop_words(self.captions[p][c][: config.caption_tokens], config.word_dropout, UNKNOWN, rng)
            for p, c in zip(photos, chosen, strict=True)
        ]
        ids, mask = pad(rows)
        views = rng.integers(0, self.recipe.data.views, len(photos))
        activations = self.activations.batch(views, photos)
        if not config.train_towers:
            return activations, ids, mask, None
        spoken = torch.stack([self.sentences[p][c] for p, c in zip(photos, chosen, strict=True)])
        about = torch.stack([self.sentences[p].mean(0) for p in photos])
        return activations, ids, mask, spoken @ about.T

    def _encode(self, activations: Tensor, ids: Tensor, mask: Tensor) -> Towers:
        train = self.recipe.train.train_towers
        with torch.set_grad_enabled(train), torch.autocast("cpu", torch.bfloat16):
            image_embedding, image_tokens = self.model.encode_activations(activations)
            text_embedding, text_tokens = self.model.text(ids, mask)
        return Towers(text_embedding @ image_embedding.T, text_tokens, mask, image_tokens)

    def train_step(self) -> dict[str, float]:
        config, total = self.recipe.train, self.recipe.train.epochs * self.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(self.step / total, config.warmup)
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        self.model.train()
        *inputs, teacher = self.batch(self.step)
        towers = self._encode(*inputs)
        losses = {}
        if self.step == 0 and config.itm_weight > 0:
            centre_logits(self.model, towers)
        if config.train_towers:
            losses |= tower_losses(self.model, config, towers, teacher)
        if config.itm_weight > 0:
            losses |= matching_losses(self.model, config, towers, torch.Generator().manual_seed(self.step))
        weights = {"itc": 1.0, "token_itc": config.token_itc_weight, "itm": config.itm_weight}
        losses["loss"] = sum(weights[name] * value for name, value in losses.items())
        self.optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                if value.requires_grad:
                    average.lerp_(value, 1 - decay)
        return {name: round(value.item(), 4) for name, value in losses.items()}

    def evaluate(self, ks: tuple[int, ...]) -> dict:
        encoders = TorchEncoders(self.average.eval(), self.tokenizer)
        match = {"logit": 1.0, "similarity": float(self.average.logit_scale.exp())}
        return evaluate(encoders, self.dev, match, ks)

    def run(self) -> None:
        config = self.recipe.train
        total = config.epochs * self.steps_per_epoch
        started, first = time.time(), self.step
        with (self.out / "metrics.jsonl").open("a") as log:
            while self.step < total:
                losses = self.train_step()
                left = (time.time() - started) / (self.step - first) * (total - self.step)
                print(f"step {self.step}/{total} {losses} {left / 60:.1f} min left", flush=True)
                log.write(json.dumps({"step": self.step, **losses}) + "\n")
                epoch, at = divmod(self.step, self.steps_per_epoch)
                if at == 0:
                    self.save_state()
                    if epoch % config.evaluate_every == 0 or self.step == total:
                        report = self.evaluate((16,))
                        print(f"epoch {epoch}: {json.dumps(report)}", flush=True)
                        log.write(json.dumps({"step": self.step, "dev": report}) + "\n")
                log.flush()
        save(self.out / "model.pt", self.average.checkpoint())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of checkpoints and metrics; an earlier run there is resumed"
    )
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="folder for the frozen trunk's activations")
    args = parser.parse_args()
    recipe = read_recipe(args.recipe)
    torch.manual_seed(recipe.train.seed)
    tokenizer = read_tokenizer(weights.minilm_folder() / "tokenizer.json", recipe.model.max_tokens)
    Trainer(recipe, args.out, args.cache, starting_model(recipe), tokenizer).run()


if __name__ == "__main__":
    main()
