"""Writes a folder that infinity-emb serves, with the text graph of a bundle.

    python bench/peers/sentence_graph.py BUNDLE FOLDER

infinity pools the hidden states of a transformer. The text graph pools inside, so its embedding
becomes the hidden state of a single token, which CLS pooling returns unchanged.
"""

import json
import shutil
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

bundle, folder = map(Path, sys.argv[1:])
manifest = json.loads((bundle / "manifest.json").read_text())
text = manifest["text_encoder"]
graph_file = folder / "onnx" / "model.onnx"
graph_file.parent.mkdir(parents=True, exist_ok=True)

model = onnx.load(bundle / text["file"])
graph = model.graph
for node in graph.node:
    for at, name in enumerate(node.input):
        if name == "token_ids":
            node.input[at] = "input_ids"
for declared in graph.input:
    if declared.name == "token_ids":
        declared.name = "input_ids"
graph.initializer.append(helper.make_tensor("second_axis", TensorProto.INT64, [1], [1]))
graph.node.append(
    helper.make_node("Unsqueeze", ["embedding", "second_axis"], ["last_hidden_state"])
)
del graph.output[:]
dim = manifest["embedding"]["dim"]
graph.output.append(
    helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", 1, dim])
)
onnx.checker.check_model(model)
onnx.save(model, graph_file)

shutil.copy(bundle / text["tokenizer"], folder / "tokenizer.json")
(folder / "tokenizer_config.json").write_text(
    json.dumps(
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": text["max_tokens"],
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "unk_token": "[UNK]",
        }
    )
)
(folder / "config.json").write_text(
    json.dumps(
        {
            "model_type": "bert",
            "architectures": ["BertModel"],
            "hidden_size": dim,
            "max_position_embeddings": text["max_tokens"],
        }
    )
)
