r"""Zero-shot classification (Radford et al. 2021, arXiv:2103.00020): the class whose sentences a
photo is nearest to.

python -m tandem_training.evaluation.zero_shot ../models/tandem-small photos            # a folder
with a folder for each class python -m tandem_training.evaluation.zero_shot ../models/tandem-small
photos --labels labels.csv     # columns file and label"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from ..data.samples import Corrupt, check_photo, decode
from ..evaluate import Encoders

TEMPLATES = [
    "a photo of a {}.", "a photo of the {}.", "a picture of a {}.", "a close-up photo of a {}.",
    "a bright photo of a {}.", "a photo of a small {}.", "a photo of a large {}.",
]  # fmt: skip
ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}


def labelled_files(folder: Path, labels: Path | None) -> list[tuple[Path, str]]:
    """Every photo with its class, from `labels` or the folder that it lies in. ValueError where
    there are none."""
    if labels is None:
        found = [
            (path, path.relative_to(folder).parts[0])
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in ENDINGS and len(path.relative_to(folder).parts) > 1
        ]
        if not found:
            raise ValueError(
                f"{folder} holds no photos in folders of their class ({', '.join(sorted(ENDINGS))})"
            )
        return found
    with labels.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise ValueError(f"{labels}: expected the columns file and label, and at least one row")
    for line, row in enumerate(rows, 2):
        if not row["file"] or not row["label"] or not (folder / row["file"]).is_file():
            raise ValueError(
                f"{labels}, line {line}: file {row['file']!r}, label {row['label']!r}; no such photo"
            )
    return [(folder / row["file"], row["label"]) for row in rows]


def class_embeddings(encoders: Encoders, classes: list[str], templates: list[str]) -> np.ndarray:
    """The mean of a class's sentences, of unit length: float32 [classes, dim]. Underscores of a
    name read as spaces."""
    rows = []
    for name in classes:
        sentences = [template.format(name.replace("_", " ")) for template in templates]
        mean = encoders.texts(sentences)[0].mean(0)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


def classify(encoders: Encoders, files: list[tuple[Path, str]], templates: list[str], max_corrupt: float = 0.01,
             batch: int = 32) -> dict:  # fmt: skip
    """Share of photos in per cent whose class is the nearest (top1), or among the five nearest
    (top5); of each class, too, and which other it is taken for most. Photos that cannot be decoded
    are skipped up to a share `max_corrupt`."""
    classes = sorted({label for _, label in files})
    corrupt, kept = Corrupt(max_corrupt), []
    for path, label in files:
        try:
            check_photo(path.read_bytes())
        except ValueError as error:
            corrupt.add(str(path.parent), path.name, str(error))
        else:
            kept.append((path, classes.index(label)))
    corrupt.check(len(files))
    if not kept:
        raise ValueError("no photo could be decoded")
    texts = class_embeddings(encoders, classes, templates)
    order = []
    for i in range(0, len(kept), batch):
        pixels = np.stack(
            [decode(path.read_bytes(), encoders.image_size) for path, _ in kept[i : i + batch]]
        )
        order.append(np.argsort(-(encoders.images(pixels)[0] @ texts.T), axis=1, kind="stable"))
    order, truth = np.concatenate(order), np.array([label for _, label in kept])
    right, among = order[:, 0] == truth, (order[:, :5] == truth[:, None]).any(1)
    report: dict = {
        "photos": len(kept),
        "top1": _per_cent(right),
        "top5": _per_cent(among),
        "classes": {},
    }
    for i, name in enumerate(classes):
        own = truth == i
        if not own.any():
            continue
        wrong = order[own & ~right, 0]
        taken = classes[np.bincount(wrong, minlength=len(classes)).argmax()] if len(wrong) else None
        report["classes"][name] = {
            "photos": int(own.sum()),
            "top1": _per_cent(right[own]),
            "taken_for": taken,
        }
    return report


def _per_cent(found: np.ndarray) -> float:
    return round(100 * float(found.mean()), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of an exported bundle")
    parser.add_argument("folder", type=Path, help="photos")
    parser.add_argument(
        "--labels", type=Path, help="CSV with the columns file (below the folder) and label"
    )
    parser.add_argument("--templates", type=Path, help="a sentence a line, {} stands for the class")
    args = parser.parse_args()
    from ..bundle.bundle import BundleEncoders

    templates = TEMPLATES
    if args.templates is not None:
        templates = [
            line.strip()
            for line in args.templates.read_text(encoding="utf-8").splitlines()
            if line.strip()
        ]
        if not templates or not all("{}" in line for line in templates):
            raise ValueError(f"{args.templates}: expected a sentence with {{}} on every line")
    files = labelled_files(args.folder, args.labels)
    print(json.dumps(classify(BundleEncoders(args.bundle), files, templates), indent=2))


if __name__ == "__main__":
    main()
