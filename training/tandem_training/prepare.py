"""Make WebDataset shards from a folder of photos and a file of captions, and check them.

python -m tandem_training.prepare photos captions.csv shards/train    → shards/train-0000.tar, …

Captions come as CSV with the columns `file`, `caption` and, if wanted, `language`; as JSON,
{"a.jpg": captions} or [{"file": "a.jpg", "captions": captions}], where captions is a text, a list
of texts, or {"en": [texts], "zh": …}; or as COCO's annotations."""

import argparse
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from .data.captions import Captions, read_captions
from .data.samples import Corrupt, read_shards

ORIENTATION = 0x0112  # EXIF


def as_jpeg(path: Path) -> bytes:
    """The file itself where it is an upright RGB or grey JPEG, else converted to one. ValueError if
    undecodable."""
    try:
        with Image.open(path) as image:
            image.load()
            if (
                image.format == "JPEG"
                and image.mode in ("RGB", "L")
                and image.getexif().get(ORIENTATION, 1) == 1
            ):
                return path.read_bytes()
            out = io.BytesIO()
            ImageOps.exif_transpose(image).convert("RGB").save(out, "JPEG", quality=95)
            return out.getvalue()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"it cannot be decoded: {error}") from error


def usable(
    folder: Path, captions: Captions, corrupt: Corrupt, source: str
) -> Iterator[tuple[str, bytes, dict]]:
    """Key, JPEG and captions of every photo that can be used; the others are counted."""
    root, keys = folder.resolve(), set()
    for file, of_language in captions.items():
        path = (root / file).resolve()
        key = str(Path(file).with_suffix("")).replace(".", "_").replace("/", "_")
        try:
            if not path.is_relative_to(root):
                raise ValueError(f"it lies outside {folder}")
            if not path.is_file():
                raise ValueError(f"no such file in {folder}")
            if not all(
                isinstance(text, str) and text.strip()
                for texts in of_language.values()
                for text in texts
            ):
                raise ValueError("one of its captions is empty or no text")
            if key in keys:
                raise ValueError(f"another photo has the same key, {key}")
            keys.add(key)
            jpeg = as_jpeg(path)
        except ValueError as error:
            corrupt.add(source, file, str(error))
        else:
            yield (
                key,
                jpeg,
                {name: [text.strip() for text in texts] for name, texts in of_language.items()},
            )


def write_shard(path: Path, samples: list[tuple[str, bytes, dict]]) -> None:
    """Written aside, then renamed: no half shard under its name. FileExistsError rather than
    replace one."""
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another name for the shards or remove it")
    aside = path.with_suffix(".tmp")
    try:
        with aside.open("wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            for key, jpeg, captions in samples:
                about = json.dumps({"captions": captions}, ensure_ascii=False).encode()
                for kind, content in (("jpg", jpeg), ("json", about)):
                    member = tarfile.TarInfo(f"{key}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)


def prepare(
    folder: Path,
    captions: Path,
    out: str,
    size: int = 1000,
    language: str = "en",
    max_corrupt: float = 0.0,
) -> dict[str, int]:
    """Shards `<out>-0000.tar` … of `size` photos each; → what they hold, read back. After an error
    none is left."""
    table, corrupt = read_captions(captions, language), Corrupt(max_corrupt)
    shards: list[Path] = []
    waiting: list[tuple[str, bytes, dict]] = []
    Path(out).parent.mkdir(parents=True, exist_ok=True)

    def flush() -> None:
        path = Path(f"{out}-{len(shards):04d}.tar")
        write_shard(path, waiting)
        shards.append(path)
        waiting.clear()

    try:
        for sample in usable(folder, table, corrupt, str(captions)):
            waiting.append(sample)
            if len(waiting) == size:
                flush()
        corrupt.check(len(table))
        if waiting:
            flush()
        languages = {name: 1.0 for of_language in table.values() for name in of_language}
        held = [
            [len(s.captions) for s in read_shards(str(shard), languages, 0.0)] for shard in shards
        ]
    except BaseException:
        for path in shards:
            path.unlink()
        raise
    return {"shards": len(shards), "photos": sum(map(len, held)), "captions": sum(map(sum, held))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the photos")
    parser.add_argument("captions", type=Path, help="CSV, JSON or COCO annotations")
    parser.add_argument(
        "out",
        help="path and beginning of the shards' names: shards/train makes shards/train-0000.tar",
    )
    parser.add_argument("--size", type=int, default=1000, help="photos a shard")
    parser.add_argument(
        "--language", default="en", help="language of captions that do not state theirs"
    )
    parser.add_argument(
        "--max-corrupt", type=float, default=0.0, help="share of photos that may be skipped"
    )
    args = parser.parse_args()
    try:
        held = prepare(
            args.folder, args.captions, args.out, args.size, args.language, args.max_corrupt
        )
    except (OSError, ValueError) as error:
        raise SystemExit(f"prepare: {error}") from error
    print(", ".join(f"{count} {name}" for name, count in held.items()), f"in {args.out}-*.tar")


if __name__ == "__main__":
    main()
