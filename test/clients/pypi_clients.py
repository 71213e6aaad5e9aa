"""Runs the clients from PyPI against a service, and prints what each returned as JSON.

Standard input: {base, model, texts, images, query, keys: {client: key}}.
"""

import json
import os
import sys
import time

# Otherwise LiteLLM asks the internet for prices when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import cohere
import httpx
import litellm
import openai
from infinity_client import Client
from infinity_client.api.default import embeddings as infinity_embeddings
from infinity_client.api.default import models as infinity_models
from infinity_client.api.default import rerank as infinity_rerank
from infinity_client.models import OpenAIEmbeddingInputText, RerankInput
from langchain_cohere import CohereEmbeddings, CohereRerank
from langchain_openai import OpenAIEmbeddings

task = json.load(sys.stdin)
base, model, texts, images, query, keys = (
    task[name] for name in ("base", "model", "texts", "images", "query", "keys")
)
WRONG_KEY = "not-a-key-of-this-service"
litellm.suppress_debug_info = True
litellm.telemetry = False


def failure(call):
    """What a call raises, as a user of the client sees it."""
    start = time.monotonic()
    try:
        call()
        return {"error": None, "ms": (time.monotonic() - start) * 1000}
    except Exception as error:
        status = getattr(error, "status_code", None)
        return {"error": str(error), "status": status, "name": type(error).__name__}


def exhaust(key):
    """Uses up the rate of a key, so that the next request is refused with 429 and Retry-After.

    The limit is one request in three seconds, of which then more than two are left.
    """
    with httpx.Client(headers={"authorization": f"Bearer {key}"}) as client:
        for _ in range(200):
            response = client.get(f"{base}/v1/models")
            if int(response.headers.get("retry-after", 0)) >= 3:
                return
            if response.status_code == 429:
                time.sleep(0.05)
    raise RuntimeError("the key has no limit")


def refused(key, call):
    exhaust(key)
    return failure(call)


def run_openai(key):
    def client(api_key=key, retries=0):
        return openai.OpenAI(api_key=api_key, base_url=f"{base}/v1", max_retries=retries)

    def embed(given, **options):
        return client(**options).embeddings.create(model=model, input=given)

    marked = client().embeddings.create(model=model, input=images, extra_body={"modality": "image"})
    return {
        "vectors": [entry.embedding for entry in embed(texts).data + marked.data],
        "models": [entry.id for entry in client().models.list()],
        "wrongInput": failure(lambda: embed([*texts, " "])),
        "tokens": failure(lambda: embed([[64, 5679]])),
        "wrongKey": failure(lambda: embed("a", api_key=WRONG_KEY)),
        "refused": refused(key, lambda: embed("a")),
        "tried": refused(key, lambda: embed("a", retries=2)),
    }


def run_cohere(key):
    def client(api_key=key):
        return cohere.ClientV2(api_key=api_key, base_url=base)

    once = {"max_retries": 0}

    def rerank(documents, api_key=key, options=once):
        return client(api_key).rerank(
            model=model, query=query, documents=documents, request_options=options
        )

    first = cohere.Client(api_key=key, base_url=base)
    ranked = rerank(images).results
    objects = first.rerank(
        model=model,
        query=query,
        documents=[{"text": text} for text in texts],
        return_documents=True,
    )
    kinds = {"model": model, "embedding_types": ["float"]}
    by_text = client().embed(input_type="search_query", texts=texts, **kinds)
    by_image = client().embed(input_type="image", images=images, **kinds)
    many = first.embed(model=model, input_type="search_document", texts=texts * 50)
    return {
        "order": [result.index for result in ranked],
        "scores": [result.relevance_score for result in ranked],
        "documents": sorted(result.document.text for result in objects.results),
        "vectors": by_text.embeddings.float_ + by_image.embeddings.float_,
        "many": [len(many.embeddings), many.embeddings[-1]],
        "wrongInput": failure(lambda: rerank(["a", " "])),
        "wrongKey": failure(lambda: rerank(["a"], api_key=WRONG_KEY)),
        "refused": refused(key, lambda: rerank(["a"])),
        "tried": refused(key, lambda: rerank(["a"], options={"max_retries": 2})),
    }


