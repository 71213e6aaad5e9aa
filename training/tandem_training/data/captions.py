"""Caption files, CSV, JSON or COCO annotations, to one table."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

COLUMNS = {  # accepted names of each column
    "file": ("file", "image", "filename", "file_name"),
    "caption": ("caption",),
    "language": ("language",),
}
# Errors of a file that has another structure than expected.
MALFORMED = (
    UnicodeDecodeError,
    json.JSONDecodeError,
    csv.Error,
    KeyError,
    TypeError,
    AttributeError,
)

Captions = dict[str, dict[str, list[str]]]  # image file → language → captions


def read_captions(path: Path, language: str) -> Captions:
    """Every image file with its captions. Captions that state no language are in `language`.

    Raises:
        ValueError: names the file and the place in it.
    """
    table: Captions = {}
    try:
        rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
        for file, captions in rows:
            of_language = captions if isinstance(captions, dict) else {language: captions}
            for name, texts in of_language.items():
                if isinstance(captions, dict) and not isinstance(texts, str | list):
                    raise ValueError(
                        f"{path}: captions of {file}: {captions!r}; "
                        "expected texts or lists of texts"
                    )
                texts = [texts] if isinstance(texts, str) else texts
                table.setdefault(file, {}).setdefault(name or language, []).extend(texts)
    except MALFORMED as error:
        raise ValueError(f"{path}: not a known form of a caption file: {error!r}") from error
    if not table:
        raise ValueError(f"{path}: no captions in it")
    return table


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        headings = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
        column = {
            want: next((headings[name] for name in names if name in headings), None)
            for want, names in COLUMNS.items()
        }
        if column["file"] is None or column["caption"] is None:
            raise ValueError(
                f"{path}: columns {', '.join(headings)}; "
                "expected file, caption and perhaps language"
            )
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if None in row:
                raise ValueError(f"{place}: more fields than columns; quote commas")
            name, caption = row[column["file"]], row[column["caption"]]
            if not name or caption is None:
                raise ValueError(f"{place}: expected a file and a caption")
            yield name, {row.get(column["language"]) or "": caption}


def _json_rows(path: Path) -> Iterator[tuple[str, str | list | dict]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict) and {"images", "annotations"} <= set(content):  # COCO
        file_of = {image["id"]: image["file_name"] for image in content["images"]}
        yield from ((file_of[note["image_id"]], note["caption"]) for note in content["annotations"])
    elif isinstance(content, dict):
        yield from content.items()
    else:
        for row in content:
            yield row["file"], row["captions"] if "captions" in row else row["caption"]
