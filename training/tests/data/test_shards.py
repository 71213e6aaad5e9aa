import gzip
import http.server
import io
import tarfile
import threading
from pathlib import Path

import pytest

from support.drawings import drawing, write_drawings, write_shard
from tandem_training.data import shards
from tandem_training.data.samples import languages_of, read_shards
from tandem_training.data.shards import HttpStream, locations


class Flaky(http.server.BaseHTTPRequestHandler):
    """Serves `content`, but breaks off every answer after `portion` bytes."""

    content, portion, tag, ranges = b"", 10_000, '"one"', True
    asked: list[str | None] = []

    def do_GET(self):
        asked = self.headers["Range"]
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(206 if asked and self.ranges else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.send_header("ETag", type(self).tag)
        self.send_header(
            "Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        )
        self.end_headers()
        self.wfile.write(self.content[start : start + self.portion])
        self.close_connection = True
        self.after()

    def after(self):
        pass

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """serve(content, **settings) → address of a server of it, and the handler class."""
    monkeypatch.setattr(shards, "PAUSE", 0.001)
    servers = []

    def start(content: bytes, **settings):
        handler = type("Handler", (Flaky,), {"content": content, "asked": [], **settings})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_patterns_expand_to_files_and_urls(tmp_path: Path):
    for name in ("b-0001.tar", "a-0000.tar", "a-0001.tar", "c.tar"):
        (tmp_path / name).touch()
    assert [Path(p).name for p in locations(f"{tmp_path}/{{b,a}}-*.tar")] == [
        "b-0001.tar",
        "a-0000.tar",
        "a-0001.tar",
    ]
    assert locations("http://host/x-{08..10}.tar") == [
        f"http://host/x-{n}.tar" for n in ("08", "09", "10")
    ]
    with pytest.raises(FileNotFoundError, match="no shard matches"):
        locations(f"{tmp_path}/none-*.tar")


def test_a_shard_over_http_is_read_whole_although_the_connection_breaks(shard: Path, serve):
    content = shard.read_bytes()
    address, handler = serve(content, portion=len(content) // 4)
    assert read_shards(f"{address}/drawings-{{0000..0000}}.tar") == read_shards(str(shard))
    assert (
        handler.asked[0] is None
        and len(handler.asked) >= 3
        and handler.asked[1].startswith("bytes=")
    )


def test_reading_stops_if_the_server_does_not_recover(serve):
    address, handler = serve(bytes(1000), portion=0)
    with pytest.raises(
        OSError, match=r"given up after 5 attempts: connection closed at byte 0 of 1000"
    ):
        HttpStream(f"{address}/x.tar").read()
    assert len(handler.asked) == 5


def test_inconsistent_http_answers_are_errors(serve, monkeypatch):
    address, _ = serve(bytes(1000), portion=100, ranges=False)
    with pytest.raises(ValueError, match="cannot resume at byte 100"):
        HttpStream(f"{address}/x.tar").read()
    address, handler = serve(bytes(1000), portion=100)
    handler.after = lambda self: setattr(handler, "tag", '"two"')
    with pytest.raises(ValueError, match="it has changed while it was read"):
        HttpStream(f"{address}/x.tar").read()
    with pytest.raises(OSError, match="missing.tar: the server answered 404"):
        read_shards(f"{address}/missing.tar")
    monkeypatch.setattr(shards, "MAX_SHARD", 999)
    with pytest.raises(ValueError, match="1000 bytes; at most 999"):
        HttpStream(f"{address}/x.tar").read()


def write_files(path: Path, *names: str) -> Path:
    """A shard of these files, in this order; a name may come twice."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            text = b'{"captions": {"en": ["x"]}}'
            content = text if name.lower().endswith(".json") else drawing("red", "square")
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_equal_keys_in_two_shards_are_two_samples(tmp_path: Path):
    for name in ("a", "b"):
        write_files(tmp_path / f"{name}.tar", "0.jpg", "0.json")
    assert [sample.key for sample in read_shards(str(tmp_path / "*.tar"))] == ["0", "0"]


def test_a_key_ends_at_the_first_dot_of_the_name_and_holds_its_folders(tmp_path: Path):
    names = ("v1.2/x.small.jpg", "v1.2/x.small.json", "v1.2/._x.jpg", "v1.2/x.txt", "y.png")
    shard = write_files(tmp_path / "a.tar", *names, "y.JSON")
    assert [sample.key for sample in read_shards(str(shard), max_corrupt=0.5)] == ["v1.2/x", "y"]


@pytest.mark.parametrize(
    "names",
    [
        ("x.jpg", "x.json", "x.jpg", "x.json"),
        ("x.jpg", "x.json", "y.jpg", "y.json", "x.json"),
        ("x.05.jpg", "x.05.json", "x.06.jpg", "x.06.json"),
        ("x.jpg", "x.png", "x.json"),
    ],
)
def test_the_error_names_shard_and_key_of_a_key_that_occurs_twice(tmp_path: Path, names):
    shard = write_files(tmp_path / "a.tar", *names)
    with pytest.raises(ValueError, match=r"a\.tar: key 'x' occurs twice, as x\."):
        read_shards(str(shard), max_corrupt=1.0)
    with pytest.raises(ValueError, match=r"a\.tar: key 'x' occurs twice"):
        languages_of(str(shard))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", ["checksum", "zeros"])
@pytest.mark.parametrize("header", range(4))
def test_the_error_names_shard_and_offset_of_a_damaged_header(
    tmp_path: Path, header: int, damage: str, packed: bool
):
    shard = write_files(tmp_path / "a.tar", "x.jpg", "x.json", "y.jpg", "y.json")
    content = bytearray(shard.read_bytes())
    offset = [at for at in range(0, len(content), 512) if content[at + 257 : at + 262] == b"ustar"][
        header
    ]
    if damage == "checksum":
        content[offset + 148 : offset + 154] = b"777777"
        place = str(offset)
    else:
        content[offset : offset + 512] = bytes(512)
        place = str(offset + 512)  # what follows is no header
    shard.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=rf"a\.tar: .*{'' if header == 0 else place}"):
        read_shards(str(shard), max_corrupt=1.0)


def test_the_error_names_the_offset_where_the_end_of_a_shard_is_missing(tmp_path: Path):
    shard = write_files(tmp_path / "a.tar", "x.json", "y.json")
    shard.write_bytes(shard.read_bytes()[:1024])
    with pytest.raises(ValueError, match=r"a\.tar: cut off at byte 1024, where the end mark"):
        read_shards(str(shard), max_corrupt=1.0)


def test_shards_that_were_joined_are_read_to_the_end(tmp_path: Path):
    one = write_files(tmp_path / "a.tar", "x.jpg", "x.json").read_bytes()
    two = write_files(tmp_path / "b.tar", "y.jpg", "y.json").read_bytes()
    (tmp_path / "c.tar").write_bytes(one + two)
    assert [sample.key for sample in read_shards(str(tmp_path / "c.tar"))] == ["x", "y"]


def broken_shard(path: Path) -> Path:
    """Six samples, of which only the first is whole."""
    image, captions = drawing("red", "square"), b'{"captions": {"en": ["x"]}}'
    files = {
        "good.jpg": image, "good.json": captions,
        "torn.jpg": image[:-100], "torn.json": captions,
        "empty.jpg": image, "empty.json": b'{"captions": {"en": ["x", " "]}}',
        "alone.jpg": image,
        "wrong.jpg": image, "wrong.json": b'{"caption": "x"}',
        "large.jpg": bytes(10_000), "large.json": captions,
    }  # fmt: skip
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_corrupt_samples_are_counted_and_skipped(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(shards, "MAX_MEMBER", 9_000)
    write_drawings(tmp_path / "a.tar")
    broken_shard(tmp_path / "b.tar")
    kept = read_shards(str(tmp_path / "*.tar"), max_corrupt=0.5)
    assert len(kept) == 9 and kept[-1].key == "good"
    assert "5 of 14 samples are corrupt; the most, 5, in" in capsys.readouterr().out


def test_too_many_corrupt_samples_are_an_error_that_names_the_worst_shard(tmp_path: Path):
    write_drawings(tmp_path / "a.tar")
    write_shard(tmp_path / "c.tar", {"one": (b"no photo", {"en": ["x"]})})
    broken_shard(tmp_path / "b.tar")
    with pytest.raises(
        ValueError,
        match="6 of 15 samples.* 5, in .*b.tar, first torn: the image cannot be decoded",
    ):
        read_shards(str(tmp_path / "*.tar"))


def test_the_error_names_a_truncated_shard(shard: Path):
    shard.write_bytes(shard.read_bytes()[:-12_000])
    with pytest.raises(ValueError, match="drawings-0000.tar: unexpected end of data"):
        read_shards(str(shard))


def test_captions_come_in_the_requested_languages_with_their_weights(tmp_path: Path):
    image = drawing("red", "square")
    captions = {
        "both": {"en": ["a", "b"], "zh": ["红"]},
        "one": {"zh": ["方", "块"]},
        "none": {"fr": ["rouge"]},
    }
    write_shard(tmp_path / "a.tar", {key: (image, value) for key, value in captions.items()})
    both, one = read_shards(str(tmp_path / "a.tar"), {"en": 3.0, "zh": 1.0})
    assert both.captions == ["a", "b", "红"] and both.weights == [0.375, 0.375, 0.25]
    assert one.captions == ["方", "块"] and one.weights == []
    with pytest.raises(ValueError, match="holds no image with a caption in de"):
        read_shards(str(tmp_path / "a.tar"), {"de": 1.0})
