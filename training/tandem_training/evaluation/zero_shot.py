"""Zero-shot classification (Radford et al. 2021, arXiv:2103.00020): an image gets the class whose
sentences are nearest to it."""

from pathlib import Path

import numpy as np

from ..data.captions import read_rows
from ..data.decoder import check_image
from ..data.samples import Corrupt
from .retrieval import BATCH, Encoders

TEMPLATES = [
    "a photo of a {}.", "a photo of the {}.", "a picture of a {}.", "a close-up photo of a {}.",
    "a bright photo of a {}.", "a photo of a small {}.", "a photo of a large {}.",
]  # fmt: skip
ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}


def labelled_files(folder: Path, labels: Path | None) -> list[tuple[Path, str]]:
    """Every image with its class, from the CSV file `labels` or from the name of its folder.

    Raises:
        ValueError: there are no images, or a row of `labels` names none.
    """
    if labels is None:
        found = [
            (path, path.relative_to(folder).parts[0])
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in ENDINGS and len(path.relative_to(folder).parts) > 1
        ]
        if not found:
            endings = ", ".join(sorted(ENDINGS))
            raise ValueError(f"{folder} holds no images in folders of their class ({endings})")
        return found
    rows = read_rows(labels)
    _, header = next(rows, (1, []))
    if not {"file", "label"} <= set(header):
        raise ValueError(f"{labels}: expected the columns file and label, and at least one row")
    labelled = []
    for line, cells in rows:
        row = dict(zip(header, cells, strict=False))
        file, label = row.get("file"), row.get("label")
        if not file or not label or not (folder / file).is_file():
            raise ValueError(
                f"{labels}, line {line}: file {file!r}, label {label!r}; "
                "expected an image and its class"
            )
        labelled.append((folder / file, label))
    if not labelled:
        raise ValueError(f"{labels}: expected the columns file and label, and at least one row")
    return labelled


def read_templates(path: Path | None) -> list[str]:
    """The sentences of a file, one a line, or TEMPLATES. ValueError for a line without `{}`."""
    if path is None:
        return TEMPLATES
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    templates = [line.strip() for line in lines if line.strip()]
    if not templates or not all("{}" in line for line in templates):
        raise ValueError(f"{path}: expected a sentence with {{}} on every line")
    return templates


def class_embeddings(encoders: Encoders, classes: list[str], templates: list[str]) -> np.ndarray:
    """The unit mean of the embeddings of each class's sentences: float32 [classes, dim].

    Underscores of a class name are read as spaces."""
    rows = []
    for name in classes:
        sentences = [template.format(name.replace("_", " ")) for template in templates]
        mean = encoders.texts(sentences)[0].mean(0)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


def classify(
    encoders: Encoders,
    files: list[tuple[Path, str]],
    templates: list[str],
    max_corrupt: float = 0.01,
) -> dict:
    """Share of images, in per cent, whose class is the nearest (top1) or among the five nearest
    (top5), overall and by class, with the class that each is most often taken for.

    Raises:
        ValueError: more than a share `max_corrupt` of the images cannot be decoded.
    """
    classes = sorted({label for _, label in files})
    corrupt, decodable = Corrupt(max_corrupt), []
    for path, label in files:
        try:
            check_image(path.read_bytes())
        except ValueError as error:
            corrupt.add(str(path.parent), path.name, str(error))
        else:
            decodable.append((path, classes.index(label)))
    corrupt.check(len(files))
    if not decodable:
        raise ValueError("no image could be decoded")
    texts = class_embeddings(encoders, classes, templates)
    order = []
    for i in range(0, len(decodable), BATCH):
        batch = decodable[i : i + BATCH]
        embedding, _ = encoders.files([path.read_bytes() for path, _ in batch])
        order.append(np.argsort(-(embedding @ texts.T), axis=1, kind="stable"))
    order, truth = np.concatenate(order), np.array([label for _, label in decodable])
    right, among = order[:, 0] == truth, (order[:, :5] == truth[:, None]).any(1)
    report: dict = {
        "images": len(decodable),
        "top1": _per_cent(right),
        "top5": _per_cent(among),
        "classes": {},
    }
    for i, name in enumerate(classes):
        own = truth == i
        if not own.any():
            continue
        wrong = order[own & ~right, 0]
        report["classes"][name] = {
            "images": int(own.sum()),
            "top1": _per_cent(right[own]),
            "taken_for": classes[np.bincount(wrong).argmax()] if len(wrong) else None,
        }
    return report


def _per_cent(found: np.ndarray) -> float:
    return round(100 * float(found.mean()), 2)
