"""Files that are replaced as a whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the name `path` when the block ends without an error.

    The content is written beside `path`, flushed to the disk and renamed. After an error, a kill or
    a power cut `path` holds its previous content, whole, or does not exist if it did not before."""
    aside = path.with_suffix(".tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # makes the rename durable
        finally:
            os.close(folder)
    finally:
        aside.unlink(missing_ok=True)
