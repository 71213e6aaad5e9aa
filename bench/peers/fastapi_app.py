"""Image-text retrieval as a team would write it: FastAPI, ONNX Runtime, hnswlib, Pillow.

The endpoints are asynchronous; blocking work runs in a thread pool. Only the measured part of
Tandem's API exists. Settings come from the environment:

BUNDLE       folder of the graphs and the tokenizer
THREADS      of ONNX Runtime in one run
AT_ONCE      concurrent runs: threads of the pool
INDEX, ITEMS a graph of hnswlib and a JSON list of its items; optional
EF           beam width of a search
"""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import hnswlib
import numpy as np
import onnxruntime as ort
import orjson
from fastapi import FastAPI, File, Query, Response
from PIL import Image
from pydantic import BaseModel
from tokenizers import Tokenizer

bundle = Path(os.environ["BUNDLE"])
manifest = json.loads((bundle / "manifest.json").read_text())
dim: int = manifest["embedding"]["dim"]
side: int = manifest["image_encoder"]["size"]


def session(graph: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ["THREADS"])
    options.inter_op_num_threads = 1
    return ort.InferenceSession(
        bundle / manifest[graph]["file"], options, providers=["CPUExecutionProvider"]
    )


text_session = session("text_encoder")
image_session = session("image_encoder")
tokenizer = Tokenizer.from_file(str(bundle / manifest["text_encoder"]["tokenizer"]))
tokenizer.enable_truncation(manifest["text_encoder"]["max_tokens"])
tokenizer.enable_padding()

items: list[dict[str, Any]] = []
index = hnswlib.Index(space="ip", dim=dim)
if "INDEX" in os.environ:
    items = json.loads(Path(os.environ["ITEMS"]).read_text())
    index.load_index(os.environ["INDEX"])
    index.set_ef(int(os.environ["EF"]))

pool = ThreadPoolExecutor(int(os.environ["AT_ONCE"]))
app = FastAPI()


class TextInput(BaseModel):
    text: str


class EmbedBody(BaseModel):
    inputs: list[TextInput]


def embed_texts(texts: list[str]) -> np.ndarray:
    """Embeddings of q texts: float32 [q, dim]."""
    encodings = tokenizer.encode_batch(texts)
    feeds = {
        "token_ids": np.array([encoding.ids for encoding in encodings], np.int64),
        "attention_mask": np.array([encoding.attention_mask for encoding in encodings], np.int64),
    }
    return text_session.run(["embedding"], feeds)[0]


def embed_images(files: list[bytes]) -> np.ndarray:
    """Embeddings of m JPEG files: float32 [m, dim]."""
    pixels = np.stack(
        [
            np.asarray(
                Image.open(BytesIO(file))
                .convert("RGB")
                .resize((side, side), Image.Resampling.BICUBIC)
            )
            for file in files
        ]
    )
    return image_session.run(["embedding"], {"pixels": pixels})[0]


def search_text(text: str, k: int) -> list[dict[str, Any]]:
    """The k nearest items, best first."""
    labels, distances = index.knn_query(embed_texts([text]), k, num_threads=1)
    return [
        {**items[label], "similarity": 1 - distance}
        for label, distance in zip(labels[0].tolist(), distances[0].tolist(), strict=True)
    ]


async def in_pool(work: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)


def reply(content: Any) -> Response:
    return Response(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY),
        media_type="application/json",
    )


def embeddings(rows: np.ndarray) -> Response:
    return reply({"embeddings": [{"index": at, "embedding": row} for at, row in enumerate(rows)]})


@app.get("/health")
async def health() -> Response:
    return reply({"status": "ok"})


@app.post("/embed")
async def embed(body: EmbedBody) -> Response:
    return embeddings(await in_pool(embed_texts, [entry.text for entry in body.inputs]))


@app.post("/embed-image")
async def embed_image(image: Annotated[bytes, File()]) -> Response:
    return embeddings(await in_pool(embed_images, [image]))


@app.get("/search")
async def search(q: Annotated[str, Query(max_length=10_000)], k: int = 10) -> Response:
    return reply({"hits": await in_pool(search_text, q, k)})
