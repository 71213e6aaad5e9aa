"""Recipe files: TOML that may extend another file, and so shows only what differs from it."""

import tomllib
from pathlib import Path

PARTS = ("vision", "text", "fusion")


def read_tables(path: Path) -> dict:
    """The tables of a recipe over those of the file that its first key `extends` names.

    `extends = "family.toml"` is read relative to the recipe, and may extend a file itself. Tables
    are merged key by key. A part of another `kind` takes nothing of the family's, whose keys belong
    to the other part. ValueError for a file that is missing or extends itself."""
    return _read(path, ())


def _read(path: Path, readers: tuple[Path, ...]) -> dict:
    if path.resolve() in readers:
        raise ValueError(f"extends = {path.name!r}: a file cannot extend itself")
    tables = tomllib.loads(path.read_text())
    base = tables.pop("extends", None)
    if base is None:
        return tables
    if not isinstance(base, str):
        raise ValueError(f"extends = {base!r}; expected the name of a file")
    base_path = path.parent / base
    if not base_path.is_file():
        raise ValueError(f"extends = {base!r}, but there is no file {base_path}")
    return merged(_read(base_path, (*readers, path.resolve())), tables)


def merged(base: dict, own: dict) -> dict:
    """`own` over `base`. A part's table of another kind stands alone."""
    tables = dict(base)
    for name, table in own.items():
        below = tables.get(name)
        other = name in PARTS and isinstance(table, dict) and "kind" in table
        if other and isinstance(below, dict) and table["kind"] != below.get("kind"):
            tables[name] = table
        elif isinstance(table, dict) and isinstance(below, dict):
            tables[name] = merged(below, table)
        else:
            tables[name] = table
    return tables
