"""Train what a recipe names: encoders, a fusion, and the weighted sum of its objectives.

python -m tandem_training.train recipes/tandem-small-towers.toml --out runs/towers"""

import argparse
import importlib.util
import json
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from . import distributed
from .bundle.encoders import TorchEncoders
from .bundle.graphs import Graphs
from .data.cache import TrunkCache
from .data.draws import Shuffle
from .data.samples import read_languages, read_shards
from .data.tokens import drop_words, pad, read_tokenizer
from .evaluation.retrieval import EncodedImages, Scored
from .loop.backward import backward, recompute_layers
from .loop.checkpoint import load, save
from .loop.curves import draw
from .loop.log import Metrics, Progress
from .loop.optim import optimiser, schedule
from .loop.pretrain_second_text import start_second_text
from .loop.start import starting_model
from .loop.teacher import sentences
from .models import weights
from .models.model import Tandem
from .objectives.features import Batch, Towers, bfloat16, encode, encode_further
from .objectives.objective import Objectives, Step, centre_logits
from .recipe import Recipe, read_recipe

UNKNOWN = 100  # [UNK] of the BERT vocabulary


class Trainer:
    """The state of a run: model, its moving average, optimiser, step. `model` is the starting
    point."""

    def __init__(self, recipe: Recipe, out: Path, cache: Path, model: Tandem, tokenizer: Tokenizer):
        self.device = distributed.device()
        self.recipe, self.out, self.model, self.tokenizer = (
            recipe,
            out,
            model.to(self.device),
            tokenizer,
        )
        config = recipe.train
        second = recipe.second_text
        self.samples = read_shards(
            recipe.data.train, recipe.data.languages, recipe.data.max_corrupt, second.languages
        )
        self.shuffle = Shuffle(self.samples, config, recipe.data.train)
        self.dev = read_languages(
            recipe.data.dev, [*recipe.data.languages, *second.languages], recipe.data.max_corrupt
        )
        self.rows = distributed.own_rows(config.batch)
        with distributed.first_rank_first():
            self.activations = TrunkCache(
                self.samples, self.model.vision, recipe.model.image_size, recipe.data.views, cache
            )
        self.captions = [[e.ids for e in tokenizer.encode_batch(s.captions)] for s in self.samples]
        out.mkdir(parents=True, exist_ok=True)
        # Before the towers move.
        needed = recipe.sentence_teacher() or second.languages
        self.sentences, about = sentences(model.text, self.captions) if needed else ([], None)
        self.second, self.carried = None, {}
        if second.languages:
            start = (recipe, self.samples, about, self.shuffle, out, cache)
            self.second, self.second_captions = start_second_text(*start)
        elif config.start and not config.train_towers:  # of the same images: it goes on with them
            started = torch.load(config.start, map_location="cpu", weights_only=True)
            self.carried = {key: started[key] for key in ("second_text",) if key in started}
        self.objectives = Objectives(recipe, model, tokenizer, self.second).to(self.device)
        self.optimizer = optimiser(self.model, self.objectives, config)
        self.average = Tandem(recipe.model).to(self.device)
        self.average.load_state_dict(self.model.state_dict())
        if config.recompute_layers:
            for part in filter(None, (self.model, self.second)):
                recompute_layers(part)
        self.step = 0
        self.total = config.epochs * self.shuffle.steps_per_epoch
        if (out / "last.pt").exists():
            self._resume(load(out / "last.pt", recipe.architecture()))

    def save_state(self) -> None:
        """All that a resumed run needs; what a step draws at random depends on its number, so no
        generator is kept."""
        state = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state |= {
            "objectives": self.objectives.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        state |= {"step": self.step, "recipe": self.recipe.architecture()}
        save(self.out / "last.pt", state | {"data": self.shuffle.state()})

    def _resume(self, state: dict) -> None:
        if "data" in state:  # runs begun before it was kept resume as well
            self.shuffle.check(state["data"])
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.objectives.load_state_dict(
            state.get("objectives", {})
        )  # runs begun before it was kept had nothing there
        peaks = [
            group["peak"] for group in self.optimizer.param_groups
        ]  # the recipe's, which may have been edited
        self.optimizer.load_state_dict(state["optimizer"])
        for group, peak in zip(self.optimizer.param_groups, peaks, strict=True):
            group["peak"] = peak
        self.step = state["step"]
        print(f"resumed at step {self.step}", flush=True)

    def batch(self, number: int) -> Batch:
        config, drawn, own = self.recipe.train, self.shuffle.draw(number), self.rows
        chosen = list(zip(drawn.photos, drawn.captions, strict=True))
        ids, mask = self._words(chosen, drawn.rng)
        views = drawn.rng.integers(0, self.recipe.data.views, len(chosen))
        inputs = (self.activations.batch(views[own], drawn.photos[own]), ids[own], mask[own])
        batch = Batch(inputs, ids, mask, torch.from_numpy(drawn.photos))
        shape = (len(chosen), config.captions - 1)
        further = [(p, other) for p, c in chosen for other in self.shuffle.further(p, c, drawn.rng)]
        if further:
            batch.inputs += tuple(
                rows.unflatten(0, shape)[own] for rows in self._words(further, drawn.rng)
            )
        if self.second:
            rng = np.random.default_rng(
                [config.seed, 2, number]
            )  # what the first text encoder reads stays as it is
            ids, mask, batch.told = self.second_captions.draw(
                drawn.photos, rng, config.word_dropout
            )
            batch.inputs += (ids[own], mask[own])
        if self.recipe.sentence_teacher():
            batch.spoken = torch.stack([self.sentences[p][c] for p, c in chosen])
            batch.about = torch.stack([self.sentences[p].mean(0) for p in drawn.photos])
            if further:
                batch.further_spoken = torch.stack(
                    [self.sentences[p][c] for p, c in further]
                ).unflatten(0, shape)
        return batch.to(self.device)

    def _words(
        self, chosen: list[tuple[int, int]], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Token ids and mask of those (photo, caption), with some words hidden."""
        longest, hidden = self.recipe.train.caption_tokens, self.recipe.train.word_dropout
        return pad(
            [drop_words(self.captions[p][c][:longest], hidden, UNKNOWN, rng) for p, c in chosen]
        )

    def _encode(self, activations: Tensor, ids: Tensor, mask: Tensor, *more: Tensor) -> Towers:
        config = self.recipe.train
        with torch.set_grad_enabled(config.train_towers and torch.is_grad_enabled()):
            towers = encode(self.model, activations, ids, mask)
            if config.captions > 1:
                towers.further_embedding = encode_further(self.model, *more[:2])
        if self.second:
            with bfloat16(mask):
                towers.second_embedding = self.second(*more[-2:])
        return towers

    def _losses(self, number: int, batch: Batch, own: Towers) -> dict[str, Tensor]:
        """The objectives of batch `number`, each by its name, and their weighted sum, `loss`."""
        towers = own.gathered()
        if number == 0 and "itm" in self.objectives.weights:
            centre_logits(self.model, towers)
        generator = torch.Generator().manual_seed(number)
        return self.objectives(Step(self.model, self.average, batch, towers, generator))

    def train_step(self) -> dict[str, float]:
        config = self.recipe.train
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(self.step / self.total, config.warmup)
        # Ranks differ in what dropout hides.
        torch.manual_seed(config.seed * 1_000_003 + self.step + distributed.rank() * 1_000_000_007)
        self.model.train()
        self.optimizer.zero_grad()
        values = Counter()
        for number in range(self.step * config.accumulate, (self.step + 1) * config.accumulate):
            batch = self.batch(number)
            objective, share = partial(self._losses, number, batch), 1 / config.accumulate
            losses = backward(self._encode, objective, batch.inputs, config.chunk, share)
            values.update({name: share * value.item() for name, value in losses.items()})
        parameters = [*self.model.parameters(), *self.objectives.parameters()]
        distributed.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        averaged = [(self.average, self.model)]
        if self.second:
            averaged.append((self.second.average, self.second.encoder))
        with torch.no_grad():
            for kept, trained in averaged:
                for average, value in zip(kept.parameters(), trained.parameters(), strict=True):
                    if value.requires_grad:
                        average.lerp_(value, 1 - decay)
        return distributed.mean(dict(values))

    def evaluate(
        self, language: str, ks: tuple[int, ...], pictures: EncodedImages | None = None
    ) -> dict:
        """Recall of the average on dev by captions of one language. `pictures`, if given, are the
        dev photos after its image encoder."""
        match = {"logit": 1.0, "similarity": self.average.logit_scale.exp().item()}
        return Scored(self.encoders(language), self.dev[language], max(ks), pictures).report(
            match, ks
        )

    def encoders(self, language: str) -> TorchEncoders:
        """With the text encoder that reads the language."""
        if language in self.recipe.second_text.languages:
            return TorchEncoders(
                Graphs.with_text(self.average, self.second.average), self.second.tokenizer
            )
        return TorchEncoders(Graphs.of(self.average), self.tokenizer)

    def run(self) -> None:
        config, alone = self.recipe.train, distributed.rank() == 0  # one rank reports and saves
        progress = Progress(self.step, self.total, config.batch * config.accumulate)
        metrics = Metrics(self.out, self.step) if alone else None
        while self.step < self.total:
            losses = self.train_step()
            if not alone:
                continue
            print(progress.line(self.step, losses), flush=True)
            metrics.write(self.step, **losses)
            epoch, at = divmod(self.step, self.shuffle.steps_per_epoch)
            if self.step == self.total or (at == 0 and epoch % config.evaluate_every == 0):
                every = [sample for found in self.dev.values() for sample in found]
                pictures = EncodedImages(self.encoders(next(iter(self.dev))), every)
                for language in self.dev:
                    report = self.evaluate(language, (16,), pictures)
                    print(f"epoch {epoch}, {language}: {json.dumps(report)}", flush=True)
                    metrics.write(self.step, language=language, dev=report)
                if importlib.util.find_spec("matplotlib"):
                    draw([self.out], self.out / "curves.png")
            if at == 0 or self.step % config.save_every == 0:
                self.save_state()
        if alone:
            metrics.close()
            second = {"second_text": self.second.checkpoint()} if self.second else self.carried
            save(self.out / "model.pt", self.average.checkpoint() | second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of checkpoints and metrics; an earlier run there is resumed",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("cache"),
        help="folder for the frozen trunk's activations",
    )
    args = parser.parse_args()
    recipe = read_recipe(args.recipe)
    distributed.start()
    torch.manual_seed(recipe.train.seed)
    tokenizer = read_tokenizer(weights.minilm_folder() / "tokenizer.json", recipe.model.max_tokens)
    Trainer(recipe, args.out, args.cache, starting_model(recipe), tokenizer).run()
    distributed.end()


if __name__ == "__main__":
    main()
