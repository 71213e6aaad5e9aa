import json
import tarfile
from io import BytesIO
from pathlib import Path

from support.drawings import drawing
from support.models import TINY
from tandem_training.bundle.card import model_card
from tandem_training.bundle.write import about_ours, gains
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


def test_the_card_says_what_rerank_adds_on_photos_that_its_rule_was_not_fitted_on():
    recall = {"r1": 30.0, "r5": 60.0, "r10": 70.0}
    way = {"itc": recall, "rerank@64": recall}
    gain = {"r1": {"points": 1.5, "low": -0.25, "high": 3.25}}
    rerank = {"fitted": recall | {"r1": 31.5}, "gain": gain}
    report = {
        **dict.fromkeys(
            ("bundle", "pytorch"),
            {"photos": 9, "captions": 45, "text_to_image": way, "image_to_text": way},
        ),
        "rerank": {
            "depth": 64,
            "rule": "cross-validated",
            "text_to_image": rerank,
            "image_to_text": rerank,
        },
        "calibration": {"expected_calibration_error": 0.01},
    }
    manifest, _ = manifest_and_card([], [])
    card = model_card(manifest | {"metrics": {"dev": report}}, TINY, [], [])
    assert "| bundle | text to image | rerank@64, cross-validated | 31.5 | 60.0 | 70.0 |" in card
    assert "text to image +1.50 (95 % interval -0.25 to +3.25)" in card
    assert "without the photo at hand" in card
    assert not gains(report["rerank"])  # so a search does not rerank by default
    gain["r1"]["low"] = 0.01
    assert gains(report["rerank"])
