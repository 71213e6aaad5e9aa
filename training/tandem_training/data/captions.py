"""Caption files, CSV, JSON or COCO annotations, to one table."""

import codecs
import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

COLUMNS = {  # accepted names of each column
    "file": ("file", "image", "filename", "file_name"),
    "caption": ("caption",),
    "language": ("language",),
}
# Byte order marks, as Excel and Notepad write them. A mark of UTF-32 begins with one of UTF-16.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Errors of a file that has another structure than expected.
MALFORMED = (
    json.JSONDecodeError,
    KeyError,
    TypeError,
    AttributeError,
)

Captions = dict[str, dict[str, list[str]]]  # image file → language → captions


def read_captions(path: Path, language: str) -> Captions:
    """Every image file with its captions. Captions that state no language are in `language`.

    A caption of a COCO file whose image is not in the file is skipped, with a line on stdout.

    Raises:
        ValueError: names the file and the place in it.
    """
    table: Captions = {}
    try:
        rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
        for file, captions in rows:
            if not isinstance(file, str):
                raise ValueError(f"{path}: file {file!r}; expected the name of an image file")
            of_language = captions if isinstance(captions, dict) else {language: captions}
            for name, texts in of_language.items():
                if not isinstance(texts, str | list):
                    raise ValueError(
                        f"{path}: captions of {file}: {captions!r}; "
                        "expected texts or lists of texts"
                    )
                texts = [texts] if isinstance(texts, str) else texts
                table.setdefault(file, {}).setdefault(name or language, []).extend(texts)
    except MALFORMED as error:
        raise ValueError(
            f"{path}: not a known form of a caption file: {type(error).__name__} {error}"
        ) from error
    if not table:
        raise ValueError(f"{path}: no captions in it")
    return table


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line where each row of a CSV file begins, and its cells; blank rows are left out.

    Raises:
        ValueError: a quote is not closed, or the text has another encoding; the error names the
            line.
    """
    with path.open(newline="", encoding=_encoding(path)) as file:
        reader = csv.reader(file, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}{_place_of_other_text(path)}") from error
            except csv.Error as error:
                raise ValueError(
                    f"{path}, line {line}: {error}; is a quote of this row not closed, or a quote "
                    "in a text not doubled?"
                ) from error
            if cells:
                yield line, cells


def _encoding(path: Path) -> str:
    """By the byte order mark; without one, UTF-8."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for mark, name in MARKS if start.startswith(mark)), "utf-8-sig")


def _place_of_other_text(path: Path) -> str:
    """The first line that is not UTF-8, for an error."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return (
                    f", line {number}: the byte 0x{byte:02X}; expected text in UTF-8, or in UTF-16 "
                    "with a byte order mark"
                )
    return ": not the text that its byte order mark says"


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    rows = read_rows(path)
    _, header = next(rows, (1, []))
    headings = {name.strip().lower(): column for column, name in reversed([*enumerate(header)])}
    column = {
        want: next((headings[name] for name in names if name in headings), None)
        for want, names in COLUMNS.items()
    }
    if column["file"] is None or column["caption"] is None:
        raise ValueError(
            f"{path}: columns {', '.join(header)}; expected file, caption and perhaps language"
        )
    for line, cells in rows:
        if len(cells) > len(header):
            raise ValueError(f"{path}, line {line}: more fields than columns; quote commas")
        name, caption, language = (
            cells[at] if at is not None and at < len(cells) else "" for at in column.values()
        )
        if not name or column["caption"] >= len(cells):
            raise ValueError(f"{path}, line {line}: expected a file and a caption")
        yield name, {language: caption}


def _json_rows(path: Path) -> Iterator[tuple[str, str | list | dict]]:
    try:
        content = json.loads(path.read_text(encoding=_encoding(path)), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}{_place_of_other_text(path)}") from error
    except ValueError as error:
        raise ValueError(f"{path}: no JSON that can be read: {error}") from error
    if isinstance(content, dict) and {"images", "annotations"} <= set(content):
        yield from _coco_rows(path, content)
    elif isinstance(content, dict):
        yield from content.items()
    else:
        for number, row in enumerate(content, 1):
            captions = row.get("captions", row.get("caption")) if isinstance(row, dict) else None
            if captions is None or not isinstance(row.get("file"), str):
                raise ValueError(
                    f"{path}, entry {number}: {str(row)[:200]}; "
                    'expected {"file": "a.jpg", "captions": ["…"]}'
                )
            yield row["file"], captions


def _coco_rows(path: Path, content: dict) -> Iterator[tuple[str, str]]:
    file_of, skipped = {}, []
    for image in content["images"]:
        if file_of.setdefault(image["id"], image["file_name"]) != image["file_name"]:
            raise ValueError(f"{path}: two images have the id {image['id']!r}")
    for note in content["annotations"]:
        if (image := note["image_id"]) in file_of:
            yield file_of[image], note["caption"]
        else:
            skipped.append(image)
    if skipped:
        print(
            f"{path}: {len(skipped)} captions are skipped, since the file has no image with their "
            f"id; first image id {skipped[0]!r}"
        )


def _unique(pairs: list[tuple[str, object]]) -> dict:
    table = dict(pairs)
    if len(table) < len(pairs):
        name, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {name!r} occurs twice in one JSON object")
    return table
