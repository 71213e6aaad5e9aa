"""WebDataset shards from files, globs, or HTTP streams that resume after a broken connection."""

import glob
import http.client
import io
import re
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

MAX_SHARD = 8 << 30  # bytes
MAX_MEMBER = 64 << 20  # bytes
ATTEMPTS = 5  # in a row without a byte
PAUSE = 0.5  # seconds, doubled after every attempt without a byte
TIMEOUT = 30  # seconds without an answer


def locations(pattern: str) -> list[str]:
    """Files and URLs of a pattern: `photos-{0000..0011}.tar`, `{a,b}-*.tar`, `http://host/x.tar`.

    Braces are expanded in order, then globs of files, sorted.

    Raises:
        FileNotFoundError: no file matches.
    """
    matches = []
    for name in _expand(pattern):
        matches += [name] if _is_url(name) else sorted(glob.glob(name))
    if not matches:
        raise FileNotFoundError(f"no shard matches {pattern!r}; expected WebDataset .tar files")
    return matches


def data_name(pattern: str, unnamed: str = "dev") -> str:
    """Name of a data set, from the glob of its shards: `a/flickr8k-dev-*.tar` → `flickr8k-dev`."""
    return re.split(r"[-_.]*(?:[*{\[]|\d+\.tar|\.tar)", pattern.rsplit("/", 1)[-1])[0] or unnamed


def _is_url(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def _expand(pattern: str) -> list[str]:
    brace = re.search(r"\{([^{}]*)\}", pattern)
    if not brace:
        return [pattern]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", brace[1])
    if span:
        choices = [str(n).zfill(len(span[1])) for n in range(int(span[1]), int(span[2]) + 1)]
    else:
        choices = brace[1].split(",")
    return [
        name
        for choice in choices
        for name in _expand(pattern[: brace.start()] + choice + pattern[brace.end() :])
    ]


def members(location: str) -> Iterator[tuple[str, bytes | None]]:
    """Name and content of every file of a shard, in order, read as a stream.

    The content of a file larger than MAX_MEMBER is None.

    Raises:
        ValueError: the shard is broken.
        OSError: it cannot be read.
    """
    try:
        with (
            _open(location) as stream,
            tarfile.open(fileobj=stream, mode="r|*", tarinfo=CheckedHeader) as tar,
        ):
            for member in tar:
                if member.isfile():
                    small = member.size <= MAX_MEMBER
                    yield member.name, tar.extractfile(member).read() if small else None
    except tarfile.TarError as error:
        raise ValueError(f"shard {location}: {error}") from error


class CheckedHeader(tarfile.TarInfo):
    """A header of a shard. `tarfile` by itself takes a damaged one for the end of the file."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """The next header, after any blocks of zeros; after the last one EOFHeaderError.

        Raises:
            tarfile.ReadError: names the offset of a damaged header or of a missing end.
        """
        marked = False  # whether a block of zeros, which marks the end, came
        while True:
            offset = tar.fileobj.tell()
            try:
                return super().fromtarfile(tar)
            except tarfile.EOFHeaderError:
                marked = True
            except tarfile.EmptyHeaderError as error:
                if marked:
                    raise tarfile.EOFHeaderError("end") from error
                raise tarfile.ReadError(
                    f"cut off at byte {offset}, where the end mark of a tar file is missing"
                ) from error
            except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
                raise tarfile.ReadError(
                    f"the header at byte {offset} is damaged: {error}"
                ) from error


def _open(location: str) -> io.BufferedIOBase:
    if _is_url(location):
        return io.BufferedReader(HttpStream(location), 1 << 20)
    return open(location, "rb")


class HttpStream(io.RawIOBase):
    """A resource read from front to back.

    After a broken connection it resumes at that byte (a range request) if the resource has not
    changed.

    Raises:
        ValueError: an answer without a size, above MAX_SHARD, or of another resource.
        OSError: a client error, or ATTEMPTS in a row failed.
    """

    def __init__(self, url: str):
        self.url, self.position, self.size, self.tag = url, 0, None, None
        self.response: http.client.HTTPResponse | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        pause = PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if self.response is None:
                    self._connect()
                count = self.response.readinto(memoryview(buffer)[: self.size - self.position])
                if count or self.position == self.size or not len(buffer):
                    self.position += count
                    return count
                raise ConnectionError(f"connection closed at byte {self.position} of {self.size}")
            except (OSError, http.client.HTTPException) as error:
                self._disconnect()
                if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                    raise OSError(
                        f"shard {self.url}: the server answered {error.code} {error.reason}"
                    ) from error
                if attempt == ATTEMPTS:
                    raise OSError(
                        f"shard {self.url}: given up after {ATTEMPTS} attempts: {error}"
                    ) from error
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def _connect(self) -> None:
        request = urllib.request.Request(self.url, headers={"Accept-Encoding": "identity"})
        if self.position:
            request.add_header("Range", f"bytes={self.position}-")
        response = self.response = urllib.request.urlopen(request, timeout=TIMEOUT)
        length = response.headers["Content-Length"]
        tag = response.headers["ETag"] or response.headers["Last-Modified"]
        if length is None:
            raise ValueError(
                f"shard {self.url}: the server does not tell its size (Content-Length)"
            )
        if not self.position:
            self.size, self.tag = int(length), tag
            if self.size > MAX_SHARD:
                raise ValueError(
                    f"shard {self.url}: {self.size} bytes; at most {MAX_SHARD} are read"
                )
        elif response.status != 206:
            raise ValueError(
                f"shard {self.url}: the server cannot resume at byte {self.position} "
                "(no range requests)"
            )
        elif tag != self.tag or response.headers["Content-Range"] != self._rest():
            raise ValueError(f"shard {self.url}: it has changed while it was read")

    def _rest(self) -> str:
        return f"bytes {self.position}-{self.size - 1}/{self.size}"

    def _disconnect(self) -> None:
        if self.response is not None:
            self.response.close()
            self.response = None

    def close(self) -> None:
        self._disconnect()
        super().close()
