"""A small typed client of Tandem's HTTP API; needs the standard library alone."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

Payload = dict[str, Any]


class Hit(TypedDict):
    """A result of a search. `match` is None without rerank, or for a query that is no text."""

    id: str
    score: float
    similarity: float
    match: float | None
    payload: Payload | None


class SearchReply(TypedDict):
    hits: list[Hit]
    notices: list[dict[str, Any]]
    timings: dict[str, float]


class ImageInfo(TypedDict):
    mime: str
    width: int
    height: int
    bytes: int


class Item(TypedDict):
    id: str
    payload: Payload | None
    image: ImageInfo
    added_at: str


class RerankResult(TypedDict):
    index: int
    relevance_score: float
    similarity: float
    match: float | None
    document: NotRequired[dict[str, str]]


class RerankReply(TypedDict):
    model: str
    ordered_by: str
    results: list[RerankResult]
    notices: list[dict[str, Any]]
    timings: dict[str, float]


class TandemError(Exception):
    """A refusal: `code` and `status` as in docs/errors.md, `retry_after` in seconds."""

    def __init__(
        self, status: int, code: str, detail: str, retry_after: float | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class Tandem:
    """Each method raises `TandemError` for a refusal, and `OSError` where no service answers."""

    def __init__(
        self, url: str = "http://127.0.0.1:3000", api_key: str | None = None, timeout: float = 60
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._timeout = timeout

    def search(
        self,
        text: str | None = None,
        *,
        image: bytes | None = None,
        id: str | None = None,
        k: int = 10,
        candidates: int | None = None,
        rerank: bool | None = None,
        language: str | None = None,
        min_match: float | None = None,
        filter: Mapping[str, Any] | None = None,
    ) -> SearchReply:
        """The items that match one of: a text, the bytes of an image file, a stored item."""
        body = {"text": text, "image": None if image is None else _base64(image), "id": id, "k": k}
        body |= {"candidates": candidates, "rerank": rerank, "language": language}
        body |= {"min_match": min_match, "filter": filter}
        return self._json("POST", "/search", _given(body))

    def embed(self, inputs: Sequence[str | bytes]) -> list[list[float]]:
        """L2-normalised embeddings of texts and image files, in their order."""
        named = [
            {"text": value} if isinstance(value, str) else {"image": _base64(value)}
            for value in inputs
        ]
        reply = self._json("POST", "/embed", {"inputs": named})
        return [row["embedding"] for row in reply["embeddings"]]

    def rerank(
        self,
        query: str | Mapping[str, str],
        documents: Sequence[str | Mapping[str, str]],
        top_n: int | None = None,
    ) -> RerankReply:
        """Documents by relevance: strings, {"text"}, {"image"} in base64, or {"id"} of an item."""
        body = {"query": query, "documents": list(documents), "top_n": top_n}
        return self._json("POST", "/rerank", _given(body))

    def add(self, id: str, image: bytes, payload: Payload | None = None) -> str:
        """Stores an image file; durable on return. Returns "created" or "replaced"."""
        body = {"image": _base64(image), "payload": payload}
        return self._json("PUT", _path(id), _given(body))["status"]

    def item(self, id: str) -> Item:
        return self._json("GET", _path(id))

    def image(self, id: str) -> bytes:
        """The stored JPEG."""
        return self._send("GET", f"{_path(id)}/image")

    def remove(self, id: str) -> None:
        self._send("DELETE", _path(id))

    def items(self) -> Iterator[Item]:
        """All items in the order of their ids, page by page."""
        after: str | None = None
        while True:
            query = urllib.parse.urlencode(_given({"limit": 1000, "after": after}))
            page = self._json("GET", f"/items?{query}")
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return json.loads(self._send(method, path, body))

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None


def _refusal(error: urllib.error.HTTPError) -> TandemError:
    retry_after = error.headers.get("Retry-After")
    wait = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
    try:
        problem = json.loads(error.read())
        return TandemError(error.code, problem["code"], problem["detail"], wait)
    except (ValueError, KeyError, TypeError):
        return TandemError(error.code, "", f"The service answered with status {error.code}.", wait)


def _base64(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _path(id: str) -> str:
    return f"/items/{urllib.parse.quote(id, safe='')}"
