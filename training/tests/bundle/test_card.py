import json
import tarfile
from io import BytesIO
from pathlib import Path

from support.drawings import drawing
from support.models import TINY
from tandem_training.bundle.card import model_card
from tandem_training.bundle.write import about_ours
from tandem_training.data.samples import origins_of, read_shards


def shard_of(path: Path, abouts: list[dict]) -> list[dict]:
    """The origins of a shard of one drawing for each of the tables."""
    with tarfile.open(path, "w") as tar:
        for number, about in enumerate(abouts):
            text = json.dumps({"captions": {"en": ["x"]}} | about).encode()
            for kind, content in (("jpg", drawing("red", "bar")), ("json", text)):
                member = tarfile.TarInfo(f"{number}.{kind}")
                member.size = len(content)
                tar.addfile(member, BytesIO(content))
    return origins_of(read_shards(str(path)), "mine")


def manifest_and_card(origins: list[dict], second: list[str]) -> tuple[dict, str]:
    manifest = about_ours("1.0.0", "Dual encoder", ["en"], origins) | {
        "name": "mine", "metrics": {}, "embedding": {"dim": 16}, "image_encoder": {"size": 64},
    }  # fmt: skip
    return manifest, model_card(manifest, TINY, second, origins)


def test_card_and_manifest_name_the_sources_and_terms_of_the_shards(tmp_path: Path):
    mine = {"source": "my holidays", "license": "CC BY 4.0"}
    origins = shard_of(tmp_path / "a.tar", [mine, mine, {"source": "a museum"}, {"source": 5}])
    assert [(o["source"], o["license"], o["images"]) for o in origins] == [
        ("my holidays", "CC BY 4.0", 2),
        ("a museum", "", 1),
        ("", "", 1),
    ]
    manifest, card = manifest_and_card(origins, ["zh"])
    assert "my holidays, shards mine: 2 images. Terms: CC BY 4.0." in card
    assert "a museum, shards mine: 1 images. Terms: terms not stated." in card
    assert "source not stated, shards mine: 1 images." in card
    assert "Flickr" not in card and "`match` is not calibrated" in card
    assert manifest["license"].endswith("training data: CC BY 4.0; terms not stated")


def test_the_card_of_flickr8k_cites_it_and_its_translators(tmp_path: Path):
    manifest, card = manifest_and_card(
        shard_of(tmp_path / "a.tar", [{"source": "flickr8k"}]), ["zh", "sw"]
    )
    assert (
        "M. Hodosh" in card and "the Flickr terms" in card and "the Flickr terms" in str(manifest)
    )
    assert "zh: X. Li et al. 2016, Flickr8k-CN; sw: not stated." in card


def test_a_checkpoint_without_a_record_of_its_data_claims_none():
    manifest, card = manifest_and_card([], [])
    assert "not recorded by the checkpoint" in card and "Flickr" not in card
    assert manifest["license"].endswith("not recorded by the checkpoint")
