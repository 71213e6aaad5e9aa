"""What comes before the first step of a run with a second text encoder: its tokenizer is learnt,
and the encoder learns what its captions mean from what the first one makes of the same photos. It
can then teach the image encoder at once."""

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
from ..models.text.second import SecondText, learn_tokenizer
from ..objectives.features import bfloat16
from ..objectives.losses import itc_loss
from ..recipe import Recipe, TrainConfig
from .checkpoint import load, save
from .optim import schedule

RATE, DECAY = 1e-3, 0.05


def start_second_text(recipe: Recipe, samples: list[Sample], embedding: Tensor, shuffle: Shuffle, out: Path,
                      cache: Path) -> tuple[SecondText, SecondCaptions]:  # fmt: skip
    """The second text encoder as a run begins with it, and what it will read; see `pretrain`. The
    run in `out` that is resumed has it in its own checkpoint."""
    config = recipe.second_text
    second = SecondText(
        config, recipe.model, second_tokenizer(samples, config.vocabulary, cache)
    ).to(embedding.device)
    captions = SecondCaptions(samples, second.tokenizer, config.caption_tokens)
    if config.pretrain_steps and not (out / "last.pt").exists():
        with distributed.first_rank_first():
            pretrain(second, captions, embedding, shuffle, recipe.train, out / "pretrained.pt")
    return second, captions


def second_tokenizer(samples: list[Sample], vocabulary: int, cache: Path) -> Tokenizer:
    """Learnt from the captions that the second encoder will read, and kept in `cache` under the
    hash of what determines it: which of equally frequent letters a small vocabulary has room for is
    chance. ValueError without a caption."""
    captions = [caption for sample in samples for caption in sample.second]
    if not captions:
        raise ValueError("no photo has a caption in the languages of [second_text]")
    name = hashlib.sha256(json.dumps([vocabulary, captions]).encode()).hexdigest()[:16]
    path = cache / f"tokenizer-{name}.json"
    with distributed.first_rank_first():
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with replace_file(path) as file:
                file.write(learn_tokenizer(captions, vocabulary).to_str(pretty=True).encode())
    return Tokenizer.from_file(str(path))


def pretrain(second: SecondText, captions: SecondCaptions, embedding: Tensor, shuffle: Shuffle, config: TrainConfig,
             path: Path) -> None:  # fmt: skip
    """ITC of captions in other languages with what the first text encoder makes of the same photo,
    `embedding` [photos, dim], with soft targets as ITC has them later.

    The state is saved at `path` every `save_every` steps, so a killed run goes on from there with
    the same losses. ValueError when `path` comes from something else."""
    steps = second.config.pretrain_steps
    optimizer = torch.optim.AdamW(
        [p for p in second.parameters() if p.requires_grad],
        lr=RATE,
        weight_decay=DECAY,
        betas=(0.9, 0.98),
    )
    origin = f"{second.config.architecture()}, {steps} steps over {shuffle.state()}"
    first = 0
    if path.exists():
        state = load(path, origin)
        second.load_state_dict(state["second"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    second.encoder.train()
    with torch.random.fork_rng(devices=()):
        for step in range(first, steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * schedule(step / steps, config.warmup)
            torch.manual_seed(config.seed * 1_000_003 + step)
            loss = _loss(second, captions, embedding, shuffle.draw(step).photos, config, step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(second.parameters(), 1.0)
            optimizer.step()
            if (step + 1) % config.save_every == 0 or step + 1 == steps:
                print(
                    f"second text encoder, step {step + 1}/{steps} loss {loss.item():.4f}",
                    flush=True,
                )
                state = {"second": second.state_dict(), "optimizer": optimizer.state_dict()}
                save(path, state | {"step": step + 1, "recipe": origin})
    second.average.load_state_dict(second.encoder.state_dict())


def _loss(second: SecondText, captions: SecondCaptions, embedding: Tensor, photos: np.ndarray, config: TrainConfig,
          step: int) -> Tensor:  # fmt: skip
    drawn = captions.draw(
        photos, np.random.default_rng([config.seed, 3, step]), config.word_dropout
    )
    ids, mask, told = (tensor.to(embedding.device) for tensor in drawn)
    with bfloat16(mask):
        read = second(ids, mask)[told]
    if not len(told):
        return read.sum()
    about, place = embedding[photos], torch.from_numpy(photos).to(embedding.device)
    soft = about[told] @ about.T * config.soft_scale
    scale = second.logit_scale
    return itc_loss(
        read @ about.T, scale, place[told], place, soft, config.soft_mix, config.smoothing
    )["loss"]
