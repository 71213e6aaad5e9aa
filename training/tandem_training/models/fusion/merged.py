"""Fusion by merged attention in a BERT that reads words, tags and image tokens as one sequence."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import merged_bias
from ..text.bert import Bert, Layer
from ..vision.region_tokens import features_of, tags_of
from ..vision.shared import sample_cells
from .dictionary import Dictionary
from .fusion import Fusion
from .image_input import ImageInput, Places

WORDS, SECOND, IMAGE = range(3)  # segments


class Merged(Fusion):
    """The layers start as copies of the text encoder's, as the papers start from BERT (UNITER, Chen
    et al. 2019, arXiv:1909.11740; VisualBERT, Li et al. 2019, arXiv:1908.03557). Words come bare,
    from its embedding. The logit is read from a pooled [CLS]."""

    name = "merged"
    needs = {"text.layers", "image.tokens"}
    gives = Fusion.gives | {"fusion.image", "fusion.segments"}
    bare_words = True

    @dataclass(frozen=True)
    class Config(Places):
        dropout: float = 0.1
        tags: int = 0  # words of the image that are read as a second text (OSCAR), at most 5
        codes: int = 0  # of a dictionary, whose nearest stands for each image token (SOHO)
        drop_tokens: float = 0.0  # share of the image tokens that training drops (PixelBERT)
        whole: bool = False  # every word also carries the feature of the first region (VL-BERT)

    def __init__(self, config: Config, text: Bert, image):
        super().__init__()
        # In tuples, so that parameters of other parts are counted and saved once, as their own.
        self._text, self._image, self.width = (text,), (image,), text.width
        self.tags, self.dropout, self.scale = config.tags, config.dropout, image.feature_width**0.5
        self.drop_tokens = config.drop_tokens
        self.dictionary = Dictionary(image.feature_width, config.codes) if config.codes else None
        self.image_in = ImageInput(config, image, text.width)
        self.segments = nn.Parameter(0.02 * torch.randn(3, text.width))
        self.whole = nn.Linear(image.feature_width, text.width) if config.whole else None
        heads, hidden = text.layers[0].heads, text.layers[0].up.out_features
        self.layers = nn.ModuleList(
            Layer(text.width, heads, hidden, config.dropout) for _ in text.layers
        )
        self.pool = nn.Linear(text.width, text.width)
        self.head = nn.Linear(text.width, 1)

    @classmethod
    def wants(cls, config: Config) -> set[str]:
        return cls.needs | ({"image.boxes", "image.labels"} if config.tags else set())

    @classmethod
    def adds(cls, config: Config, given: set[str]) -> set[str]:
        tags = {"fusion.tags"} if config.tags else set()
        return super().adds(config, given) | tags | ({"fusion.codes"} if config.codes else set())

    def load_published(self) -> None:
        """The layers start as the text encoder's."""
        self.layers.load_state_dict(self._text[0].layers.state_dict())

    def tag_ids(self, image_tokens: Tensor) -> Tensor:
        """Image tokens [m, n, v] → token ids of the images' tags, int64 [m, tags]."""
        return self._image[0].concepts.words[tags_of(image_tokens, self.tags)]

    def second(self, tokens: Tensor) -> Tensor:
        """The tokens [q, t, w] of a second text, which `hidden` takes for those of the first."""
        return tokens + self.segments[SECOND] - self.segments[WORDS]

    def read(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Arguments as of `hidden` → states of words [p, t, w], tags [p, g, w], image [p, n, w]."""
        texts, images = pairs[:, 0], pairs[:, 1]
        words = (text_tokens + self.segments[WORDS])[texts]  # [p, t, w]
        cells = self.dictionary(image_tokens) if self.dictionary else image_tokens
        cells = self.image_in(cells) + self.segments[IMAGE]  # [m, n, w]
        if self.training and self.drop_tokens:
            cells = sample_cells(cells, self.drop_tokens)
        before, n = [cells[images]], cells.shape[1]  # [p, n, w]
        if self.whole and image_tokens.shape[1]:
            features = features_of(image_tokens) if self._image[0].places else image_tokens
            words = words + self.whole(features[:, 0] * self.scale)[images, None]
        if self.tags and image_tokens.shape[1]:
            tags = self._text[0].embed(self.tag_ids(image_tokens)) + self.segments[SECOND]
            before.append(tags[images])
        x = F.dropout(torch.cat([*before, words], 1), self.dropout, self.training)
        first = x.shape[1] - words.shape[1]  # place of the first word
        bias = merged_bias(mask[texts], first, causal)
        for layer in self.layers:
            x = layer(x, bias)
        return x[:, first:], x[:, n:first], x[:, :n]

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        words, _, image = self.read(text_tokens, mask, image_tokens, pairs, causal)
        return words, image

    def joint(self, text_tokens, mask, image_tokens, pairs) -> Tensor:
        """Arguments as of `hidden` → the pooled state of each pair [p, w]."""
        words, _ = self.hidden(text_tokens, mask, image_tokens, pairs)
        return self.pool(words[:, 0]).tanh()

    def forward(self, text_tokens, mask, image_tokens, pairs):
        return self.head(self.joint(text_tokens, mask, image_tokens, pairs)).squeeze(-1).float()
