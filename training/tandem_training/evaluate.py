r"""Evaluate a bundle: recall on captioned images in both directions, ITC alone and with ITM rerank.

python -m tandem_training.evaluate ../models/tandem-small '../../shared/data/flickr8k-dev-*.tar' \
    --report report

With --zero-shot, classify the images of a folder, which holds a folder for each class or comes with
--labels:

python -m tandem_training.evaluate ../models/tandem-small photos --zero-shot"""

import json
from pathlib import Path

from .bundle.encoders import BundleEncoders
from .command import argument_parser, errors_as_sentences
from .data.samples import languages_of
from .evaluation import misses
from .evaluation.calibration import reliability_of
from .evaluation.gain import gain_report
from .evaluation.plot import draw_reliability
from .evaluation.retrieval import evaluate_languages
from .evaluation.zero_shot import classify, labelled_files, read_templates


@errors_as_sentences("evaluate")
def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("bundle", type=Path, help="folder of an exported bundle")
    add("data", help="glob of WebDataset shards; with --zero-shot, a folder of images")
    add("--k", type=int, nargs="+", default=[16, 32, 64, 128], help="rerank depths")
    add(
        "--languages",
        nargs="+",
        help="of captions, the main one first (default: all, first those of the bundle)",
    )
    add("--report", type=Path, help="folder for report.json, reliability.png and misses.html")
    add("--zero-shot", action="store_true", help="classify images by sentences about their class")
    add("--labels", type=Path, help="CSV with the columns file (below the folder) and label")
    add("--templates", type=Path, help="a sentence a line, {} stands for the class")
    args = parser.parse_args()
    encoders = BundleEncoders(args.bundle)
    if args.zero_shot:
        files = labelled_files(Path(args.data), args.labels)
        print(json.dumps(classify(encoders, files, read_templates(args.templates)), indent=2))
        return
    own, match = encoders.manifest["languages"], encoders.manifest["match"]
    languages = args.languages or sorted(
        languages_of(args.data), key=lambda name: own.index(name) if name in own else len(own)
    )
    report, scored = evaluate_languages(encoders, args.data, languages, match, tuple(args.k))
    report["calibration"] = reliability_of(scored, match)
    if "fusion_encoder" in encoders.manifest:
        depth = encoders.manifest["rerank"]["candidates"]
        report["rerank"] = {
            "bundle": gain_report(scored, depth, match),
            "cross_validated": gain_report(scored, depth),
        }
    print(json.dumps(report, indent=2))
    if args.report:
        args.report.mkdir(parents=True, exist_ok=True)
        (args.report / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        (args.report / "misses.html").write_text(misses.page(scored, match), encoding="utf-8")
        draw_reliability(report["calibration"]["reliability"], args.report / "reliability.png")


if __name__ == "__main__":
    main()
