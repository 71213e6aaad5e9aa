"""Trains a fusion encoder on the frozen tokens of a bundle.

Lists of photos that the bundle's encoders were trained on teach little: they know those by heart.
So the shards should be of other photos. The lists come from the bundle's own embeddings, and its
similarity is part of the score in the loss, so that the fusion learns what the similarity lacks."""

import json
from pathlib import Path

import numpy as np

from ..bundle.bundle import read_manifest, token_sizes
from ..bundle.encoders import BundleEncoders, FusionEncoders
from ..bundle.graph_weights import take_fusion
from ..data.samples import origins_of, read_shards
from ..data.shards import data_name
from ..evaluation.gain import gain_report, list_loss
from ..evaluation.retrieval import Encoded, Scored
from ..models.fusion.late import Late
from ..models.fusion_model import FusionModel
from ..objectives.features import Tensors
from ..recipe import Recipe
from .curves import SIDES
from .lists import ListBatches
from .log import Metrics
from .tokens import encoded_once
from .trainer import Trainer

DEPTH = 16  # candidates that dev reranks


class FusionTrainer(Trainer):
    """A run that starts from a bundle. Its model is the fusion alone."""

    def __init__(self, recipe: Recipe, out: Path, cache: Path):
        self.towers = Path(recipe.train.start)
        sizes = token_sizes(read_manifest(self.towers))
        super().__init__(recipe, out, cache, FusionModel(recipe.model.fusion, sizes), None)

    def _start(self) -> None:
        self.origins = []
        graph = self.towers / "fusion-encoder.onnx"
        taken = take_fusion(self.model.fusion, graph) if graph.is_file() else []
        if isinstance(self.model.fusion, Late):
            self.model.fusion.load_aligned(taken)
        print(
            f"started from {self.towers}: {len(taken)} of "
            f"{len(self.model.fusion.state_dict())} weights of the fusion",
            flush=True,
        )

    def _read(self, cache: Path) -> None:
        data = self.recipe.data
        encoders = BundleEncoders(self.towers)
        samples = read_shards(data.train, data.languages, data.max_corrupt)
        self.origins += origins_of(samples, data_name(data.train, unnamed="train"))
        encoded = encoded_once(encoders, samples, cache)
        self.dev = encoded_once(encoders, read_shards(data.dev, data.languages), cache)
        options = self.recipe.objectives["lists"]
        self.batches = ListBatches(encoded, options, data, self.recipe.train)
        self.out.mkdir(parents=True, exist_ok=True)
        losses = {"train": _alone(encoded, len(self.dev.samples)), "dev": _alone(self.dev)}
        print(f"lists by similarity alone: {json.dumps(losses)}", flush=True)

    def _encode(self, inputs: Tensors) -> Tensors:
        return inputs

    def _report(self, epoch: int, metrics: Metrics) -> None:
        report = self.evaluate_dev()
        print(f"epoch {epoch}: {json.dumps(report)}", flush=True)
        metrics.write(self.step, dev=report)

    def evaluate_dev(self) -> dict:
        """Recall of the average on dev: ITC, and with DEPTH candidates reranked what `gain_report`
        reports."""
        scored = Scored.of(FusionEncoders(self.average.fusion), self.dev, DEPTH)
        reranked = gain_report(scored, DEPTH)
        report = scored.report({}, ()) | {"gain": {}}
        for side in SIDES:
            report["gain"][side] = reranked[side].pop("gain")
            report[side] |= reranked[side]
        return report


def _alone(encoded: Encoded, most: int | None = None) -> float:
    """`list_loss` of the captions among `most` images at random."""
    images = np.random.default_rng(0).permutation(len(encoded.samples))[:most]
    rows = np.flatnonzero(np.isin(encoded.image_of, images))
    similarity = encoded.text_embedding[rows] @ encoded.image_embedding[images].T
    return round(list_loss(similarity, encoded.image_of[rows][:, None] == images), 4)
