"""Makes the OpenAPI document usable for schemathesis, which cannot build values for patterns with
properties of characters."""

import schemathesis

# Stricter than the patterns of the service: each generated value is a valid id and a visible text.
BUILDABLE = r"^[A-Za-z0-9_~-]{1,40}$"


def _replace(node):
    if isinstance(node, dict):
        if "\\p{" in str(node.get("pattern", "")):
            node["pattern"] = BUILDABLE
        for value in node.values():
            _replace(value)
    elif isinstance(node, list):
        for value in node:
            _replace(value)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    _replace(raw_schema)
