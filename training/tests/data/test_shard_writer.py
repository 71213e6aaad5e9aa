import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from support.drawings import drawing
from tandem_training.data.captions import read_captions
from tandem_training.data.images import as_jpeg
from tandem_training.data.samples import read_shards
from tandem_training.data.shard_writer import write_shards


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(drawing("red", "square"))
    (folder / "sub" / "b.v2.jpg").write_bytes(drawing("blue", "bar"))
    Image.open(io.BytesIO(drawing("green", "bar"))).save(folder / "c.png")
    return folder


def test_csv_json_and_coco_make_the_same_shards(images: Path, tmp_path: Path):
    (tmp_path / "captions.csv").write_text(
        'image,caption,language\na.jpg,"one, red",en\na.jpg,红,zh\n'
        "sub/b.v2.jpg,two,\nc.png, three ,en\n"
    )
    table = {"a.jpg": {"en": ["one, red"], "zh": ["红"]}, "sub/b.v2.jpg": "two", "c.png": ["three"]}
    (tmp_path / "table.json").write_text(json.dumps(table))
    (tmp_path / "rows.json").write_text(
        json.dumps([{"file": f, "captions": c} for f, c in table.items()])
    )
    shards = {}
    for name in ("captions.csv", "table.json", "rows.json"):
        made = write_shards(images, tmp_path / name, str(tmp_path / f"out-{name}"), size=2)
        (counts,) = made.values()
        assert counts == {"shards": 2, "images": 3, "captions": 4}
        shards[name] = [(tmp_path / f"out-{name}-000{i}.tar").read_bytes() for i in range(2)]
    assert shards["captions.csv"] == shards["table.json"] == shards["rows.json"]
    samples = read_shards(str(tmp_path / "out-rows.json-*.tar"))
    assert [(s.key, s.captions) for s in samples] == [
        ("a", ["one, red"]),
        ("sub_b_v2", ["two"]),
        ("c", ["three"]),
    ]


def test_coco_annotations_are_read(images: Path, tmp_path: Path):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "c.png"}],
        "annotations": [
            {"image_id": image, "caption": text} for image, text in ((9, "x"), (7, "y"), (9, "z"))
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    assert read_captions(tmp_path / "coco.json", "de") == {
        "c.png": {"de": ["x", "z"]},
        "a.jpg": {"de": ["y"]},
    }


def test_images_become_upright_jpeg(images: Path):
    assert as_jpeg(images / "a.jpg") == (images / "a.jpg").read_bytes()
    assert Image.open(io.BytesIO(as_jpeg(images / "c.png"))).format == "JPEG"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(images / "turned.jpg", exif=exif)
    assert Image.open(io.BytesIO(as_jpeg(images / "turned.jpg"))).size == (20, 40)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("file,caption\nz.jpg,x\n", "captions.csv, first z.jpg: no such file in .*images"),
        ("file,caption\n../captions.csv,x\n", "it lies outside"),
        ("file,caption\na.jpg,  \n", "a.jpg: one of its captions is empty"),
        ("file,caption\nbad.jpg,x\n", "bad.jpg: it cannot be decoded"),
        ("file,caption\na.jpg,x\na.png,x\n", "another image has the same key, a"),
        ("name,text\na.jpg,x\n", "columns name, text; expected file, caption"),
        ("file,caption\na.jpg,x, y\n", "line 2: more fields than columns"),
        ("file,caption\na.jpg\n", "line 2: expected a file and a caption"),
        ("file,caption\n", "no captions in it"),
        ('file,caption\na.jpg,x\n\na.jpg,"two\na.jpg,y\na.jpg,z\n', "line 4: .*quote .*not closed"),
        ('file,caption\na.jpg,"two\na.jpg,"y"\n', "line 2: .*quote .*not closed"),
        ("file,caption\na\0.jpg,x\n", "null byte"),
    ],
)
def test_bad_input_is_named_and_leaves_no_shard(
    images: Path, tmp_path: Path, rows: str, message: str
):
    (images / "bad.jpg").write_bytes(drawing("red", "bar")[:300])
    (images / "a.png").write_bytes(drawing("red", "bar"))
    (tmp_path / "captions.csv").write_text(rows)
    with pytest.raises(ValueError, match=message):
        write_shards(images, tmp_path / "captions.csv", str(tmp_path / "out" / "x"), size=1)
    assert not list(tmp_path.glob("out/*"))


def test_a_quoted_caption_may_have_several_lines(images: Path, tmp_path: Path):
    (tmp_path / "captions.csv").write_text('file,caption\na.jpg,"one\n""two"""\n')
    table = read_captions(tmp_path / "captions.csv", "en")
    assert table == {"a.jpg": {"en": ['one\n"two"']}}


def test_a_byte_order_mark_is_no_part_of_a_table(tmp_path: Path):
    (tmp_path / "a.csv").write_text("file,caption\na.jpg,x\n", encoding="utf-8-sig")
    (tmp_path / "a.json").write_text('{"a.jpg": "x"}', encoding="utf-8-sig")
    for name in ("a.csv", "a.json"):
        table = read_captions(tmp_path / name, "en")
        assert table == {"a.jpg": {"en": ["x"]}}


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
        (b"\xff\xfe\0\0", "utf-32-le"),
        (b"\xef\xbb\xbf", "utf-8"),
    ],
)
def test_a_table_has_the_encoding_of_its_byte_order_mark(
    tmp_path: Path, mark: bytes, encoding: str
):
    contents = {"t.csv": "file,caption\na.jpg,Café 狗\n", "t.json": '{"a.jpg": "Café 狗"}'}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(mark + content.encode(encoding))
        assert read_captions(tmp_path / name, "en") == {"a.jpg": {"en": ["Café 狗"]}}


