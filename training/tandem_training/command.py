"""What the commands have in common."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager


def argument_parser(description: str) -> ArgumentParser:
    """A parser whose help shows the description with its line breaks, for examples of commands."""
    return ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)


@contextmanager
def errors_as_sentences(command: str) -> Iterator[None]:
    """End with the sentence of an error in files, options or data, and without a traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise SystemExit(f"{command}: {error}") from error
