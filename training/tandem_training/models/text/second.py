"""A second text encoder, which reads what people said of the same photos in other languages.

It is small, starts at random and shares nothing with the first but the image embeddings: the image
encoder learns from more descriptions, and queries in those languages search the same index. Its
tokenizer is learnt from the captions."""

import copy
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from ..model import ModelConfig
from .bert import TextEncoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
# Spelt out, because \w means ASCII alone where the service tokenises.
WORDS = Regex(r"[\p{L}\p{M}\p{N}]+|[\p{P}\p{S}]+")


@dataclass
class SecondTextConfig:
    languages: dict[str, float] = field(
        default_factory=dict
    )  # weight of each in drawing a caption; none: no encoder
    layers: int = 3
    width: int = 256
    heads: int = 4
    dropout: float = 0.2
    vocabulary: int = 12000
    caption_tokens: int = 40
    pretrain_steps: int = (
        1500  # of ITC against the first text encoder's embeddings, before anything else learns
    )
    rate: float = 5e-4
    itc: float = 0.5  # weight of ITC with the images
    text_itc: float = 0.25  # and with the first encoder's captions

    def __post_init__(self):
        least = {"layers": 1, "width": 1, "heads": 1, "vocabulary": len(SPECIAL) + 1, "caption_tokens": 3,
                 "pretrain_steps": 0, "itc": 0, "text_itc": 0}  # fmt: skip
        for key, bound in least.items():
            if getattr(self, key) < bound:
                raise ValueError(f"{key} = {getattr(self, key)}; expected at least {bound}")
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} is no multiple of heads = {self.heads}")
        if not self.itc + self.text_itc:
            raise ValueError("itc and text_itc are both 0; expected a weight for one of them")

    def architecture(self) -> str:
        """What a checkpoint must agree in."""
        return f"{self.layers} layers of width {self.width}, {self.heads} heads, {self.vocabulary} tokens"


def learn_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte pairs (Sennrich et al. 2015, arXiv:1508.07909) of lower-case words, `vocabulary` tokens
    at most. Chinese is written without spaces: there a word is what stands between two marks, and
    the pairs find its parts."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(WORDS, "removed", invert=True)
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=SPECIAL,
            limit_alphabet=vocabulary // 2,
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


class SecondText(nn.Module):
    """token ids [b, t], mask [b, t] → embedding [b, dim] of unit length. Holds the encoder, its
    moving average, which is what is evaluated and exported, and the scale of its ITC."""

    def __init__(self, config: SecondTextConfig, model: ModelConfig, tokenizer: Tokenizer):
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        tokenizer.enable_truncation(model.max_tokens)
        with torch.random.fork_rng(
            devices=()
        ):  # what else starts at random is the same with and without
            torch.manual_seed(0)
            # With as many positions as the first: the service also times graphs with texts of made
            # lengths.
            self.encoder = TextEncoder(
                model.dim, config.width, config.layers, config.heads, tokenizer.get_vocab_size(),
                dropout=config.dropout,
            )  # fmt: skip
            for table in (self.encoder.words, self.encoder.positions):
                nn.init.normal_(table.weight, std=0.02)
        self.average = copy.deepcopy(self.encoder).requires_grad_(False).eval()
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder(token_ids, mask)[0]

    def checkpoint(self) -> dict:
        return {
            "config": asdict(self.config),
            "tokenizer": self.tokenizer.to_str(),
            "state": self.average.state_dict(),
        }

    def save_tokenizer(self, path: Path) -> None:
        """As a bundle has it."""
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.save(str(path))

    @classmethod
    def from_checkpoint(cls, saved: dict, model: ModelConfig) -> "SecondText":
        found = cls(
            SecondTextConfig(**saved["config"]), model, Tokenizer.from_str(saved["tokenizer"])
        )
        for encoder in (found.encoder, found.average):
            encoder.load_state_dict(saved["state"])
        return found.eval()
