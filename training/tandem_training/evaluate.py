r"""Evaluate a model or an exported bundle on captioned photos: ITC alone and with ITM rerank, both
directions.

python -m tandem_training.evaluate ../models/tandem-small '../../shared/data/flickr8k-dev-*.tar'
--report report"""

import argparse
import json
import time
from pathlib import Path
from typing import Protocol

import numpy as np

from .data.samples import Sample, decode, languages_of, read_languages
from .evaluation.recall import recall_at_k, reranked, top_candidates


class Encoders(Protocol):
    """What evaluation needs, offered by the PyTorch model (`TorchEncoders`) and by a bundle
    (`BundleEncoders`)."""

    image_size: int

    def images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [b, s, s, 3] → embedding float32 [b, dim], image tokens int8 [b, n, w]."""

    def texts(self, captions: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        """→ embedding float32 [b, dim], text tokens float32 [t, w] of each."""

    def logits(
        self, text_tokens: list[np.ndarray], image_tokens: np.ndarray, pairs: np.ndarray
    ) -> np.ndarray:
        """text tokens of q texts, image tokens [m, n, w], pairs int64 [p, 2] → ITM logits float32
        [p]."""


class Pictures:
    """Photos after the image encoder, each once, to be read with captions of several languages."""

    def __init__(self, encoders: Encoders, samples: list[Sample], batch: int = 32):
        jpegs = list(dict.fromkeys(sample.jpeg for sample in samples))
        found = [
            encoders.images(
                np.stack([decode(jpeg, encoders.image_size) for jpeg in jpegs[i : i + batch]])
            )
            for i in range(0, len(jpegs), batch)
        ]
        self.embedding = np.concatenate([e for e, _ in found])
        self.tokens = np.concatenate([t for _, t in found])
        self._row = {jpeg: i for i, jpeg in enumerate(jpegs)}

    def of(self, samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
        """Embedding and tokens of some of the photos, in the order given."""
        rows = [self._row[sample.jpeg] for sample in samples]
        return self.embedding[rows], self.tokens[rows]


class Encoded:
    """A data set after both towers: embeddings, tokens, and which caption belongs to which photo."""

    def __init__(
        self,
        encoders: Encoders,
        samples: list[Sample],
        batch: int = 32,
        pictures: Pictures | None = None,
    ):
        self.samples = samples
        self.captions = captions = [caption for sample in samples for caption in sample.captions]
        self.photo_of = np.repeat(np.arange(len(samples)), [len(s.captions) for s in samples])
        pictures = pictures or Pictures(encoders, samples, batch)
        self.image_embedding, self.image_tokens = pictures.of(samples)
        # Captions of like length share a batch, so that little is padding.
        order = np.argsort([len(c) for c in captions], kind="stable")
        self.text_embedding = np.empty((len(captions), self.image_embedding.shape[1]), np.float32)
        self.text_tokens: list[np.ndarray] = [np.empty(0)] * len(captions)
        for i in range(0, len(captions), 2 * batch):
            rows = order[i : i + 2 * batch]
            embedding, tokens = encoders.texts([captions[r] for r in rows])
            self.text_embedding[rows] = embedding
            for row, item in zip(rows, tokens, strict=True):
                self.text_tokens[row] = item
        self.similarity = self.text_embedding @ self.image_embedding.T
        self.positive = self.photo_of[:, None] == np.arange(len(samples))[None, :]

    def logits(
        self, encoders: Encoders, texts: np.ndarray, images: np.ndarray, batch: int = 1024
    ) -> np.ndarray:
        """ITM logits of the listed (text, image) pairs, in order: float32 [p]. Texts of like length
        go together."""
        length = np.array([len(t) for t in self.text_tokens])
        order = np.lexsort((texts, length[texts]))
        out = np.empty(len(texts), np.float32)
        for i in range(0, len(order), batch):
            rows = order[i : i + batch]
            unique_texts, t = np.unique(texts[rows], return_inverse=True)
            unique_images, m = np.unique(images[rows], return_inverse=True)
            pairs = np.stack([t, m], 1).astype(np.int64)
            out[rows] = encoders.logits(
                [self.text_tokens[u] for u in unique_texts], self.image_tokens[unique_images], pairs
            )
        return out


class Scored:
    """A data set with its candidates in both directions and their ITM logits: calibration and
    recall read them.

    images [q, k]: the photos most similar to each caption, with image_logits; texts [m, k]: the
    captions most similar to each photo, with text_logits; pair_ms: what a pair cost the fusion
    encoder, in milliseconds of a core."""

    def __init__(
        self,
        encoders: Encoders,
        samples: list[Sample],
        depth: int,
        pictures: Pictures | None = None,
    ):
        self.encoded = Encoded(encoders, samples, pictures=pictures)
        similarity = self.encoded.similarity
        self.images, self.texts = (
            top_candidates(similarity, depth),
            top_candidates(similarity.T, depth),
        )
        captions = np.repeat(np.arange(len(self.images)), self.images.shape[1])
        photos = np.repeat(np.arange(len(self.texts)), self.texts.shape[1])
        begun = time.process_time()
        logits = self.encoded.logits(
            encoders,
            np.concatenate([captions, self.texts.ravel()]),
            np.concatenate([self.images.ravel(), photos]),
        )
        self.pair_ms = 1e3 * (time.process_time() - begun) / len(logits)
        self.image_logits = logits[: self.images.size].reshape(self.images.shape)
        self.text_logits = logits[self.images.size :].reshape(self.texts.shape)

    def report(self, match: dict[str, float], ks: tuple[int, ...]) -> dict:
        """Recall of ITC alone, and reranked at each k by match["logit"] · logit +
        match["similarity"] · similarity."""
        similarity, positive = self.encoded.similarity, self.encoded.positive
        result: dict = {"photos": similarity.shape[1], "captions": len(similarity)}
        for name, matrix, truth, candidates, logits in (
            ("text_to_image", similarity, positive, self.images, self.image_logits),
            ("image_to_text", similarity.T, positive.T, self.texts, self.text_logits),
        ):
            scores = match["logit"] * logits + match["similarity"] * np.take_along_axis(
                matrix, candidates, 1
            )
            result[name] = {"itc": recall_at_k(matrix, truth)} | {
                f"rerank@{k}": recall_at_k(
                    reranked(matrix, candidates[:, :k], scores[:, :k]), truth
                )
                for k in ks
            }
        return result


def evaluate(
    encoders: Encoders, samples: list[Sample], match: dict[str, float], ks: tuple[int, ...]
) -> dict:
    """Recall of captioned photos by the standard protocol: see `Scored.report`."""
    return Scored(encoders, samples, max(ks)).report(match, ks)


def evaluate_languages(
    encoders: Encoders, shards: str, languages: list[str], match: dict, ks: tuple[int, ...]
) -> tuple[dict, Scored]:
    """The report on captions of the first language, with those of the others under `languages`, and
    what was scored of the first. Photos without a caption in a language are no candidates there."""
    samples = read_languages(shards, languages)
    pictures = Pictures(encoders, [sample for found in samples.values() for sample in found])
    scored = {name: Scored(encoders, found, max(ks), pictures) for name, found in samples.items()}
    first, *others = (one.report(match, ks) for one in scored.values())
    return {**first, "languages": dict(zip(languages[1:], others, strict=True))}, scored[
        languages[0]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder of an exported bundle")
    parser.add_argument("shards", help="glob of WebDataset shards")
    parser.add_argument("--k", type=int, nargs="+", default=[16, 32, 64, 128], help="rerank depths")
    parser.add_argument(
        "--languages",
        nargs="+",
        help="of captions, the main one first (default: all, first those the bundle is for)",
    )
    parser.add_argument(
        "--report", type=Path, help="folder for report.json, reliability.png and misses.html"
    )
    args = parser.parse_args()
    from .bundle.bundle import BundleEncoders
    from .evaluation import misses, reliability

    encoders = BundleEncoders(args.bundle)
    own = encoders.manifest["languages"]
    languages = args.languages or sorted(
        languages_of(args.shards), key=lambda found: own.index(found) if found in own else len(own)
    )
    match = encoders.manifest["match"]
    report, scored = evaluate_languages(encoders, args.shards, languages, match, tuple(args.k))
    report["calibration"] = reliability.of(scored, match)
    print(json.dumps(report, indent=2))
    if args.report:
        args.report.mkdir(parents=True, exist_ok=True)
        (args.report / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        reliability.draw(report["calibration"]["reliability"], args.report / "reliability.png")
        (args.report / "misses.html").write_text(misses.page(scored, match), encoding="utf-8")


if __name__ == "__main__":
    main()
