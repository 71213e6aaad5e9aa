"""Fusion that writes: a decoder over a causal text encoder."""

from torch import Tensor, nn

from ..layers import CrossLayer, attention_bias, causal_bias
from .image_input import ImageInput
from .writer import Writer, WriterConfig


class CausalDecoder(Writer):
    """Layers with cross-attention over a causal text encoder, which is the lower half of the text
    stack and has none (CoCa, Yu et al. 2022, arXiv:2205.01917, section 3.2)."""

    name = "causal_decoder"
    needs = {"text.tokens", "text.causal", "image.tokens"}
    gives = Writer.gives - {"fusion.prefix"}
    bare_words = False

    def __init__(self, config: WriterConfig, text, image):
        super().__init__(config, text, width := config.width)
        self.image_in = ImageInput(config, image, width)
        self.text_in, self.norm = nn.Linear(text.width, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            CrossLayer(width, config.heads, width, config.dropout) for _ in range(config.layers)
        )

    def _through(self, text_tokens, mask, image_tokens, pairs, bias) -> Tensor:
        texts, images = pairs[:, 0], pairs[:, 1]
        x = self.text_in(text_tokens[..., : self.text_width])[texts]
        cells, bias = self.image_in(image_tokens)[images], bias[texts]
        for layer in self.layers:
            x = layer(x, bias, cells)
        return self.norm(x)

    def write(self, text_tokens, mask, image_tokens, pairs, prefix=None):
        return self._through(text_tokens, mask, image_tokens, pairs, causal_bias(mask))

    def read(self, text_tokens, mask, image_tokens, pairs):
        return self._through(text_tokens, mask, image_tokens, pairs, attention_bias(mask))
