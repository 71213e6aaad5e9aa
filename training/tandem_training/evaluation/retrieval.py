"""Retrieval on captioned images: embeddings, candidates, ITM logits, recall in both directions."""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from ..data.samples import Sample, read_languages
from .recall import match_score, recall_at_k, reranked, top_candidates

BATCH = 32  # images; of texts twice as many
PAIRS = 1024  # of text and image in a batch of the fusion encoder


class Encoders(Protocol):
    """The encoders that evaluation reads: `TorchEncoders` or `BundleEncoders`."""

    def files(self, contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Image files → embedding float32 [b, dim], image tokens int8 [b, n, w]."""

    def texts(self, captions: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        """→ embedding float32 [b, dim], text tokens float32 [t, w] of each caption."""

    def logits(
        self, text_tokens: list[np.ndarray], image_tokens: np.ndarray, pairs: np.ndarray
    ) -> np.ndarray:
        """Text tokens of q texts, image tokens [m, n, w], pairs int64 [p, 2] → float32 [p]."""


class EncodedImages:
    """Embeddings and tokens of images, each encoded once for captions of several languages."""

    def __init__(self, encoders: Encoders, samples: list[Sample]):
        jpegs = list(dict.fromkeys(sample.jpeg for sample in samples))
        batches = (jpegs[i : i + BATCH] for i in range(0, len(jpegs), BATCH))
        encoded = [encoders.files(batch) for batch in batches]
        self.embedding = np.concatenate([embedding for embedding, _ in encoded])
        self.tokens = np.concatenate([tokens for _, tokens in encoded])
        self._row = {jpeg: i for i, jpeg in enumerate(jpegs)}

    def of(self, samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
        """Embedding [b, dim] and tokens [b, n, w] of the samples' images, in their order."""
        rows = [self._row[sample.jpeg] for sample in samples]
        return self.embedding[rows], self.tokens[rows]


def _captions(samples: list[Sample]) -> list[str]:
    return [caption for sample in samples for caption in sample.captions]


class Encoded:
    """A data set after both encoders, of q captions and m images.

    image_of int64 [q] is the image of each caption; similarity float32 [q, m]; positive bool
    [q, m]; text_tokens float32 [t, w] of each caption."""

    def __init__(
        self, encoders: Encoders, samples: list[Sample], images: EncodedImages | None = None
    ):
        captions = _captions(samples)
        image = (images or EncodedImages(encoders, samples)).of(samples)
        # Captions of similar length share a batch, so that little is padding.
        order = np.argsort([len(c) for c in captions], kind="stable")
        embedding = np.empty((len(captions), image[0].shape[1]), np.float32)
        text_tokens: list[np.ndarray] = [np.empty(0)] * len(captions)
        for i in range(0, len(captions), 2 * BATCH):
            rows = order[i : i + 2 * BATCH]
            embedding[rows], tokens = encoders.texts([captions[r] for r in rows])
            for row, item in zip(rows, tokens, strict=True):
                text_tokens[row] = item
        self._set(samples, image, (embedding, text_tokens))

    @classmethod
    def of(
        cls,
        samples: list[Sample],
        image: tuple[np.ndarray, np.ndarray],
        text: tuple[np.ndarray, list[np.ndarray]],
    ) -> "Encoded":
        """From what the encoders gave before: embeddings and tokens of images, and of captions."""
        encoded = cls.__new__(cls)
        encoded._set(samples, image, text)
        return encoded

    def _set(self, samples: list[Sample], image: tuple, text: tuple) -> None:
        self.samples, self.captions = samples, _captions(samples)
        self.image_of = np.repeat(np.arange(len(samples)), [len(s.captions) for s in samples])
        self.image_embedding, self.image_tokens = image
        self.text_embedding, self.text_tokens = text

    @cached_property
    def similarity(self) -> np.ndarray:
        return self.text_embedding @ self.image_embedding.T

    @cached_property
    def positive(self) -> np.ndarray:
        return self.image_of[:, None] == np.arange(len(self.samples))[None, :]

    def first(self, images: int) -> "Encoded":
        """The first images with their captions, as a data set of their own."""
        texts = int((self.image_of < images).sum())
        image = (self.image_embedding[:images], self.image_tokens[:images])
        text = (self.text_embedding[:texts], self.text_tokens[:texts])
        return Encoded.of(self.samples[:images], image, text)

    def logits(self, encoders: Encoders, texts: np.ndarray, images: np.ndarray) -> np.ndarray:
        """ITM logits of the (text, image) pairs, both int64 [p], in their order: float32 [p]."""
        # Texts of similar length share a batch, so that little is padding.
        order = np.lexsort((texts, np.array([len(t) for t in self.text_tokens])[texts]))
        out = np.empty(len(texts), np.float32)
        for i in range(0, len(order), PAIRS):
            rows = order[i : i + PAIRS]
            unique_texts, t = np.unique(texts[rows], return_inverse=True)
            unique_images, m = np.unique(images[rows], return_inverse=True)
            pairs = np.stack([t, m], 1).astype(np.int64)
            out[rows] = encoders.logits(
                [self.text_tokens[u] for u in unique_texts], self.image_tokens[unique_images], pairs
            )
        return out


@dataclass
class Direction:
    """One direction of retrieval: q queries, m items, k candidates of each query."""

    all_similarity: np.ndarray  # float32 [q, m]
    positive: np.ndarray  # bool [q, m]
    candidates: np.ndarray  # int64 [q, k], items, most similar first
    logits: np.ndarray  # float32 [q, k], of the candidates

    @property
    def similarity(self) -> np.ndarray:
        """Of the candidates, float32 [q, k]."""
        return np.take_along_axis(self.all_similarity, self.candidates, 1)

    def first(self, k: int) -> "Direction":
        """With the k most similar candidates."""
        return replace(self, candidates=self.candidates[:, :k], logits=self.logits[:, :k])

    def scores(self, match: dict) -> np.ndarray:
        """Of all items, ranked with rerank of the candidates: float64 [q, m]."""
        scores = match_score(match, self.logits, self.similarity)
        return reranked(self.all_similarity, self.candidates, scores)


class Scored:
    """A data set with the `depth` nearest candidates in both directions and their ITM logits.

    pair_ms is the cost of a pair in the fusion encoder, in milliseconds of one core."""

    def __init__(
        self,
        encoders: Encoders,
        samples: list[Sample],
        depth: int,
        images: EncodedImages | None = None,
    ):
        self._score(encoders, Encoded(encoders, samples, images), depth)

    @classmethod
    def of(cls, encoders: Encoders, encoded: Encoded, depth: int) -> "Scored":
        """Of a data set that has been encoded; the encoders give the logits alone."""
        scored = cls.__new__(cls)
        scored._score(encoders, encoded, depth)
        return scored

    def _score(self, encoders: Encoders, encoded: Encoded, depth: int) -> None:
        self.encoded = encoded
        to_image = top_candidates(encoded.similarity, depth)  # [captions, depth]
        to_text = top_candidates(encoded.similarity.T, depth)  # [images, depth]
        captions = np.repeat(np.arange(len(to_image)), to_image.shape[1])
        images_of = np.repeat(np.arange(len(to_text)), to_text.shape[1])
        start = time.process_time()
        logits = encoded.logits(
            encoders,
            np.concatenate([captions, to_text.ravel()]),
            np.concatenate([to_image.ravel(), images_of]),
        )
        self.pair_ms = 1e3 * (time.process_time() - start) / len(logits)
        image_logits, text_logits = np.split(logits, [to_image.size])
        self.text_to_image = Direction(
            encoded.similarity, encoded.positive, to_image, image_logits.reshape(to_image.shape)
        )
        self.image_to_text = Direction(
            encoded.similarity.T, encoded.positive.T, to_text, text_logits.reshape(to_text.shape)
        )

    def report(self, match: dict[str, float], ks: tuple[int, ...]) -> dict:
        """Recall of ITC alone, and with rerank of k candidates by the match rule, for each k."""
        captions, images = self.encoded.similarity.shape
        result: dict = {"photos": images, "captions": captions}
        for name in ("text_to_image", "image_to_text"):
            way: Direction = getattr(self, name)
            result[name] = {"itc": recall_at_k(way.all_similarity, way.positive)} | {
                f"rerank@{k}": recall_at_k(way.first(k).scores(match), way.positive) for k in ks
            }
        return result


def evaluate(
    encoders: Encoders, samples: list[Sample], match: dict[str, float], ks: tuple[int, ...]
) -> dict:
    """Recall of captioned images by the standard protocol: see `Scored.report`."""
    return Scored(encoders, samples, max(ks)).report(match, ks)


def score_languages(
    encoders: Encoders, samples: dict[str, list[Sample]], depth: int
) -> dict[str, Scored]:
    """Score the samples of each language; each image is encoded once.

    Images without a caption in a language are no candidates in it."""
    images = EncodedImages(encoders, [sample for listed in samples.values() for sample in listed])
    return {name: Scored(encoders, listed, depth, images) for name, listed in samples.items()}


def report_languages(scored: dict[str, Scored], match: dict, ks: tuple[int, ...]) -> dict:
    """The report on the first language, with those of the others under `languages`."""
    first, *others = (language.report(match, ks) for language in scored.values())
    return {**first, "languages": dict(zip(list(scored)[1:], others, strict=True))}


def evaluate_languages(
    encoders: Encoders, shards: str, languages: list[str], match: dict, ks: tuple[int, ...]
) -> tuple[dict, Scored]:
    """`report_languages` on the shards, and the scored captions of the first language."""
    scored = score_languages(encoders, read_languages(shards, languages), max(ks))
    return report_languages(scored, match, ks), scored[languages[0]]