def run_langchain_openai(key):
    def embeddings(api_key=key):
        return OpenAIEmbeddings(
            model=model,
            base_url=f"{base}/v1",
            api_key=api_key,
            max_retries=0,
            check_embedding_ctx_length=False,
        )

    return {
        "vectors": [embeddings().embed_query(texts[0]), *embeddings().embed_documents(texts)],
        "wrongInput": failure(lambda: embeddings().embed_query(" ")),
        "wrongKey": failure(lambda: embeddings(WRONG_KEY).embed_query("a")),
        "refused": refused(key, lambda: embeddings().embed_query("a")),
    }


def run_langchain_cohere(key):
    def rerank(documents, api_key=key):
        ranker = CohereRerank(model=model, cohere_api_key=api_key, base_url=base)
        return ranker.rerank(documents, query, top_n=len(documents))

    embeddings = CohereEmbeddings(model=model, cohere_api_key=key, base_url=base)
    return {
        "order": [result["index"] for result in rerank(images)],
        "vectors": [embeddings.embed_query(texts[0]), *embeddings.embed_documents(texts)],
        "wrongInput": failure(lambda: rerank(["a", " "])),
        "wrongKey": failure(lambda: rerank(["a"], WRONG_KEY)),
    }


def run_infinity(key):
    def client(api_key=key):
        headers = {"authorization": f"Bearer {api_key}"}
        return Client(base_url=base, headers=headers, raise_on_unexpected_status=True)

    def embed(given, api_key=key):
        body = OpenAIEmbeddingInputText.from_dict(
            {"model": model, "input": given, "modality": "text"}
        )
        return infinity_embeddings.sync(client=client(api_key), body=body)

    listed = infinity_models.sync(client=client())
    ranked = infinity_rerank.sync(
        client=client(), body=RerankInput(query=query, documents=images, model=model)
    )
    repeated = infinity_rerank.sync(
        client=client(),
        body=RerankInput(query=query, documents=texts[:1], model=model, return_documents=True),
    )
    return {
        "vectors": [entry.embedding for entry in embed(texts).data],
        "models": [entry.id for entry in listed.data],
        "order": [result.index for result in ranked.results],
        "documents": [result.document for result in repeated.results],
        "wrongKey": failure(lambda: embed(["a"], api_key=WRONG_KEY)),
        "refused": refused(key, lambda: embed(["a"])),
    }


def run_litellm(key):
    def embed(given, api_key=key):
        return litellm.embedding(
            model=f"openai/{model}",
            input=given,
            api_base=f"{base}/v1",
            api_key=api_key,
            encoding_format="float",
        )

    def rerank(provider, documents):
        return litellm.rerank(
            model=f"{provider}/{model}",
            query=query,
            documents=documents,
            api_base=base,
            api_key=key,
        )

    orders = {}
    for provider in ("hosted_vllm", "infinity", "jina_ai", "cohere", "voyage", "huggingface"):
        for kind, documents in (("images", images), ("texts", texts)):
            ranked = rerank(provider, documents)
            orders[f"{provider} {kind}"] = [result["index"] for result in ranked.results]
    return {
        "vectors": [entry["embedding"] for entry in embed(texts).data],
        "orders": orders,
        "wrongInput": failure(lambda: rerank("hosted_vllm", ["a", " "])),
        "wrongKey": failure(lambda: embed(["a"], api_key=WRONG_KEY)),
        "tried": refused(key, lambda: embed(["a"])),
    }


CLIENTS = {
    "openai": run_openai,
    "cohere": run_cohere,
    "langchain-openai": run_langchain_openai,
    "langchain-cohere": run_langchain_cohere,
    "infinity_client": run_infinity,
    "litellm": run_litellm,
}
print(json.dumps({name: run(keys[name]) for name, run in CLIENTS.items()}))
