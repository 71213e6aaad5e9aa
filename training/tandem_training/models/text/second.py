"""A second text encoder, for captions of the same images in other languages.

It is small, starts at random and shares only the image embeddings with the first. The image encoder
learns from more captions, and queries in those languages search the same index. Its tokenizer is
learnt from the captions."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from ...data.tokens import as_json
from ..part import Table
from .bert import Bert
from .text import TextConfig

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
# Spelt out, because \w means ASCII alone where the service tokenises.
WORDS = Regex(r"[\p{L}\p{M}\p{N}]+|[\p{P}\p{S}]+")


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
    """A further input of a model: the captions in other languages, and their embeddings."""

    name = "second_text"
    gives = {"second.embedding"}

    @dataclass(frozen=True)
    class Config(Table):
        languages: dict[str, float] = field(default_factory=dict)  # weight of each in drawing one
        layers: int = 3
        width: int = 256
        heads: int = 4
        dropout: float = 0.2
        vocabulary: int = 12000
        caption_tokens: int = 40
        # of ITC against the first text encoder's embeddings, before anything else learns
        pretrain_steps: int = 1500

        def __post_init__(self):
            super().__post_init__()
            if not self.languages:
                raise ValueError(
                    "no languages; expected some with their weights: languages = { zh = 1 }"
                )

        def architecture(self) -> dict:
            """What a checkpoint must agree in."""
            keys = ("layers", "width", "heads", "vocabulary")
            return {key: getattr(self, key) for key in keys}

    def __init__(self, config: Config, model, tokenizer: Tokenizer):
        """`model`: the `ModelConfig` of the model that it joins."""
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        tokenizer.enable_truncation(model.text.max_tokens)
        bert = TextConfig(config.width, config.layers, config.heads, config.dropout)
        # What else starts at random is the same with and without it.
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            # With as many positions as the first: the service also times graphs with long texts.
            self.encoder = Bert(bert, model.dim, tokenizer.get_vocab_size())
            for table in (self.encoder.words, self.encoder.positions):
                nn.init.normal_(table.weight, std=0.02)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    @staticmethod
    def check(config: Config, languages: Iterable[str], given: set[str], started: bool) -> None:
        """ValueError where it does not fit the first text encoder.

        languages: of the first text encoder. given: features of the model. started: whether the run
        starts from a checkpoint."""
        if both := config.languages.keys() & set(languages):
            raise ValueError(
                f"languages of [data] and of [second_text] share {', '.join(sorted(both))}: "
                "one encoder reads a language"
            )
        if config.pretrain_steps and "text.sentences" not in given and not started:
            raise ValueError(
                f"[second_text] pretrain_steps = {config.pretrain_steps} follows the first text "
                "encoder, which without starting weights has learnt nothing; set pretrain_steps = 0"
            )

    def features(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Embeddings [b, dim] of unit length, where a batch has captions for it: "second.ids" and
        "second.mask" [b, t]."""
        if "second.ids" not in inputs:
            return {}
        return {"second.embedding": self.encoder(inputs["second.ids"], inputs["second.mask"])[0]}

    def description(self) -> dict:
        """What builds it again, for a checkpoint."""
        return {"config": asdict(self.config), "tokenizer": self.tokenizer.to_str()}

    @classmethod
    def from_description(cls, description: dict, model) -> "SecondText":
        tokenizer = Tokenizer.from_str(description["tokenizer"])
        return cls(cls.Config(**description["config"]), model, tokenizer)

    def save_tokenizer(self, path: Path) -> None:
        """As a bundle has it."""
        path.write_text(as_json(self.tokenizer))
