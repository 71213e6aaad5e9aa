"""What the commands have in common."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_as_sentences(command: str) -> Iterator[None]:
    """End with the sentence of an error in files, options or data, and without a traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise SystemExit(f"{command}: {error}") from error
