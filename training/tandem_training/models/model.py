"""The whole model: a vision encoder, a text encoder and a fusion, each chosen by name.

The dual encoder is the two encoders meeting only in the dot product of their embeddings; the fusion
reads the tokens of both and gives the ITM logit. Each part's contract stands in the file of its
folder's name: `vision/vision.py`, `text/text.py`, `fusion/fusion.py`."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fusion.aligned import Aligned
from .part import PartConfig
from .registry import INPUTS, given_by, part_of
from .text.bert import Bert
from .vision import region_tokens
from .vision.efficientnet import EfficientNetLite
from .vision.vision import ImagePooler

LENGTHS = 4  # groups of further captions, by length
MAX_LOGIT_SCALE = math.log(100.0)


@dataclass(frozen=True)
class ModelConfig:
    """The parts of a model, and what they share."""

    dim: int = 384  # of the embedding
    vision: PartConfig = field(default_factory=EfficientNetLite.Config)
    text: PartConfig = field(default_factory=Bert.Config)
    fusion: PartConfig = field(default_factory=Aligned.Config)
    # Whether the dual encoder is a companion: the system has no embedding of its own, and what its
    # fusion reads gets no gradient from the embeddings.
    companion: bool = False

    def parts(self) -> dict[str, PartConfig]:
        return {"vision": self.vision, "text": self.text, "fusion": self.fusion}

    def gives(self) -> set[str]:
        """The features of all parts. ValueError where a part's needs are not met."""
        return given_by(self.parts())

    def tables(self) -> dict:
        """As a checkpoint keeps it."""
        own = {"dim": self.dim, "companion": self.companion}
        return own | {role: part.table() for role, part in self.parts().items()}

    @classmethod
    def from_tables(cls, tables: dict) -> "ModelConfig":
        parts = {}
        for role in ("vision", "text", "fusion"):
            keys = dict(tables[role])
            parts[role] = part_of(role, keys.pop("kind")).Config(**keys)
        return cls(tables["dim"], **parts, companion=tables["companion"])


@torch.no_grad()
def limit_scales(module: nn.Module) -> None:
    """Clamp every parameter `logit_scale` at ln 100, after a step (CLIP, arXiv:2103.00020). A clamp
    in the loss would give a scale beyond it the gradient 0, and hold it there."""
    objectives = module.objectives.values() if isinstance(module, Tandem) else ()
    free = any(objective.frees_scale for objective in objectives)
    for name, parameter in module.named_parameters():
        if name.endswith("logit_scale") and not (free and name == "logit_scale"):
            parameter.clamp_(max=MAX_LOGIT_SCALE)


