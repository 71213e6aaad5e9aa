r"""Export a checkpoint as a bundle: ONNX graphs, tokenizer, calibrated match rule, goldens, model
card, manifest.

python -m tandem_training.export runs/small/model.pt ../models/tandem-small \
    --dev '../../shared/data/flickr8k-dev-*.tar' \
    --precision int8 --calibrate '../../shared/data/flickr8k-train-0000.tar'"""

import json
from pathlib import Path

from .bundle.other_texts import export_both_texts
from .bundle.replace_fusion import replace_fusion
from .bundle.second_text import export_second_text
from .bundle.write import add_options, export_bundle
from .command import argument_parser, errors_as_sentences
from .data.shards import locations


@errors_as_sentences("export")
def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("checkpoint", type=Path)
    add_options(parser, version="0.1.0")
    parser.add_argument(
        "--text",
        choices=["first", "second", "both"],
        default="first",
        help="second: the encoder of [second_text], as a dual encoder alone; "
        "both: a bundle for the languages of both",
    )
    parser.add_argument(
        "--towers",
        type=Path,
        help="bundle whose image and text graphs stay; the checkpoint is of a fusion trained on it",
    )
    options = vars(parser.parse_args())
    for name in ("dev", "calibrate", "bank"):
        if options.get(name):
            locations(options[name])  # before the graphs, which take minutes
    towers, text = options.pop("towers"), options.pop("text")
    if towers is not None:
        kept = ("checkpoint", "folder", "version", "dev", "precision")
        manifest = replace_fusion(towers=towers, **{name: options[name] for name in kept})
    elif text == "second":
        manifest = export_second_text(**options)
    elif text == "both":
        manifest = export_both_texts(**options)
    else:
        manifest = export_bundle(**options, tokenizer_file=None)
    print(json.dumps({"match": manifest["match"], "metrics": manifest["metrics"]}, indent=2))


if __name__ == "__main__":
    main()
