"""The training loop."""

import copy
import importlib.util
import json
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from .. import distributed
from ..bundle.encoders import TorchEncoders
from ..bundle.graphs import Graphs
from ..data.samples import origins_of, read_languages, read_shards
from ..data.shards import data_name
from ..data.tokens import as_json
from ..evaluation.gain import gain_report, list_loss
from ..evaluation.retrieval import Encoded, EncodedImages, Scored
from ..models.model import Tandem, limit_scales
from ..objectives.features import Batch, Precision, Tensors, gathered
from ..objectives.objective import Step, Vocabulary
from ..objectives.registry import attach, losses
from ..recipe import Recipe
from .backward import backward, recompute_layers
from .batches import Batches
from .checkpoint import load, save
from .curves import SIDES, draw
from .log import Metrics, Progress
from .optim import Optimiser
from .second_text import SecondTextInput
from .start import freeze, take_what_fits
from .teacher import sentences

DEPTH = 16  # candidates that dev reranks
SEEN = 500
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Trainer:
    """The state of a run: model, moving average, optimiser, step. `model` is the starting point."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        cache: Path,
        model: Tandem,
        tokenizer: Tokenizer | None,
    ):
        self.recipe, self.out, self.tokenizer = recipe, out, tokenizer
        self.device = distributed.device()
        self.precision = Precision.of(recipe.train.precision, self.device)
        print(f"computes in {self.precision} on {self.device}", flush=True)
        self.model = model
        attach(recipe.objectives, model, vocabulary_of(tokenizer))
        self._start()
        model.to(self.device)
        self._read(cache)
        self.average = copy.deepcopy(model)
        for objective in self.average.objectives.values():
            objective.forget()
        self.optimiser = Optimiser.of(model, recipe.optimiser, recipe.train.warmup)
        if recipe.train.recompute_layers:
            recompute_layers(model)
        self.step = 0
        self.total = recipe.train.epochs * self.batches.shuffle.steps_per_epoch
        if (out / "last.pt").exists():
            self._resume(load(out / "last.pt", recipe.architecture()))

    def _start(self) -> None:
        """Fill the model from an earlier run, and freeze what the recipe says."""
        started = self.recipe.train.start
        # Of all data that the weights have seen; see `origins_of`.
        self.origins = take_what_fits(self.model, started, self.recipe) if started else []
        freeze(self.model, self.recipe.train.freeze)

    def _read(self, cache: Path) -> None:
        """Read the data, and compute from it what needs the model before its first step."""
        recipe, data, model = self.recipe, self.recipe.data, self.model
        others = {
            language: weight
            for config in recipe.inputs.values()
            for language, weight in config.languages.items()
        }
        samples = read_shards(data.train, data.languages, data.max_corrupt, others)
        chosen = np.random.default_rng(0).permutation(len(samples))[:SEEN]
        self.seen = [samples[i] for i in chosen]  # whose lists are compared with those of dev
        origins = origins_of(samples, data_name(data.train, unnamed="train"))
        self.origins += [origin for origin in origins if origin not in self.origins]
        self.dev = read_languages(data.dev, [*data.languages, *others], data.max_corrupt)
        self.batches = Batches(recipe, samples, model, self.tokenizer, cache, self.precision)
        for objective in model.objectives.values():
            objective.prepare(model, self.batches.captions)
        self.out.mkdir(parents=True, exist_ok=True)
        teaches = recipe.needs("text.sentences")
        if not (teaches or recipe.inputs):
            return
        vectors, about = sentences(model.text, self.batches.captions, self.precision)
        if teaches:
            self.batches.sentences = vectors
        for name, config in recipe.inputs.items():
            source = SecondTextInput(recipe, samples, cache, self.precision)
            source.encoder.to(self.device)
            if config.pretrain_steps and not (self.out / "last.pt").exists():
                with distributed.first_rank_first():
                    source.pretrain(about, self.batches.shuffle, self.out / "pretrained.pt")
            model.inputs[name] = source.encoder
            self.batches.inputs.append(source)

    def run(self) -> None:
        train, alone = self.recipe.train, distributed.rank() == 0  # one rank reports and saves
        progress = Progress(self.step, self.total, train.batch * train.accumulate)
        metrics = Metrics(self.out, self.step) if alone else None
        while self.step < self.total:
            values = self.train_step()
            if not alone:
                continue
            print(progress.line(self.step, values), flush=True)
            metrics.write(self.step, **values)
            epoch, at = divmod(self.step, self.batches.shuffle.steps_per_epoch)
            if self.step == self.total or (at == 0 and epoch % train.evaluate_every == 0):
                self._report(epoch, metrics)
            if at == 0 or self.step % train.save_every == 0:
                self.save_state()
        if alone:
            metrics.close()
            self.save_model()

    def train_step(self) -> dict[str, float]:
        """→ the mean of each loss over the step's batches and over ranks."""
        train = self.recipe.train
        # Every rank has dropout of its own.
        torch.manual_seed(train.seed * 1_000_003 + self.step + distributed.rank() * 1_000_000_007)
        self.model.train()
        self.optimiser.zero_grad()
        values, share = Counter(), 1 / train.accumulate
        for number in range(self.step * train.accumulate, (self.step + 1) * train.accumulate):
            batch = self.batch(number)
            objective = partial(self._losses, number, batch)
            step = backward(self._encode, objective, batch.inputs, train.chunk, share)
            values.update({name: share * value.item() for name, value in step.items()})
        distributed.average_gradients(self.model.parameters())
        self.optimiser.step((self.step + 1) / self.total)
        limit_scales(self.model)
        self.step += 1
        self._move_average()
        return distributed.mean(dict(values))

    def batch(self, number: int) -> Batch:
        batch = self.batches[number]
        for name in {"image.activations", "image.other"} & batch.inputs.keys():
            if not self.precision.bfloat16:
                batch.inputs[name] = batch.inputs[name].float()
        return batch.to(self.device)

    def _encode(self, inputs: Tensors) -> Tensors:
        with self.precision(self.device):
            return self.model(inputs)

    def _losses(self, number: int, batch: Batch, features: Tensors) -> dict[str, Tensor]:
        """Every objective's losses of batch `number`, and their weighted sum, "loss"."""
        generator = torch.Generator().manual_seed(number)
        step = Step(number, self.model, self.average, batch, gathered(features), generator,
                    self.precision, chunk=self.recipe.train.chunk)  # fmt: skip
        return losses(step, self.recipe.train.one_of)

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.recipe.train.ema, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        for average, value in pairs:
            if value.requires_grad:
                average.lerp_(value, 1 - decay)
        # What moves without a gradient is an average of its own, such as a dictionary's codes.
        own = dict(self.average.named_buffers())
        for name, value in self.model.named_buffers():
            if name in own:
                own[name].copy_(value)

    def save_model(self) -> None:
        """The finished model, for an export or another run."""
        checkpoint = self.average.checkpoint() | {"data": self.origins}
        if self.tokenizer is not None:
            checkpoint["tokenizer"] = as_json(self.tokenizer)
        save(self.out / "model.pt", checkpoint)

    def save_state(self) -> None:
        """All that a resumed run needs; what a step draws at random depends on its number, so no
        generator is kept."""
        state = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state |= {"optimiser": self.optimiser.state_dict(), "step": self.step}
        state |= {"architecture": self.recipe.architecture(), "data": self.batches.shuffle.state()}
        save(self.out / "last.pt", state)

    def _resume(self, state: dict) -> None:
        self.batches.shuffle.check(state["data"])
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        print(f"resumed at step {self.step}", flush=True)

    def _report(self, epoch: int, metrics: Metrics) -> None:
        every = [sample for samples in self.dev.values() for sample in samples]
        images = EncodedImages(self.encoders(next(iter(self.dev))), every)
        for language in self.dev:
            report = self.evaluate(language, DEPTH, images)
            print(f"epoch {epoch}, {language}: {json.dumps(report)}", flush=True)
            metrics.write(self.step, language=language, dev=report)
        values = self._list_losses(images)
        print(f"epoch {epoch}, lists by similarity alone: {json.dumps(values)}", flush=True)
        metrics.write(self.step, list_loss=values)
        if importlib.util.find_spec("matplotlib"):
            draw([self.out], self.out / "curves.png")

    def evaluate(self, language: str, depth: int, images: EncodedImages | None = None) -> dict:
        """Recall of the average on dev by captions of one language: ITC, and with `depth`
        candidates reranked what `gain_report` reports. `images`, if given, are the dev images after
        its image encoder."""
        encoders = self.encoders(language)
        scored = Scored(encoders, self.dev[language], depth, images)
        report = scored.report({}, ())
        if encoders.fused:
            reranked = gain_report(scored, depth)
            report["gain"] = {}
            for side in SIDES:
                report["gain"][side] = reranked[side].pop("gain")
                report[side] |= reranked[side]
        return report

    def _list_losses(self, images: EncodedImages) -> dict[str, float]:
        """The loss of lists by the similarity alone on training images and on as many dev images.
        A fusion encoder has to be better than it. Where it is near zero on training images, the
        encoders know them by heart, and those can teach a fusion encoder little."""
        language = next(iter(self.recipe.data.languages))
        encoders, dev = self.encoders(language), self.dev[language]
        count = min(len(self.seen), len(dev))
        sides = {"seen": (self.seen, None), "unseen": (dev, images)}
        losses = {}
        for name, (samples, known) in sides.items():
            encoded = Encoded(encoders, samples[:count], known)
            losses[name] = round(list_loss(encoded.similarity, encoded.positive), 4)
        return losses

    def encoders(self, language: str) -> TorchEncoders:
        """The average behind the contract of evaluation, with the text encoder of that language."""
        self.average.eval()
        for encoder in self.average.inputs.values():
            if language in encoder.config.languages:
                graphs = Graphs.with_text(self.average, encoder.encoder)
                return TorchEncoders(graphs, encoder.tokenizer, self.precision.bfloat16)
        graphs = Graphs.of(self.average)
        return TorchEncoders(graphs, self.tokenizer, self.precision.bfloat16)


def vocabulary_of(tokenizer: Tokenizer | None) -> Vocabulary | None:
    """What objectives over words know of the tokenizer."""
    if tokenizer is None:
        return None
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    special = tuple(i for i in ids.values() if i is not None)
    size = tokenizer.get_vocab_size()
    pieces = tuple(tokenizer.id_to_token(i) or "" for i in range(size))
    return Vocabulary(size, ids["[MASK]"], special, pieces)
