r"""The margin of a bundle: how far below the k-th candidate in similarity one may lie and still
come among the first k.

Candidates beyond it are not reranked. Most of a match follows from the similarity, and what the
fusion encoder says moves a pair by a bounded way, so the tail of the candidates cannot reach the
top.

python -m tandem_training.bundle.rerank_margin ../models/tandem-small
'../../shared/data/flickr8k-dev-*.tar' --k 16 64 256"""

import argparse
import json
from pathlib import Path

import numpy as np

from ..evaluate import Scored
from ..evaluation.recall import KS, recall_at_k, reranked

# share of captions whose first k stay as they are: none of their R@k can move by more than the rest
KEPT = 0.998
FOLDS = 5


def needed(similarity: np.ndarray, argument: np.ndarray, k: int) -> np.ndarray:
    """Candidates [q, d], most similar first, with what they are ordered by [q, d] → how far below
    the k-th similarity the lowest of the k best lies: [q]. With that margin, or a wider one, the
    first k and their order stay."""
    best = np.argsort(-argument, axis=1, kind="stable")[:, :k]
    lowest = np.take_along_axis(similarity, best, 1).min(1)
    return np.maximum(similarity[:, k - 1] - lowest, 0)


def contenders(similarity: np.ndarray, k: int, margin: float) -> np.ndarray:
    """Which candidates [q, d], most similar first, are reranked for k hits: bool [q, d]."""
    return similarity >= similarity[:, [k - 1]] - margin


def fit_margin(scored: Scored, match: dict, depth: int) -> tuple[float, dict]:
    """The narrowest margin with which the first k of at least KEPT of all captions stay, for k of
    1, 5 and 10, when `depth` candidates are recalled.

    The report says for each k what share stays (cross-validated: by margins fitted without the
    caption's photo), how many candidates are reranked on average, and recall with all of them and
    with those alone."""
    encoded, candidates = scored.encoded, scored.images[:, :depth]
    similarity = np.take_along_axis(encoded.similarity, candidates, 1)
    argument = match["logit"] * scored.image_logits[:, :depth] + match["similarity"] * similarity
    hits = [k for k in KS if k < candidates.shape[1]]
    gaps = {k: needed(similarity, argument, k) for k in hits}
    fold = (
        np.random.default_rng(0).permutation(encoded.similarity.shape[1])[encoded.photo_of] % FOLDS
    )
    left_out = np.array(
        [narrowest([gap[fold != one] for gap in gaps.values()]) for one in range(FOLDS)]
    )[fold]
    margin = narrowest(gaps.values())
    report: dict = {"candidates": candidates.shape[1]}
    for k, gap in gaps.items():
        kept = contenders(similarity, k, margin)
        found = {
            name: recall_at_k(reranked(encoded.similarity, candidates, scores), encoded.positive)
            for name, scores in (
                ("all", argument),
                ("contenders", np.where(kept, argument, -np.inf)),
            )
        }
        report[f"k={k}"] = {
            "unchanged": round(100 * float((gap <= left_out).mean()), 2),
            "reranked": round(float(kept.sum(1).mean()), 1),
        } | {
            name: {f"r{at}": recall[f"r{at}"] for at in KS if at <= k}
            for name, recall in found.items()
        }
    return margin, report


def narrowest(gaps) -> float:
    """The margin, to four places upwards, that KEPT of each list of gaps fit in; 0 for no list."""
    widest = max((float(np.quantile(gap, KEPT, method="higher")) for gap in gaps), default=0.0)
    return float(np.ceil(widest * 1e4) / 1e4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "bundle", type=Path, help="folder of an exported bundle; its manifest is written anew"
    )
    parser.add_argument(
        "shards", help="glob of WebDataset shards that the model was not trained on"
    )
    parser.add_argument(
        "--k", type=int, nargs="+", default=[16, 64], help="rerank depths to report"
    )
    args = parser.parse_args()
    from ..data.samples import read_shards
    from ..export import data_name
    from .bundle import BundleEncoders, write_manifest

    encoders = BundleEncoders(args.bundle)
    manifest = encoders.manifest
    scored = Scored(encoders, read_shards(args.shards), max(args.k))
    manifest["rerank"]["margin"], report = fit_margin(
        scored, manifest["match"], manifest["rerank"]["candidates"]
    )
    figures = manifest["metrics"].setdefault(data_name(args.shards), {})
    figures["bundle"] = scored.report(manifest["match"], tuple(args.k))
    figures["margin"] = report
    write_manifest(args.bundle, {key: value for key, value in manifest.items() if key != "files"})
    print(json.dumps({"margin": manifest["rerank"]["margin"], **report}, indent=2))


if __name__ == "__main__":
    main()
