r"""The rerank margin: candidates further than it below the k-th similarity are not reranked.

Most of a match follows from the similarity, and the fusion encoder moves a pair by a bounded way.
So the tail of the candidates cannot reach the first k.

python -m tandem_training.bundle.rerank_margin ../models/tandem-small \
    '../../shared/data/flickr8k-dev-*.tar' --k 16 64 256"""

import json
from pathlib import Path

import numpy as np

from ..command import argument_parser, errors_as_sentences
from ..data.samples import read_shards
from ..data.shards import data_name
from ..evaluation.gain import gain_report
from ..evaluation.recall import KS, match_score, recall_at_k, reranked
from ..evaluation.retrieval import Scored
from .bundle import write_manifest
from .encoders import BundleEncoders

UNCHANGED = (
    0.998  # share of captions whose first k must stay; no R@k can move by more than the rest
)
FOLDS = 5


def needed(similarity: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """The narrowest margin of each query with which its first k hits and their order stay: [q].

    similarity [q, d] of the candidates, most similar first; scores [q, d] order the hits. It is
    how far the lowest of the k best lies below the k-th similarity."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    lowest = np.take_along_axis(similarity, best, 1).min(1)
    return np.maximum(similarity[:, k - 1] - lowest, 0)


def within_margin(similarity: np.ndarray, k: int, margin: float) -> np.ndarray:
    """The candidates [q, d], most similar first, that are reranked for k hits: bool [q, d]."""
    return similarity >= similarity[:, [k - 1]] - margin


def fit_margin(scored: Scored, match: dict, depth: int) -> tuple[float, dict]:
    """The narrowest margin with which the first k of a share UNCHANGED of the captions stay, for k
    of 1, 5 and 10, with `depth` recalled candidates.

    The report has for each k the share of captions whose hits stay (cross-validated over images),
    the mean number of reranked candidates, and recall with all of them and with those alone."""
    way, image_of = scored.text_to_image.first(depth), scored.encoded.image_of
    similarity = way.similarity
    scores = match_score(match, way.logits, similarity)
    hits = [k for k in KS if k < scores.shape[1]]
    gaps = {k: needed(similarity, scores, k) for k in hits}
    images = way.all_similarity.shape[1]
    fold = np.random.default_rng(0).permutation(images)[image_of] % FOLDS
    held_out = np.array(
        [narrowest([gap[fold != left] for gap in gaps.values()]) for left in range(FOLDS)]
    )[fold]
    margin = narrowest(gaps.values())
    report: dict = {"candidates": scores.shape[1]}
    for k, gap in gaps.items():
        within = within_margin(similarity, k, margin)
        entry = {
            "unchanged": round(100 * float((gap <= held_out).mean()), 2),
            "reranked": round(float(within.sum(1).mean()), 1),
        }
        # "contenders" is the name in the manifests of published bundles.
        for name, used in (("all", scores), ("contenders", np.where(within, scores, -np.inf))):
            ranking = reranked(way.all_similarity, way.candidates, used)
            recall = recall_at_k(ranking, way.positive)
            entry[name] = {f"r{at}": recall[f"r{at}"] for at in KS if at <= k}
        report[f"k={k}"] = entry
    return margin, report


def narrowest(gaps) -> float:
    """The margin that a share UNCHANGED of each list of gaps fits in, rounded up to four places.

    0 for no list."""
    widest = max((float(np.quantile(gap, UNCHANGED, method="higher")) for gap in gaps), default=0.0)
    return float(np.ceil(widest * 1e4) / 1e4)


@errors_as_sentences("rerank_margin")
def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("bundle", type=Path, help="folder of an exported bundle; its manifest is rewritten")
    add("shards", help="glob of WebDataset shards that the model was not trained on")
    add("--k", type=int, nargs="+", default=[16, 64], help="rerank depths to report")
    args = parser.parse_args()
    encoders = BundleEncoders(args.bundle)
    manifest = encoders.manifest
    scored = Scored(encoders, read_shards(args.shards), max(args.k))
    manifest["rerank"]["margin"], report = fit_margin(
        scored, manifest["match"], manifest["rerank"]["candidates"]
    )
    figures = manifest["metrics"].setdefault(data_name(args.shards), {})
    figures["bundle"] = scored.report(manifest["match"], tuple(args.k))
    figures["margin"] = report
    figures["rerank"] = gain_report(scored, manifest["rerank"]["candidates"])
    write_manifest(args.bundle, {key: value for key, value in manifest.items() if key != "files"})
    print(json.dumps({"margin": manifest["rerank"]["margin"], **report}, indent=2))


if __name__ == "__main__":
    main()
