"""Graphs of models that `transformers` loads: CLIP, SigLIP, and BLIP with its ITM head.

They keep the contract of a bundle: bytes in, normalised inside, padding without effect. They call
the encoders' layers below the models' own `forward`, with explicit masks, because the masks of
`transformers` do not survive tracing."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.layers import attention_bias, causal_bias
from ..graphs import Graphs
from .preprocessing import Preprocessing

FINEST = 8  # steps of an image token's scale in a power of two


class Pixels(nn.Module):
    """uint8 [b, s, s, 3] → normalised [b, 3, s, s]."""

    def __init__(self, given: Preprocessing):
        super().__init__()
        factor = [given.rescale / s for s in given.std]
        shift = [m / s for m, s in zip(given.mean, given.std, strict=True)]
        self.register_buffer("factor", torch.tensor(factor).view(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.permute(0, 3, 1, 2).float() * self.factor - self.shift


class Embedding(nn.Module):
    """Pixels → unit embedding of a vision model, through its projection."""

    cells: int  # patches, the last states; CLIP has its class token before them

    def __init__(self, pixels: Pixels, vision: nn.Module, project: nn.Module):
        super().__init__()
        self.pixels, self.vision, self.project = pixels, vision, project
        self.cells = (vision.config.image_size // vision.config.patch_size) ** 2

    def states(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """→ embedding, states of the patches [b, n, w]."""
        found = self.vision(self.pixels(pixels))
        embedding = F.normalize(self.project(found.pooler_output), dim=-1)
        return embedding, found.last_hidden_state[:, -self.cells :]

    def forward(self, pixels: Tensor) -> Tensor:
        return self.states(pixels)[0]


class ClipText(nn.Module):
    """CLIP reads the embedding from the last token, which attends to all others (Radford et al.
    2021, arXiv:2103.00020)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.text, self.project = model.text_model, model.text_projection

    def states(self, token_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """→ embedding, states of the tokens [b, t, w]."""
        x = self.text.embeddings(input_ids=token_ids)
        x = self.text.encoder(
            inputs_embeds=x, attention_mask=causal_bias(attention_mask)
        ).last_hidden_state
        x = self.text.final_layer_norm(x)
        last = attention_mask.sum(1) - 1
        end = x[torch.arange(x.shape[0], device=x.device), last]
        return F.normalize(self.project(end), dim=-1), x

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.states(token_ids, attention_mask)[0]


class SiglipText(nn.Module):
    """SigLIP reads the embedding from the last position of a text padded to the full length,
    without a mask (Zhai et al. 2023, arXiv:2303.15343). The graph pads each text itself."""

    def __init__(self, text: nn.Module, length: int, padding: int):
        super().__init__()
        self.text, self.padding = text, padding
        self.register_buffer("rest", torch.full((1, length), padding))

    def states(self, token_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """→ embedding, states of the tokens without the padding [b, t, w]."""
        ids = padded(token_ids, attention_mask, self.rest, self.padding)
        x = self.text.embeddings(input_ids=ids)
        x = self.text.final_layer_norm(self.text.encoder(inputs_embeds=x).last_hidden_state)
        return F.normalize(self.text.head(x[:, -1]), dim=-1), x[:, : token_ids.shape[1]]

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.states(token_ids, attention_mask)[0]


def padded(token_ids: Tensor, mask: Tensor, rest: Tensor, padding: int) -> Tensor:
    """Token ids of texts [b, t], padded to the length of `rest` [1, length], a row of padding."""
    ids = torch.where(mask == 1, token_ids, torch.full_like(token_ids, padding))
    return torch.cat([ids, rest[:, ids.shape[1] :].expand(ids.shape[0], -1)], dim=1)


def pack(tokens: Tensor) -> Tensor:
    """Image tokens [b, n, w] → int8 [b, n, w + 1]: each token in 127 steps of its largest number,
    whose logarithm is the last byte."""
    most = tokens.abs().amax(-1, keepdim=True).clamp(min=1e-4)
    scale = torch.ceil(torch.log2(most) * FINEST).clamp(-127, 127)
    steps = torch.round(tokens * torch.pow(2.0, -scale / FINEST) * 127).clamp(-127, 127)
    return torch.cat([steps, scale], dim=-1).to(torch.int8)


def unpack(packed: Tensor) -> Tensor:
    """int8 [m, n, w + 1] → image tokens [m, n, w]."""
    packed = packed.float()
    return packed[..., :-1] * torch.pow(2.0, packed[..., -1:] / FINEST) / 127


class BlipImage(nn.Module):
    """Embedding, and the states of the last layer as packed image tokens."""

    def __init__(self, pixels: Pixels, model: nn.Module):
        super().__init__()
        self.pixels, self.vision, self.project = pixels, model.vision_model, model.vision_proj

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.vision(self.pixels(pixels)).last_hidden_state
        return F.normalize(self.project(tokens[:, 0]), dim=-1), pack(tokens)


class BlipText(nn.Module):
    """The text tokens are the input of the first layer, where BLIP's encoder starts with an image
    too."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.text, self.project = model.text_encoder, model.text_proj

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        words = self.text.embeddings(input_ids=token_ids)
        x = self.text.encoder(
            words, attention_mask=attention_bias(attention_mask)
        ).last_hidden_state
        return F.normalize(self.project(x[:, 0]), dim=-1), words


class BlipFusion(nn.Module):
    """Cross-attention inserted into the text encoder (Li et al. 2022, arXiv:2201.12086).

    The logit is that of a match minus that of no match; its sigmoid is BLIP's probability."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.text, self.head = model.text_encoder, model.itm_head

    def forward(
        self, text_tokens: Tensor, attention_mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        texts, images = pairs[:, 0], pairs[:, 1]
        x = self.text.encoder(
            text_tokens[texts],
            attention_mask=attention_bias(attention_mask[texts]),
            encoder_hidden_states=unpack(image_tokens)[images],
        ).last_hidden_state
        none, match = self.head(x[:, 0]).unbind(-1)
        return match - none


class BlipTokens(nn.Module):
    """Pixels → packed tokens, for a bundle whose embeddings are those of another model."""

    def __init__(self, pixels: Pixels, model: nn.Module):
        super().__init__()
        self.pixels, self.vision = pixels, model.vision_model

    def forward(self, pixels: Tensor) -> Tensor:
        return pack(self.vision(self.pixels(pixels)).last_hidden_state)


class BlipFusionOfIds(BlipFusion):
    """Its text tokens are ids, float32 [q, t, 1], which are exact up to 2²⁴."""

    def forward(
        self, text_tokens: Tensor, attention_mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        ids = text_tokens.squeeze(-1).long()
        words = self.text.embeddings(input_ids=ids)
        return super().forward(words, attention_mask, image_tokens, pairs)


def clip_graphs(model: nn.Module, given: Preprocessing) -> Graphs:
    """The graphs of a CLIP of transformers."""
    image = Embedding(Pixels(given), model.vision_model, model.visual_projection)
    length = model.config.text_config.max_position_embeddings
    return Graphs(image, ClipText(model), None, given.rules, model.config.projection_dim, length)


def siglip_graphs(model: nn.Module, given: Preprocessing, padding: int) -> Graphs:
    """The graphs of a SigLIP of transformers; `padding` is the id of its padding."""
    image = Embedding(Pixels(given), model.vision_model, nn.Identity())
    length = model.config.text_config.max_position_embeddings
    text = SiglipText(model.text_model, length, padding)
    return Graphs(image, text, None, given.rules, model.config.vision_config.hidden_size, length)


def blip_graphs(model: nn.Module, given: Preprocessing) -> Graphs:
    """The graphs of a BLIP-ITM of transformers, with its fusion encoder."""
    vision, text = model.config.vision_config, model.config.text_config
    cells = (vision.image_size // vision.patch_size) ** 2 + 1
    return Graphs(
        BlipImage(Pixels(given), model),
        BlipText(model),
        BlipFusion(model),
        given.rules,
        model.config.image_text_hidden_size,
        text.max_position_embeddings,
        cells,
        vision.hidden_size + 1,
        text.hidden_size,
    )
