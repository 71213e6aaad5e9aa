"""Captions as people keep them, CSV, JSON or COCO annotations, to one table: photo's file →
language → texts."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

COLUMNS = {
    "file": ("file", "image", "filename", "file_name"),
    "caption": ("caption",),
    "language": ("language",),
}

Captions = dict[str, dict[str, list[str]]]  # photo's file → language → texts


def read_captions(path: Path, language: str) -> Captions:
    """Every photo with its captions; those of unstated language are in `language`. ValueError names
    file and place."""
    found: Captions = {}
    try:
        rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
        for file, captions in rows:
            if isinstance(captions, dict) and not all(
                isinstance(texts, str | list) for texts in captions.values()
            ):
                raise ValueError(
                    f"{path}: captions of {file}: {captions!r}; expected texts or lists of texts"
                )
            of_language = captions if isinstance(captions, dict) else {language: captions}
            for name, texts in of_language.items():
                texts = [texts] if isinstance(texts, str) else texts
                found.setdefault(file, {}).setdefault(name or language, []).extend(texts)
    except (
        UnicodeDecodeError,
        json.JSONDecodeError,
        csv.Error,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise ValueError(f"{path}: not a caption file that is known here: {error!r}") from error
    if not found:
        raise ValueError(f"{path}: no captions in it")
    return found


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        given = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
        column = {
            want: next((given[n] for n in names if n in given), None)
            for want, names in COLUMNS.items()
        }
        if column["file"] is None or column["caption"] is None:
            raise ValueError(
                f"{path}: columns {', '.join(given)}; expected file, caption and perhaps language"
            )
        for row in reader:
            if None in row:
                raise ValueError(
                    f"{path}, line {reader.line_num}: more fields than columns; quote commas"
                )
            name, caption = row[column["file"]], row[column["caption"]]
            if not name or caption is None:
                raise ValueError(f"{path}, line {reader.line_num}: expected a file and a caption")
            yield name, {row.get(column["language"]) or "": caption}


def _json_rows(path: Path) -> Iterator[tuple[str, str | list | dict]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict) and {"images", "annotations"} <= set(content):  # COCO
        file_of = {image["id"]: image["file_name"] for image in content["images"]}
        yield from ((file_of[note["image_id"]], note["caption"]) for note in content["annotations"])
    elif isinstance(content, dict):
        yield from content.items()
    else:
        yield from (
            (row["file"], row["captions"] if "captions" in row else row["caption"])
            for row in content
        )
