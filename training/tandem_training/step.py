"""What one step minimises: the objectives applied to a batch after both towers."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .gather import gather
from .model import Tandem
from .objectives import itc_loss, itm_loss, sample_hard_negatives
from .recipe import TrainConfig


@dataclass
class Towers:
    """A batch after both towers: embeddings [b, dim], text tokens [b, t, w], mask [b, t], image tokens [b, n, v]."""

    text_embedding: Tensor
    text_tokens: Tensor
    mask: Tensor
    image_embedding: Tensor
    image_tokens: Tensor

    @property
    def similarity(self) -> Tensor:
        """[b, b], a row a text."""
        return self.text_embedding @ self.image_embedding.T

    def trained(self) -> list[Tensor]:
        """The outputs that a gradient can flow through."""
        return [self.text_embedding, self.text_tokens, self.image_embedding, self.image_tokens]

    def gathered(self) -> "Towers":
        """The same of every process's rows."""
        return Towers(*(gather(getattr(self, item.name)) for item in fields(self)))

    @classmethod
    def join(cls, parts: list["Towers"]) -> "Towers":
        return cls(*(torch.cat([getattr(part, item.name) for part in parts]) for item in fields(cls)))


def tower_losses(model: Tandem, config: TrainConfig, towers: Towers, teacher: Tensor) -> dict[str, Tensor]:
    """ITC on embeddings, and ITC on tokens over the first `token_batch` pairs. `teacher` [b, b] is the frozen sentence
    encoder's similarity of caption i to the captions of photo j."""
    photo = torch.arange(len(teacher))
    soft = teacher * config.soft_scale
    options = {"mix": config.soft_mix, "smoothing": config.smoothing}
    itc = itc_loss(towers.similarity, model.logit_scale, photo, photo, soft, **options)["loss"]
    part = slice(0, config.token_batch)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = (towers.text_tokens[part], towers.mask[part], towers.image_tokens[part])
        similarity = model.fusion.token_similarity(*tokens).float()
    scale = model.token_logit_scale
    token_itc = itc_loss(similarity, scale, photo[part], photo[part], soft[part, part], **options)["loss"]
    return {"itc": itc, "token_itc": token_itc}


def matching_losses(
    model: Tandem, config: TrainConfig, towers: Towers, generator: torch.Generator
) -> dict[str, Tensor]:
    """ITM of every pair of the batch against hard negatives of both kinds: other photos, other captions."""
    photo = torch.arange(len(towers.mask))
    similarity, scale = towers.similarity.detach(), model.logit_scale.detach()
    images = sample_hard_negatives(similarity, scale, photo, photo, config.itm_negatives, generator)  # [b, h]
    texts = sample_hard_negatives(similarity.T, scale, photo, photo, config.itm_negatives, generator)  # [b, h]
    own = photo[:, None].expand_as(images)
    listed = [(photo, photo), (own.flatten(), images.flatten()), (texts.flatten(), own.flatten())]
    pairs = torch.cat([torch.stack(rows, 1) for rows in listed])
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.fusion(towers.text_tokens, towers.mask, towers.image_tokens, pairs)
    positive, image_negatives, text_negatives = logits.split([len(photo), images.numel(), texts.numel()])
    return {"itm": itm_loss(positive, image_negatives.view_as(images), text_negatives.view_as(texts))["loss"]}


@torch.no_grad()
def centre_logits(model: Tandem, towers: Towers) -> None:
    """Shift the ITM logit so that it is zero half-way between matching and other pairs. Without it the binary loss of a
    fresh fusion encoder first drags all token similarities down, and the alignment with them."""
    photo = torch.arange(len(towers.mask))
    tokens = (towers.text_tokens, towers.mask, towers.image_tokens)
    matching = model.fusion(*tokens, torch.stack([photo, photo], 1))
    others = model.fusion(*tokens, torch.stack([photo, photo.roll(1)], 1))
    model.fusion.head.bias -= (matching.mean() + others.mean()) / 2
