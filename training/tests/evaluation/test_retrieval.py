"""Evaluation: languages, calibration, reliability, the page of misses, zero-shot classes."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.drawings import COLOURS, SHAPES, drawing, write_shard
from tandem_training import evaluate as evaluation
from tandem_training.data.pixel_rules import PixelRules
from tandem_training.data.samples import languages_of, read_shards
from tandem_training.evaluation.calibration import (
    FITS,
    cross_validated,
    fit_isotonic,
    fit_temperature,
    log_loss,
)
from tandem_training.evaluation.misses import page
from tandem_training.evaluation.plot import draw_reliability
from tandem_training.evaluation.recall import probability
from tandem_training.evaluation.retrieval import Scored, evaluate, evaluate_languages
from tandem_training.evaluation.zero_shot import classify, labelled_files

MATCH = {"logit": 1.0, "similarity": 2.0, "bias": 0.0}


class ColourEncoders:
    """Encoders that see only colours: the mean of an image, the colour named in a text."""

    def files(self, contents):
        pixels = np.stack([PixelRules(16).pixels(content) for content in contents])
        colours = pixels.reshape(len(pixels), -1, 3).mean(1) - 120.0
        return unit(colours), np.zeros((len(pixels), 1, 1), np.int8)

    def texts(self, captions):
        known = {**COLOURS, "rot": COLOURS["red"], "blau": COLOURS["blue"]}
        rows = [
            [known[w] for w in re.findall(r"\w+", c) if w in known] or [(1, 2, 3)] for c in captions
        ]
        return unit(np.array([row[0] for row in rows]) - 120.0), [
            np.zeros((1, 1), np.float32)
        ] * len(captions)

    def logits(self, text_tokens, image_tokens, pairs):
        return np.zeros(len(pairs), np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def bilingual(tmp_path: Path) -> Path:
    """A square of each colour: all with English captions, two with German, one of them wrong."""
    german = {"red": ["ein rot <b>Quadrat</b>"], "blue": ["rot & falsch"]}
    samples = {
        c: (drawing(c, "square"), {"en": [f"a {c} square"], "de": german.get(c, [])})
        for c in COLOURS
    }
    write_shard(tmp_path / "bilingual-0000.tar", samples)
    return tmp_path / "bilingual-0000.tar"


def test_every_language_is_measured_on_the_images_that_have_it(bilingual: Path):
    assert languages_of(str(bilingual)) == ["en", "de"]
    report, scored = evaluate_languages(
        ColourEncoders(), str(bilingual), ["en", "de"], MATCH, (2, 4)
    )
    assert report["photos"] == 4 and report["text_to_image"]["rerank@4"]["r1"] == 100.0
    german = report["languages"]["de"]
    assert (german["photos"], german["captions"]) == (2, 2) and german["text_to_image"]["itc"][
        "r1"
    ] == 50.0
    alone = evaluate(ColourEncoders(), read_shards(str(bilingual), {"de": 1.0}), MATCH, (2, 4))
    assert alone == german
    assert len(scored.encoded.captions) == 4


def test_the_page_of_misses_shows_the_wrong_hits_and_escapes_captions(bilingual: Path):
    _, scored = evaluate_languages(ColourEncoders(), str(bilingual), ["de"], MATCH, (2,))
    html = page(scored, MATCH)
    assert "rot &amp; falsch" in html and "its image, at 2." in html
    assert "<b>" not in html
    sources = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            sources.extend(value for name, value in attributes if name in ("src", "href"))
            assert tag != "script"

    Links().feed(html)
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)


def curved(count: int) -> tuple[np.ndarray, ...]:
    """Scores whose probability is no sigmoid: none below 0, then a third, then two thirds."""
    rng = np.random.default_rng(0)
    score = rng.uniform(-3, 3, count)
    truth = rng.random(count) < np.select([score < 0, score < 1.5], [0.02, 0.4], 0.6)
    return score, truth, np.ones(count), np.arange(count) // 10


def losses_of(score, truth, weights, image) -> dict[str, float]:
    return {
        m: log_loss(cross_validated(m, score, truth, weights, image), truth, weights) for m in FITS
    }


def test_isotonic_calibration_wins_where_a_sigmoid_does_not_fit():
    score, truth, weights, image = curved(8000)
    losses = losses_of(score, truth, weights, image)
    assert losses["isotonic"] < losses["temperature"] - 0.02
    rule = {**fit_isotonic(score, truth, weights), "similarity": 0.0}
    arguments, heights = zip(*rule["knots"], strict=True)
    assert 2 <= len(rule["knots"]) <= 32 and heights[0] > 0 and heights[-1] < 1
    assert all(np.diff(arguments) > 0) and all(np.diff(heights) >= 0)
    expected = probability(rule, np.array([-2.0, 0.8, 2.5]), np.zeros(3))
    np.testing.assert_allclose(expected, [0.02, 0.4, 0.6], atol=0.06)


def test_a_sigmoid_wins_where_it_is_the_truth():
    rng = np.random.default_rng(1)
    score = rng.normal(0, 2, 1500)
    truth = rng.random(1500) < 1 / (1 + np.exp(-score))
    weights, image = np.ones(1500), np.arange(1500)
    losses = losses_of(score, truth, weights, image)
    assert losses["temperature"] < losses["isotonic"]
    assert fit_temperature(score, truth, weights)["logit"] == pytest.approx(1.0, abs=0.15)


def test_no_image_is_calibrated_by_itself(monkeypatch):
    image = np.repeat(np.arange(13), 4)
    fitted_on = []

    def fit(score, truth, weights):
        fitted_on.append(set(score.astype(int)))
        return {"logit": 0.0, "bias": float(len(fitted_on))}

    monkeypatch.setitem(FITS, "temperature", fit)
    found = cross_validated(
        "temperature", image.astype(float), image > 5, np.ones(len(image)), image
    )
    left_out = [set(range(13)) - seen for seen in fitted_on]
    assert sorted(sum(map(sorted, left_out), [])) == list(range(13)) and len(left_out) == 5
    for number, images in enumerate(left_out, 1):
        np.testing.assert_allclose(found[np.isin(image, list(images))], 1 / (1 + np.exp(-number)))


def test_the_reliability_diagram_is_drawn(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra curves)")
    bins = [
        {"predicted": 0.1, "observed": 0.2, "share": 0.7},
        {"predicted": 0.9, "observed": 0.8, "share": 0.3},
    ]
    draw_reliability(bins, tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as image:
        assert min(image.size) > 300


@pytest.mark.parametrize(("own", "other"), [("en", "de"), ("de", "en")])
def test_the_command_writes_its_report(
    own: str, other: str, bilingual: Path, tmp_path: Path, monkeypatch, capsys
):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra curves)")
    monkeypatch.setattr("tandem_training.evaluate.BundleEncoders", lambda _: Served(own))
    monkeypatch.setattr(
        sys, "argv", ["evaluate", "bundle", str(bilingual), "--report", str(tmp_path / "report")]
    )
    evaluation.main()
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["text_to_image"]) == {
        "itc",
        "rerank@16",
        "rerank@32",
        "rerank@64",
        "rerank@128",
    }
    assert set(printed["languages"]) == {other} and printed["calibration"]["reliability"]
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == printed
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.json",
        "reliability.png",
        "misses.html",
    }


class Served(ColourEncoders):
    def __init__(self, language: str):
        self.manifest = {"match": MATCH, "languages": [language]}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for colour in COLOURS:
        for shape in SHAPES:
            path = tmp_path / "images" / f"{colour}_thing" / f"{shape}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(drawing(colour, shape))
    return tmp_path / "images"


def test_images_in_folders_are_classified_by_the_sentences_of_their_class(images: Path):
    (images / "stray.jpg").write_bytes(drawing("red", "bar"))  # in no class
    report = classify(ColourEncoders(), labelled_files(images, None), ["a {}", "one {}"])
    assert (report["images"], report["top1"], report["top5"]) == (8, 100.0, 100.0)
    assert report["classes"]["red_thing"] == {"images": 2, "top1": 100.0, "taken_for": None}


def test_images_are_classified_by_a_file_of_labels(images: Path, tmp_path: Path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "file,label\nred_thing/bar.jpg,blue\nblue_thing/bar.jpg,blue\nred_thing/square.jpg,red\n"
    )
    report = classify(ColourEncoders(), labelled_files(images, labels), ["a {}"])
    assert (
        report["top1"] == pytest.approx(66.67) and report["classes"]["blue"]["taken_for"] == "red"
    )
    labels.write_text("file,label\nnone.jpg,blue\n")
    with pytest.raises(ValueError, match="line 2: file 'none.jpg'"):
        labelled_files(images, labels)
    labels.write_text("path,label\na,b\n")
    with pytest.raises(ValueError, match="columns file and label"):
        labelled_files(images, labels)
    with pytest.raises(ValueError, match="holds no images in folders"):
        labelled_files(tmp_path / "images" / "red_thing", None)


def test_corrupt_images_are_skipped_up_to_a_limit(images: Path):
    (images / "red_thing" / "bad.jpg").write_bytes(b"no picture")
    files = labelled_files(images, None)
    with pytest.raises(ValueError, match="1 of 9 samples are corrupt"):
        classify(ColourEncoders(), files, ["a {}"])
    assert classify(ColourEncoders(), files, ["a {}"], max_corrupt=0.2)["images"] == 8


def test_scored_data_keeps_its_captions(bilingual: Path):
    scored = Scored(ColourEncoders(), read_shards(str(bilingual)), 4)
    assert scored.encoded.captions == [f"a {colour} square" for colour in COLOURS]
