"""For each pre-tokenizer: a tokenizer of whole pieces of the texts, and the ids of the texts."""

import json
import sys

from tokenizers import Tokenizer, models

given = json.load(sys.stdin)
found = []
for config in given["preTokenizers"]:
    file = json.loads(Tokenizer(models.WordLevel({"?": 0}, "?")).to_str())
    file["pre_tokenizer"] = config
    splitter = Tokenizer.from_str(json.dumps(file)).pre_tokenizer
    pieces = {piece for text in given["texts"] for piece, _ in splitter.pre_tokenize_str(text)}
    file["model"]["vocab"] = {piece: at for at, piece in enumerate(["?", *sorted(pieces - {"?"})])}
    tokenizer = Tokenizer.from_str(json.dumps(file))
    ids = [tokenizer.encode(text).ids for text in given["texts"]]
    found.append({"file": tokenizer.to_str(), "ids": ids})
print(json.dumps(found))
