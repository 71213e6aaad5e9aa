"""Captions that a trained model writes and judges: BLIP's captioner and filter."""

from collections.abc import Iterator

import numpy as np
import torch
from tokenizers import Tokenizer, decoders
from torch import Tensor

from ..data.pixel_rules import PixelRules
from ..data.samples import Sample
from ..data.tokens import pad
from ..models.fusion.writer import Writer
from ..models.model import Tandem
from ..models.word_head import WordHead

NUCLEUS = 0.9  # probability of the words that are drawn from
BATCH = 64  # images


class Captioner:
    """Writes captions of images, and says which captions fit (CapFilt; BLIP, Li et al. 2022,
    arXiv:2201.12086, section 3.3). BLIP fine-tunes both on COCO; here one model is both.

    checkpoint: of a run with the objectives `lm` and `itm`. ValueError for one without captions or
    whose logit is no matching."""

    def __init__(self, checkpoint: dict):
        self.model = Tandem.from_checkpoint(checkpoint)
        fusion = self.model.fusion
        if not self.model.serves_fusion or isinstance(fusion, Writer):
            raise ValueError(
                f"fusion {fusion.name!r} has no matching, by which captions are judged"
            )
        state, begin = checkpoint["state"], "objectives.lm.head."
        own = {k.removeprefix(begin): v for k, v in state.items() if k.startswith(begin)}
        if not own:
            raise ValueError("it was trained without objective lm, so it cannot write captions")
        self.head = WordHead(fusion.width, self.model.text.words).eval()
        self.head.load_state_dict(own)
        self.tokenizer = Tokenizer.from_str(checkpoint["tokenizer"])
        self.tokenizer.decoder = decoders.WordPiece()
        self.start, self.end = (self.tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
        never = [self.tokenizer.token_to_id(n) for n in ("[PAD]", "[UNK]", "[CLS]", "[MASK]")]
        self.never = [token for token in never if token is not None]  # written
        self.longest = self.model.config.text.max_tokens
        self.tokenizer.enable_truncation(self.longest)
        self.rules = PixelRules(self.model.config.vision.image_size)

    @torch.inference_mode()
    def filtered(self, samples: list[Sample], seed: int = 0) -> Iterator[tuple[list[str], str]]:
        """For each image those of its captions that fit, and a caption of the model's own, empty if
        it does not fit."""
        generator = torch.Generator().manual_seed(seed)
        for first in range(0, len(samples), BATCH):
            batch = samples[first : first + BATCH]
            pixels = np.stack([self.rules.pixels(sample.jpeg) for sample in batch])
            cells = self.model.encode_images(torch.from_numpy(pixels))[1]
            written = self.write(cells, generator)
            texts = [[*s.captions, own] for s, own in zip(batch, written, strict=True)]
            image = [i for i, captions in enumerate(texts) for _ in captions]
            fit = iter(self.fits([text for captions in texts for text in captions], cells, image))
            for captions in texts:
                *given, own = ((text, bool(next(fit)) and bool(text)) for text in captions)
                yield [text for text, fits in given if fits], own[0] if own[1] else ""

    def write(self, cells: Tensor, generator: torch.Generator) -> list[str]:
        """A caption of each image of image tokens [m, n, v]. Each word is drawn from the fewest
        words whose probability is NUCLEUS (Holtzman et al. 2019, arXiv:1904.09751)."""
        ids = torch.full((len(cells), 1), self.start)
        row = torch.arange(len(cells))
        ended = torch.zeros(len(cells), dtype=torch.bool)
        while ids.shape[1] < self.longest and not ended.all():
            mask = torch.ones_like(ids)
            tokens = self.model.fusion.text_tokens(ids, self.model.read_words(ids, mask))
            pairs = torch.stack([row, row], 1)
            states = self.model.fusion.hidden(tokens, mask, cells, pairs, causal=True)[0]
            logits = self.head(states[:, -1], self.model.text.words)
            logits[:, self.never] = float("-inf")
            logits[:, self.tokenizer.get_vocab_size() :] = float("-inf")
            word = torch.where(ended, self.end, nucleus(logits, generator))
            ids, ended = torch.cat([ids, word[:, None]], 1), ended | (word == self.end)
        ends = (self.start, self.end)
        rows = [[token for token in row if token not in ends] for row in ids.tolist()]
        return self.tokenizer.decode_batch(rows)

    def fits(self, texts: list[str], cells: Tensor, images: list[int]) -> Tensor:
        """Whether each text fits its image, by the logit of matching: bool [q]."""
        ids, mask = pad([encoding.ids for encoding in self.tokenizer.encode_batch(texts)])
        tokens = self.model.encode_texts(ids, mask)[1]
        pairs = torch.stack([torch.arange(len(texts)), torch.tensor(images)], 1)
        return self.model.fusion(tokens, mask, cells, pairs) > 0


def nucleus(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Logits [m, v] → a word of each row [m], drawn from the fewest whose probabilities sum to
    NUCLEUS."""
    share, order = logits.softmax(-1).sort(-1, descending=True)
    share = share.masked_fill(share.cumsum(-1) - share >= NUCLEUS, 0)
    return order.gather(1, share.multinomial(1, generator=generator))[:, 0]
