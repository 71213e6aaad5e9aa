"""What one step minimises: a weighted set of objectives over a batch after both encoders."""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..distributed import own_rows
from ..models.model import Tandem
from ..models.text.second import SecondText
from ..recipe import Recipe
from .features import Batch, Towers, bfloat16, encode
from .heads import Maskable, WordHead
from .losses import (
    itc_loss,
    itm_loss,
    lm_loss,
    mask_tokens,
    mlm_loss,
    momentum_itc_loss,
    sample_hard_negatives,
    siglip_loss,
)
from .momentum import Queue


@dataclass
class Step:
    """What an objective reads: the model, its moving average (ALBEF's momentum encoder), the batch
    before and after the encoders (the rows of all processes; the loss is the mean of what each
    returns), the generator of negatives and masks."""

    model: Tandem
    average: Tandem
    batch: Batch
    towers: Towers
    generator: torch.Generator


class Objectives(nn.Module):
    """The recipe's objectives, with the parameters that only training needs. Each public method
    from `itc` on is one of them: from a step to a scalar. Those that cost a whole vocabulary or all
    tokens against all cells read the first `token_batch` pairs only."""

    def __init__(
        self, recipe: Recipe, model: Tandem, tokenizer: Tokenizer, second: SecondText | None = None
    ):
        super().__init__()
        self.config, self.weights, self.second = recipe.train, recipe.weights(), second
        self.part = slice(0, self.config.token_batch)
        if "siglip" in self.weights:
            self.siglip_bias = nn.Parameter(torch.tensor(-10.0))  # where the paper starts
        if "mlm" in self.weights:
            self.maskable = Maskable(tokenizer)
            self.mlm_head = WordHead(model.fusion.width, model.text.words)
        if "lm" in self.weights:
            self.lm_head = WordHead(model.fusion.width, model.text.words)
        if self.config.queue > 0:
            self.queue = Queue(self.config.queue, recipe.model.dim)

    def own_parameters(self) -> list[nn.Parameter]:
        """Without those of the second text encoder, which learns at a rate of its own."""
        return [p for name, p in self.named_parameters() if not name.startswith("second.")]

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Every objective's value, and "loss", their weighted sum."""
        losses = {name: getattr(self, name)(step) for name in self.weights}
        return losses | {"loss": sum(self.weights[name] * value for name, value in losses.items())}

    def itc(self, step: Step) -> Tensor:
        """All captions of the batch, with soft targets from the momentum encoder or the sentence
        encoder."""
        config, batch, towers, scale = self.config, step.batch, step.towers, step.model.logit_scale
        ids = batch.photos
        if config.queue == 0:
            text, spoken, text_ids = towers.text_embedding, batch.spoken, ids
            if towers.further_embedding is not None:
                text = torch.cat([text, towers.further_embedding.flatten(0, 1)])
                spoken = (
                    None
                    if spoken is None
                    else torch.cat([spoken, batch.further_spoken.flatten(0, 1)])
                )
                text_ids = torch.cat([ids, ids.repeat_interleave(config.captions - 1)])
            similarity = text @ towers.image_embedding.T
            soft = None if spoken is None else spoken @ batch.about.T * config.soft_scale
            return itc_loss(
                similarity, scale, text_ids, ids, soft, config.soft_mix, config.smoothing
            )["loss"]
        with torch.no_grad():
            guide = encode(step.average.eval(), *batch.inputs[:3]).gathered()
        new = (guide.text_embedding, guide.image_embedding, ids)
        text, image, all_ids = self.queue.behind(*new)
        self.queue.push(*new)
        own = (towers.text_embedding, towers.image_embedding)
        return momentum_itc_loss(*own, text, image, scale, ids, all_ids, config.soft_mix)["loss"]

    def second_itc(self, step: Step) -> Tensor:
        """Captions in other languages with the images."""
        return self._second(step, step.towers.image_embedding)

    def second_text_itc(self, step: Step) -> Tensor:
        """Captions in other languages with those of the first text encoder."""
        return self._second(step, step.towers.text_embedding)

    def _second(self, step: Step, others: Tensor) -> Tensor:
        """ITC of the rows that have a caption for the second text encoder with `others` [b, d];
        zero where none has."""
        config, batch, told, ids = self.config, step.batch, step.batch.told, step.batch.photos
        similarity = step.towers.second_embedding[told] @ others.T
        if not len(told):
            return similarity.sum()
        soft = (
            None if batch.spoken is None else batch.spoken[told] @ batch.about.T * config.soft_scale
        )
        scale = self.second.logit_scale
        return itc_loss(similarity, scale, ids[told], ids, soft, config.soft_mix, config.smoothing)[
            "loss"
        ]

    def token_itc(self, step: Step) -> Tensor:
        """ITC on tokens, which aligns words with cells."""
        config, part, batch = self.config, self.part, step.batch
        with bfloat16(batch.mask):
            tokens = (
                step.towers.text_tokens[part],
                batch.mask[part],
                step.towers.image_tokens[part],
            )
            similarity = step.model.fusion.token_similarity(*tokens).float()
        soft = (
            None
            if batch.spoken is None
            else batch.spoken[part] @ batch.about[part].T * config.soft_scale
        )
        scale, ids = step.model.token_logit_scale, batch.photos[part]
        return itc_loss(similarity, scale, ids, ids, soft, config.soft_mix, config.smoothing)[
            "loss"
        ]

    def siglip(self, step: Step) -> Tensor:
        ids = step.batch.photos
        return siglip_loss(
            step.towers.similarity, step.model.logit_scale, self.siglip_bias, ids, ids
        )["loss"]

    def itm(self, step: Step) -> Tensor:
        """Every pair of the batch against hard negatives of both kinds: other photos, other
        captions. Where nothing trains the similarity, they are drawn evenly. Each process scores
        its own pairs; their mean over processes is the loss."""
        towers, ids, count = step.towers, step.batch.photos, self.config.itm_negatives
        similarity, scale = towers.similarity.detach(), step.model.logit_scale.detach()
        if self.config.train_towers and {"itc", "siglip"}.isdisjoint(self.weights):
            similarity = torch.zeros_like(similarity)
        images = sample_hard_negatives(similarity, scale, ids, ids, count, step.generator)  # [b, h]
        texts = sample_hard_negatives(
            similarity.T, scale, ids, ids, count, step.generator
        )  # [b, h]
        rows = own_rows(len(ids))
        row, images, texts = (
            torch.arange(len(ids), device=ids.device)[rows],
            images[rows],
            texts[rows],
        )
        own = row[:, None].expand_as(images)
        listed = [(row, row), (own.flatten(), images.flatten()), (texts.flatten(), own.flatten())]
        pairs = torch.cat([torch.stack(rows, 1) for rows in listed])
        with bfloat16(towers.mask):
            logits = step.model.fusion(towers.text_tokens, towers.mask, towers.image_tokens, pairs)
        positive, image_negatives, text_negatives = logits.split(
            [len(row), images.numel(), texts.numel()]
        )
        return itm_loss(positive, image_negatives.view_as(images), text_negatives.view_as(texts))[
            "loss"
        ]

    def mlm(self, step: Step) -> Tensor:
        """Masked language modelling: the texts are encoded again, with words hidden."""
        ids, mask, words = (
            step.batch.token_ids[self.part],
            step.batch.mask[self.part],
            self.maskable,
        )
        hidden_ids, chosen = mask_tokens(
            ids, words(ids, mask), words.mask_id, words.vocabulary, generator=step.generator
        )
        with bfloat16(mask):
            read = self._read(step, step.model.encode_texts(hidden_ids, mask)[1])
            logits = self.mlm_head(read[chosen], step.model.text.words)
        return mlm_loss(logits, ids, chosen)["loss"]

    def lm(self, step: Step) -> Tensor:
        """Captioning."""
        ids, mask = step.batch.token_ids[self.part], step.batch.mask[self.part]
        with bfloat16(mask):
            read = self._read(step, step.towers.text_tokens[self.part], causal=True)
            logits = self.lm_head(read, step.model.text.words)
        return lm_loss(logits, ids, mask, self.config.smoothing)["loss"]

    def _read(self, step: Step, text_tokens: Tensor, **causal: bool) -> Tensor:
        """The fusion's hidden state of each text [b, t, w] before its own image."""
        row = torch.arange(len(text_tokens), device=text_tokens.device)
        cells, mask = step.towers.image_tokens[self.part], step.batch.mask[self.part]
        return step.model.fusion.hidden(
            text_tokens, mask, cells, torch.stack([row, row], 1), **causal
        )


@torch.no_grad()
def centre_logits(model: Tandem, towers: Towers) -> None:
    """Shift the ITM logit so that it is zero half-way between matching and other pairs. Without it
    the binary loss of a fresh fusion encoder first drags all token similarities down, and the
    alignment with them."""
    photo = torch.arange(len(towers.mask), device=towers.mask.device)
    tokens = (towers.text_tokens, towers.mask, towers.image_tokens)
    matching = model.fusion(*tokens, torch.stack([photo, photo], 1))
    others = model.fusion(*tokens, torch.stack([photo, photo.roll(1)], 1))
    model.fusion.head.bias -= (matching.mean() + others.mean()) / 2
