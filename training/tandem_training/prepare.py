"""Make WebDataset shards from a folder of images and a file of captions, and check them.

python -m tandem_training.prepare photos captions.csv shards/train    → shards/train-0000.tar, …

Captions come as CSV with the columns `file`, `caption` and, optionally, `language`; as JSON,
{"a.jpg": captions} or [{"file": "a.jpg", "captions": captions}], where captions is a text, a list
of texts, or {"en": [texts], "zh": …}; or as COCO's annotations."""

from pathlib import Path

from .command import argument_parser, errors_as_sentences
from .data.shard_writer import write_shards


@errors_as_sentences("prepare")
def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("folder", type=Path, help="folder of the images")
    add("captions", type=Path, help="CSV, JSON or COCO annotations")
    add("out", help="beginning of the shards' paths: shards/train makes shards/train-0000.tar")
    add("--size", type=int, default=1000, help="images a shard")
    add("--language", default="en", help="language of captions that do not state theirs")
    add("--max-corrupt", type=float, default=0.0, help="share of images that may be skipped")
    add("--dev", default="", help="beginning of the paths of shards with a tenth of the images")
    args = parser.parse_args()
    for out, counts in write_shards(**vars(args)).items():
        print(", ".join(f"{count} {name}" for name, count in counts.items()), f"in {out}-*.tar")


if __name__ == "__main__":
    main()
