"""Filter the captions of shards by a trained model, and add captions that it writes.

python -m tandem_training.capfilt runs/blip '../../shared/data/flickr8k-train-*.tar' shards/blip

Of each image the captions stay that the model's matching finds to fit, and one that the model
writes joins them if it fits (CapFilt, the bootstrapping of BLIP). An image without any is left out.
Captions of other languages than --language are left out too."""

from pathlib import Path

from .command import argument_parser, errors_as_sentences
from .data.samples import read_shards
from .data.shard_writer import Shards
from .loop.captioner import Captioner
from .loop.checkpoint import load


@errors_as_sentences("capfilt")
def main() -> None:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, help="folder of a run with objectives lm and itm, or its model.pt")
    add("shards", help="glob of WebDataset shards")
    add("out", help="beginning of the paths of the new shards")
    add("--language", default="en", help="of the captions that the model reads and writes")
    add("--size", type=int, default=1000, help="images a shard")
    add("--seed", type=int, default=0, help="of the words that are drawn")
    args = parser.parse_args()
    samples = read_shards(args.shards, {args.language: 1.0})
    captioner, out = Captioner(load(args.run)), Shards(args.out, args.size)
    given = kept = written = images = 0
    with out:
        for sample, (fit, own) in zip(samples, captioner.filtered(samples, args.seed), strict=True):
            captions = [*fit, own] if own else fit
            given, kept = given + len(sample.captions), kept + len(fit)
            written += bool(own)
            if captions:
                origin = {"source": sample.source, "license": sample.license}
                out.add((sample.key, sample.jpeg, {"captions": {args.language: captions}} | origin))
                images += 1
    if not images:
        raise ValueError(f"none of {given} captions fits its image, nor one that the model writes")
    print(f"{kept} of {given} captions fit, {written} of {len(samples)} written ones; "
          f"{images} images in {args.out}-*.tar")  # fmt: skip


if __name__ == "__main__":
    main()