class Tandem(nn.Module):
    """b images with a text each: t words, n cells, dim numbers an embedding."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        config.gives()
        self.config = config
        vision, text, fusion = (part_of(r, c.kind) for r, c in config.parts().items())
        self.vision = vision(config.vision)
        self.pooler = ImagePooler(config.vision, self.vision, config.dim)
        self.text = text(config.text, config.dim)
        self.text.share(self.vision)
        self.fusion = fusion(config.fusion, self.text, self.pooler)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.05)))
        self.inputs = nn.ModuleDict()  # encoders of further inputs, by name
        self.objectives = nn.ModuleDict()  # by name, with their heads; none in a model that serves

    @property
    def cells(self) -> int:
        """Image tokens an image."""
        return self.pooler.cells

    @property
    def text_token_width(self) -> int:
        return self.text.width + self.fusion.extra_width

    @property
    def serves_fusion(self) -> bool:
        """Whether a bundle of it has a fusion encoder."""
        return "match.logit" in self.config.gives()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """A batch's inputs → its features, a row an image."""
        ids = inputs.get("image.ids")
        embedding, tokens = self.encode_activations(inputs["image.activations"], ids)
        features = {
            "image.embedding": embedding,  # [b, dim]
            "image.tokens": tokens,  # [b, n, v]
        }
        embedding, tokens = self.encode_texts(inputs["text.ids"], inputs["text.mask"])
        features |= {
            "text.embedding": embedding,  # [b, dim]
            "text.tokens": tokens,  # [b, t, w]
        }
        if "further.ids" in inputs:
            further = self.encode_further(inputs["further.ids"], inputs["further.mask"])
            features["further.embedding"] = further  # [b, captions - 1, dim]
        for encoder in self.inputs.values():
            features |= encoder.features(inputs)
        return features

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [b, s, s, 3] → embedding [b, dim], image tokens [b, n, v], both of unit length."""
        return self.encode_activations(self.vision.trunk(pixels))

    def encode_activations(
        self, activations: Tensor, ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same from the cached activations of the frozen trunk, [b, c, h, w]; ids [b] are the
        numbers of training images."""
        reads = bool({"image.tokens", "image.stack"} & self.fusion.needs)
        embedding, tokens = self.pooler(
            self.vision.tail(activations), self.config.companion and reads
        )
        tokens = self.fusion.image_tokens(activations, tokens)
        return embedding, self._placed(tokens, activations, ids) if self.vision.places else tokens

    def _placed(self, tokens: Tensor, activations: Tensor, ids: Tensor | None) -> Tensor:
        """The tokens with their boxes and the image's tags, [b, n, v]."""
        features = F.normalize(region_tokens.features_of(tokens), dim=-1)
        tags = torch.zeros(tokens.shape[0], 0, dtype=torch.int64, device=tokens.device)
        if self.pooler.concepts:
            with torch.no_grad():
                tags = self.pooler.concepts.tags(features, ids, region_tokens.TAGS)
        return region_tokens.pack(features, self.vision.boxes(activations), tags)

    def encode_texts(self, token_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids and mask [b, t] → embedding [b, dim] of unit length, the text tokens that the
        fusion reads [b, t, w]."""
        companion, bare = self.config.companion, self.fusion.bare_words
        words = self.text.embed(token_ids)
        states = self.text.states(words.detach() if companion and bare else words, mask)
        # Whether the layers are the fusion's too, or what it reads.
        reads = not bare or {"text.stack", "text.causal"} & self.fusion.needs
        read = states.detach() if companion and reads else states
        tokens = words.float() if bare else states
        return self.text.pool(read, mask), self.fusion.text_tokens(token_ids, tokens)

    def read_words(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """The text tokens alone, [b, t, w]."""
        if self.fusion.bare_words:
            return self.text.embed(token_ids).float()
        return self.text(token_ids, mask)[1]

    def encode_further(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and mask [b, c, t] of c more captions an image → embeddings [b, c, dim].
        Captions of similar length are padded together, which saves a third of the products."""
        flat_ids, flat_mask = token_ids.flatten(0, 1), mask.flatten(0, 1)  # [b · c, t]
        order = flat_mask.sum(1).argsort()
        groups = []
        for rows in order.chunk(LENGTHS):
            longest = int(flat_mask[rows].sum(1).max())
            groups.append(self.text(flat_ids[rows, :longest], flat_mask[rows, :longest])[0])
        return torch.cat(groups)[order.argsort()].unflatten(0, token_ids.shape[:2])

    def checkpoint(self) -> dict:
        inputs = {name: encoder.description() for name, encoder in self.inputs.items()}
        return {"config": self.config.tables(), "inputs": inputs, "state": self.state_dict()}

    @classmethod
    def from_checkpoint(cls, checkpoint: dict) -> "Tandem":
        """Without the objectives, whose heads only training reads."""
        model = cls(ModelConfig.from_tables(checkpoint["config"]))
        for name, description in checkpoint["inputs"].items():
            model.inputs[name] = INPUTS[name].from_description(description, model.config)
        state = checkpoint["state"]
        model.load_state_dict({k: v for k, v in state.items() if not k.startswith("objectives.")})
        return model.eval()
