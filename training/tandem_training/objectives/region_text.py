"""Texts and parts of images: what a phrase names is aligned as whole images are, and boxed."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..data.tokens import pad
from ..distributed import gather
from ..models.model import Tandem
from .boxes import box_loss
from .features import Batch
from .matching import match_another
from .objective import Step
from .phrases import Grounded, token_boxes


@dataclass(frozen=True)
class Parts:
    """A part of each of the first images, and the text about it. Where no phrase has a box, it is
    the whole image and its caption."""

    ids: Tensor  # int64 [q, s], token ids
    mask: Tensor  # int64 [q, s]
    boxes: Tensor  # [q, 4]: x1, y1, x2, y2
    known: Tensor  # bool [q], whether it is a phrase's


class OfParts(Grounded):
    """An objective that reads a drawn phrase of each image as a text of its own."""

    def parts(self, step: Step) -> Parts:
        """Objectives that read as many pairs share them."""
        key = ("parts", self.options.pairs)
        if key not in step.shared:
            step.shared[key] = self._parts(step)
        return step.shared[key]

    def _parts(self, step: Step) -> Parts:
        targets, whole = self.targets(step), step.batch.whole
        ids, mask = (whole[f"text.{n}"][: self.options.pairs] for n in ("ids", "mask"))
        order = torch.rand(len(targets.rows), generator=step.generator).argsort().tolist()
        drawn = {int(targets.rows[i]): i for i in order}  # the last of a row
        texts = [row[:length].tolist() for row, length in zip(ids, mask.sum(1), strict=True)]
        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(ids), 1).to(targets.boxes)
        known = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        for row, i in drawn.items():
            words = ids[row][targets.words[i]].tolist()
            texts[row] = [texts[row][0], *words, texts[row][-1]]
            boxes[row], known[row] = targets.boxes[i], True
        return Parts(*(x.to(ids.device) for x in pad(texts)), boxes, known)


class RegionText(OfParts):
    """The recipe's ITC, ITM and MLM over phrases and the parts of images that they name, beside
    those over captions and whole images (X-VLM, Zeng et al. 2021, arXiv:2111.08276, section 3). A
    part is encoded with its image: in the top layers of the ViT its class token and cells see that
    part alone."""

    name = "region_text"
    needs = OfParts.needs | {"image.local", "fusion.partial", "match.logit", "text.words"}

    @dataclass(frozen=True)
    class Options(OfParts.Options):
        local: int = 2  # layers that see the part alone

    def loss(self, step: Step) -> dict[str, Tensor]:
        part, objectives = self.step_of_parts(step), step.model.objectives
        # Phrases are short: a batch in which all say the same has no others to match.
        other = match_another(part.batch.whole["image.ids"], part.batch.whole["text.ids"])
        total = part.features["image.tokens"].new_zeros(())
        for own in (objectives[n] for n in ("itc", "itm", "mlm") if n in objectives):
            if int(other.sum(1).min()) >= getattr(own.options, "negatives", 0):
                total = total + own.options.weight * sum(own.loss(part).values())
        return {"region_text": total}

    def step_of_parts(self, step: Step) -> Step:
        """A step whose images are the parts and whose texts the phrases."""
        parts, model, count = self.parts(step), step.model, len(self.parts(step).ids)
        activations = gather(step.batch.inputs["image.activations"])[:count]
        cells, box = token_boxes(step, count), parts.boxes[:, None]
        inside = (cells[..., :2] < box[..., 2:]) & (cells[..., 2:] > box[..., :2])
        inside = inside.all(-1)  # [q, n]
        with step.precision(step.device):
            grid = model.vision.local(activations, inside, self.options.local)
            image, tokens = model.pooler(grid)
            text, words = model.encode_texts(parts.ids, parts.mask)
        same = (parts.ids[:, None] == parts.ids[None]).all(-1)
        # Equal phrases fit each other's parts.
        ids = step.batch.whole["image.ids"][:count][same.int().argmax(1)]
        features = {"image.embedding": image, "text.embedding": text, "text.tokens": words}
        features["image.tokens"] = tokens.masked_fill(~inside[..., None], 0)
        whole = {"image.ids": ids, "text.ids": parts.ids, "text.mask": parts.mask}
        batch, centred = Batch({}, whole), {"centred": True}
        return replace(step, batch=batch, features=features, shared=centred)


class TextBox(OfParts):
    """The box of what a phrase names, from [CLS] of the phrase before the whole image (X-VLM,
    section 3.3, bounding box prediction): L1 and GIoU."""

    name = "text_box"
    needs = OfParts.needs | {"fusion.text"}

    def __init__(self, options: OfParts.Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        width = model.fusion.width
        self.box = nn.Sequential(
            nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, 4)
        )

    def loss(self, step: Step) -> dict[str, Tensor]:
        parts = self.parts(step)
        row = torch.arange(len(parts.ids), device=step.device)
        image = step.features["image.tokens"][: len(row)]
        with step.precision(step.device):
            words = step.model.encode_texts(parts.ids, parts.mask)[1]
            pairs = torch.stack([row, row], 1)
            states = step.model.fusion.hidden(words, parts.mask, image, pairs)[0]
            found = self.box(states[:, 0]).float().sigmoid()
        known = parts.known
        return {"text_box": box_loss(found[known], parts.boxes[known], 1.0, 1.0)}