@pytest.mark.parametrize("name", ["t.csv", "t.json"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        # Beyond the first piece that is decoded.
        ("x" * 20_000 + "\n" + "Café – ".encode("cp1252").decode("latin-1"), "line 2: .* 0xE9"),
        ("Café", "line 1: the byte 0xE9; expected text in UTF-8, or in UTF-16"),
    ],
)
def test_a_table_in_another_encoding_is_refused_with_the_line(
    tmp_path: Path, name: str, rows: str, message: str
):
    (tmp_path / name).write_bytes(rows.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{name}, {message}"):
        read_captions(tmp_path / name, "en")


def test_captions_of_an_unknown_coco_image_are_skipped_and_counted(
    images: Path, tmp_path: Path, capsys
):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "annotations": [
            {"image_id": image, "caption": text} for image, text in ((9, "x"), (7, "y"), (9, "z"))
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    (counts,) = write_shards(images, tmp_path / "coco.json", str(tmp_path / "x")).values()
    assert counts == {"shards": 1, "images": 1, "captions": 1}
    assert re.search("coco.json: 2 captions are skipped.* image id 9", capsys.readouterr().out)
    content["annotations"] = [{"image_id": 9, "caption": "x"}]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no captions in it"):
        write_shards(images, tmp_path / "coco.json", str(tmp_path / "y"))


def test_half_of_a_surrogate_pair_in_a_caption_is_named(images: Path, tmp_path: Path):
    (tmp_path / "a.json").write_text('{"a.jpg": "\\ud83d"}')
    with pytest.raises(ValueError, match="first a.jpg: .*surrogates not allowed"):
        write_shards(images, tmp_path / "a.json", str(tmp_path / "x"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"file": 5}]', r"entry 1: \{'file': 5\}; expected"),
        ('[{"file": "a.jpg", "caption": "x"}, {"file": 5, "caption": "x"}]', "entry 2"),
        ('[{"file": "a.jpg", "captions": 5}]', "captions of a.jpg: 5; expected texts"),
        ('["a.jpg"]', "entry 1: a.jpg; expected"),
        ('{"a.jpg": "x", "a.jpg": "y"}', "the key 'a.jpg' occurs twice"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], '
            '"annotations": []}',
            "two images have the id 1",
        ),
    ],
)
def test_the_error_names_the_place_in_a_json_file(tmp_path: Path, content: str, message: str):
    (tmp_path / "captions.json").write_text(content)
    with pytest.raises(ValueError, match=rf"captions\.json.*{message}"):
        read_captions(tmp_path / "captions.json", "en")


@pytest.mark.parametrize(
    "content", ['{"a.jpg": 5}', '[{"file": "a.jpg"}]', "not json", '{"a.jpg": {"en": 5}}', "5"]
)
def test_the_error_names_a_file_that_is_no_caption_table(tmp_path: Path, content: str):
    (tmp_path / "captions.json").write_text(content)
    with pytest.raises(ValueError, match="captions.json"):
        read_captions(tmp_path / "captions.json", "en")


def test_shards_are_never_overwritten_and_bad_images_are_skipped_up_to_a_limit(
    images: Path, tmp_path: Path
):
    (tmp_path / "captions.csv").write_text("file,caption\na.jpg,x\nnone.jpg,y\n")
    made = write_shards(images, tmp_path / "captions.csv", str(tmp_path / "x"), max_corrupt=0.5)
    (counts,) = made.values()
    assert counts == {"shards": 1, "images": 1, "captions": 1}
    before = (tmp_path / "x-0000.tar").read_bytes()
    with pytest.raises(FileExistsError, match="x-0000.tar exists"):
        write_shards(images, tmp_path / "captions.csv", str(tmp_path / "x"), max_corrupt=0.5)
    assert (tmp_path / "x-0000.tar").read_bytes() == before


def test_a_tenth_of_the_images_is_held_out_by_name_and_in_no_training_shard(tmp_path: Path):
    rows = ["file,caption"]
    for number in range(30):
        (tmp_path / f"{number}.jpg").write_bytes(drawing("red", "square"))
        rows += [f"{number}.jpg,one of them", f"{number}.jpg,another caption"]
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    out, dev = str(tmp_path / "train"), str(tmp_path / "dev" / "mine")
    counts = write_shards(tmp_path, tmp_path / "captions.csv", out, size=20, dev=dev)
    assert counts == {
        out: {"shards": 2, "images": 27, "captions": 54},
        dev: {"shards": 1, "images": 3, "captions": 6},
    }
    held = {sample.key for sample in read_shards(f"{dev}-*.tar")}
    trained = {sample.key for sample in read_shards(f"{out}-*.tar")}
    assert len(held | trained) == 30 and not held & trained
    (tmp_path / "captions.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]))
    write_shards(tmp_path, tmp_path / "captions.csv", f"{out}2", dev=f"{dev}2")
    assert {sample.key for sample in read_shards(f"{dev}2-*.tar")} == held
    with pytest.raises(FileExistsError, match="exists; choose another name"):
        write_shards(tmp_path, tmp_path / "captions.csv", f"{out}3", dev=dev)
    assert not list(tmp_path.glob("train3-*"))
