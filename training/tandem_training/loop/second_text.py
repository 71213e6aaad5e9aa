"""The input of a second text encoder: its captions, its tokenizer, and its pre-training.

Before the first step of a run the encoder learns to map its captions to the embeddings that the
first text encoder gives for the same images. So it can teach the image encoder from the start."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from .. import distributed
from ..data.atomic import replace_file
from ..data.draws import SecondCaptions, Shuffle
from ..data.samples import Sample
from ..models.model import limit_scales
from ..models.text.second import SecondText, learn_tokenizer
from ..objectives.contrastive import itc_loss
from ..objectives.features import Precision, Tensors
from ..objectives.second_itc import SecondItc
from ..recipe import Recipe
from .checkpoint import load, save
from .optim import Optimiser

RATE, DECAY = 1e-3, 0.05


class SecondTextInput:
    """The encoder as a run begins with it, and the draws of its captions."""

    def __init__(self, recipe: Recipe, samples: list[Sample], cache: Path, precision: Precision):
        self.precision = precision
        self.recipe, self.config = recipe, recipe.inputs[SecondText.name]
        tokenizer = learnt_tokenizer(samples, self.config.vocabulary, cache)
        self.encoder = SecondText(self.config, recipe.model, tokenizer)
        self.captions = SecondCaptions(samples, tokenizer, self.config.caption_tokens)

    def draw(self, images: np.ndarray, number: int) -> tuple[Tensors, Tensors]:
        """A caption of each image of batch `number` → the encoder's inputs, a row an image, and the
        tensors that objectives read."""
        # Its own generator: what the first text encoder reads is the same with and without it.
        rng = np.random.default_rng([self.recipe.train.seed, 2, number])
        ids, mask, rows = self.captions.draw(images, rng, self.recipe.data.word_dropout)
        return {"second.ids": ids, "second.mask": mask}, {"second.rows": rows}

    def pretrain(self, embedding: Tensor, shuffle: Shuffle, path: Path) -> None:
        """ITC of the captions with the first text encoder's embedding of each image, `embedding`
        [images, dim], with soft targets.

        The state is saved at `path` every `save_every` steps; a killed run resumes from it with the
        same losses.

        Raises:
            ValueError: `path` is of another architecture, other data or another number of steps.
        """
        steps, train, encoder = self.config.pretrain_steps, self.recipe.train, self.encoder
        parameters = [p for p in encoder.parameters() if p.requires_grad]
        group = {"params": parameters, "kind": "adamw", "lr": RATE, "weight_decay": DECAY}
        optimiser = Optimiser([group], train.warmup)
        origin = {"second_text": self.config.architecture(), "steps": steps} | shuffle.state()
        first = 0
        if path.exists():
            state = load(path, origin)
            encoder.load_state_dict(state["second"])
            optimiser.load_state_dict(state["optimiser"])
            first = state["step"]
        encoder.train()
        with torch.random.fork_rng(devices=()):
            for step in range(first, steps):
                torch.manual_seed(train.seed * 1_000_003 + step)
                loss = self._loss(embedding, shuffle.draw(step).images, step)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step((step + 1) / steps)
                limit_scales(encoder)
                if (step + 1) % train.save_every == 0 or step + 1 == steps:
                    progress = f"step {step + 1}/{steps} loss {loss.item():.4f}"
                    print(f"second text encoder, {progress}", flush=True)
                    state = {"second": encoder.state_dict(), "optimiser": optimiser.state_dict()}
                    save(path, state | {"step": step + 1, "architecture": origin})
        optimiser.zero_grad()

    def _loss(self, embedding: Tensor, images: np.ndarray, step: int) -> Tensor:
        rng = np.random.default_rng([self.recipe.train.seed, 3, step])
        drawn = self.captions.draw(images, rng, self.recipe.data.word_dropout)
        ids, mask, rows = (tensor.to(embedding.device) for tensor in drawn)
        with self.precision(mask.device):
            read = self.encoder.encoder(ids, mask)[0][rows]  # [rows, dim]
        if not len(rows):
            return read.sum()
        about, place = embedding[images], torch.from_numpy(images).to(embedding.device)
        options = self.recipe.objectives.get(SecondItc.name) or SecondItc.Options()
        soft = about[rows] @ about.T * options.soft_scale
        scale, mix, even = self.encoder.logit_scale, options.soft_mix, options.smoothing
        return itc_loss(read @ about.T, scale, place[rows], place, soft, mix, even)["loss"]


def learnt_tokenizer(samples: list[Sample], vocabulary: int, cache: Path) -> Tokenizer:
    """Learnt from the captions of the second encoder, and cached in `cache` by their hash, because
    learning breaks ties between equally frequent letters by chance. ValueError for no caption."""
    captions = [caption for sample in samples for caption in sample.second]
    if not captions:
        raise ValueError("no image has a caption in the languages of [second_text]")
    name = hashlib.sha256(json.dumps([vocabulary, captions]).encode()).hexdigest()[:16]
    path = cache / f"tokenizer-{name}.json"
    with distributed.first_rank_first():
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with replace_file(path) as file:
                file.write(learn_tokenizer(captions, vocabulary).to_str(pretty=True).encode())
    return Tokenizer.from_file(str(path))
