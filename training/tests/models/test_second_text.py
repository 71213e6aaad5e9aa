"""The second text encoder: its tokenizer, its recipe table, its training beside the first, its
bundle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from support.drawings import write_drawings
from support.models import FUSION, STILL, TOWERS, model_gradients, trainer
from tandem_training.bundle import hubs
from tandem_training.bundle.bundle import read_manifest, write_manifest
from tandem_training.bundle.encoders import BundleEncoders, TorchEncoders
from tandem_training.bundle.goldens import check
from tandem_training.bundle.graphs import Graphs
from tandem_training.bundle.hubs import correct_hubs, correct_other_text
from tandem_training.bundle.other_texts import add_text_encoder, export_both_texts
from tandem_training.bundle.second_text import export_second_text
from tandem_training.bundle.write import export_bundle
from tandem_training.data.samples import read_shards
from tandem_training.evaluation.retrieval import evaluate
from tandem_training.loop.checkpoint import load, save
from tandem_training.loop.second_text import SecondTextInput
from tandem_training.models.text.second import SecondText, learn_tokenizer
from tandem_training.recipe import Recipe, read_recipe

SECOND = SecondText.Config(
    languages={"zh": 2.0, "de": 1.0},
    layers=1,
    width=16,
    heads=2,
    dropout=0.1,
    vocabulary=120,
    pretrain_steps=5,
)
RECORDED = Path(__file__).parents[3] / "test" / "fixtures" / "learnt-tokenizer.json"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def spoken(shard: Path) -> Path:
    return write_drawings(shard, languages=("zh", "de"))


def test_a_learnt_tokenizer_gives_the_ids_that_the_service_is_tested_with():
    recorded = json.loads(RECORDED.read_text())
    made = learn_tokenizer(recorded["captions"], 300)
    parts, served = json.loads(made.to_str()), recorded["tokenizer"]
    assert all(
        parts[name] == served[name] for name in ("normalizer", "pre_tokenizer", "post_processor")
    )
    assert made.get_vocab() == served["model"]["vocab"] and len(made.get_vocab()) <= 300
    for text, ids in recorded["texts"].items():
        assert made.encode(text).ids == ids
    assert recorded["texts"][" "] == [2, 3]  # even an empty text has tokens to encode


def recipe_of(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return read_recipe(path)


def test_a_recipe_names_the_languages_and_their_objectives(tmp_path: Path):
    second = "[second_text]\nlanguages = { zh = 2.2, ar = 1 }\n"
    recipe = recipe_of(tmp_path, second + "[objectives]\nitc = 1\nsecond_itc = 0.5")
    assert recipe.inputs["second_text"].languages == {"zh": 2.2, "ar": 1.0}
    assert {n: o.weight for n, o in recipe.objectives.items()} == {"itc": 1.0, "second_itc": 0.5}
    without = recipe_of(tmp_path, "[objectives]\nitc = 1")
    assert recipe.architecture().keys() - without.architecture().keys() == {"second_text"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[second_text]\nlayer = 2", r"unknown key 'layer'; did you mean 'layers'"),
        ("[second_text]\nlayers = 2", r"no languages; expected some"),
        ("[second_text]\nlanguages = { zh = 0 }", r"zh = 0; expected a weight above 0"),
        ("[second_text]\nlanguages = { zh = 1 }\nlayers = 0", r"layers = 0; expected at least 1"),
        (
            "[second_text]\nlanguages = { zh = 1 }\nheads = 3",
            r"width = 256 is no multiple of heads = 3",
        ),
        (
            "[second_text]\nlanguages = { zh = 1 }\n[objectives]\nitc = 1",
            r"\[second_text\] is read by objectives second_itc and second_text_itc, which",
        ),
        (
            "[second_text]\nlanguages = { en = 1, zh = 1 }",
            r"share en: one encoder reads a language",
        ),
        (
            "[second_text]\nlanguages = { zh = 1 }\n[text]\nkind = 'causal'",
            r"pretrain_steps = 1500 follows the first text encoder",
        ),
    ],
)
def test_a_wrong_second_text_table_is_refused_with_its_key(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        recipe_of(tmp_path, text)


def test_the_first_text_encoder_draws_and_learns_the_same_with_and_without_the_second(
    spoken: Path, tmp_path: Path, tokenizer
):
    settings = {"data": {"word_dropout": 0.3}}
    first = {"itc": 1.0, "token_itc": 1.0}
    both = first | {"second_itc": 0.5, "second_text_itc": 0.25}
    without = trainer(spoken, tmp_path / "without", tokenizer, objectives=first, **settings)
    beside = trainer(
        spoken, tmp_path / "beside", tokenizer, second=SECOND, objectives=both, **settings
    )
    one, two = without.batch(3), beside.batch(3)
    for name, tensor in (one.inputs | one.whole).items():
        assert torch.equal(tensor, (two.inputs | two.whole)[name]), name
    assert two.inputs.keys() - one.inputs.keys() == {"second.ids", "second.mask"}
    losses, all_losses = without.train_step(), beside.train_step()
    assert set(all_losses) - set(losses) == {"second_itc", "second_text_itc"}
    assert (losses["itc"], losses["token_itc"]) == (all_losses["itc"], all_losses["token_itc"])


def test_a_kill_while_pretraining_or_later_resumes_with_the_same_losses(
    spoken: Path, tmp_path: Path, tokenizer, monkeypatch
):
    settings = {"batch": 4, "epochs": 3, "save_every": 2, "second": SECOND}
    whole = trainer(spoken, tmp_path / "whole", tokenizer, **settings)
    curve = [whole.train_step() for _ in range(4)]
    steps, loss = [], SecondTextInput._loss

    def killed(*given):
        steps.append(given[-1])
        if len(steps) == 4:
            raise KeyboardInterrupt
        return loss(*given)

    monkeypatch.setattr(SecondTextInput, "_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer(spoken, tmp_path / "broken", tokenizer, **settings)
    broken = trainer(spoken, tmp_path / "broken", tokenizer, **settings)
    assert steps == [0, 1, 2, 3, 2, 3, 4]
    first = [broken.train_step() for _ in range(2)]
    broken.save_state()
    resumed = trainer(spoken, tmp_path / "broken", tokenizer, **settings)
    assert len(steps) == 7
    assert first + [resumed.train_step() for _ in range(2)] == curve
    average = whole.average.inputs.state_dict()
    assert all(
        torch.equal(average[name], value)
        for name, value in resumed.average.inputs.state_dict().items()
    )
    with pytest.raises(
        ValueError,
        match="of another architecture: .*'layers': 1, 'width': 16.*asks for .*'layers': 2,",
    ):
        trainer(
            spoken,
            tmp_path / "broken",
            tokenizer,
            **settings | {"second": replace(SECOND, layers=2)},
        )


def test_the_gradient_is_the_same_in_chunks(spoken: Path, tmp_path: Path, tokenizer):
    gradients = []
    for chunk in (0, 3):
        settings = {
            "model": STILL,
            "second": replace(SECOND, dropout=0.0),
            "chunk": chunk,
            "precision": "float32",
        }
        run = trainer(spoken, tmp_path / f"chunk-{chunk}", tokenizer, **settings)
        gradients.append(model_gradients(run))
    whole, chunked = gradients
    assert whole.keys() == chunked.keys() and "inputs.second_text.encoder.words.weight" in whole
    for name, gradient in whole.items():
        torch.testing.assert_close(chunked[name], gradient, rtol=1e-4, atol=1e-5)


def test_the_second_text_encoder_trains_alone_beside_frozen_encoders(
    spoken: Path, tmp_path: Path, tokenizer
):
    run = trainer(
        spoken,
        tmp_path / "run",
        tokenizer,
        second=SECOND,
        objectives={"second_itc": 0.5, "second_text_itc": 0.25},
        freeze=TOWERS,
        epochs=3,
    )
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.train_step()  # at rate 0
    assert set(run.train_step()) == {"second_itc", "second_text_itc", "loss"}
    after = run.model.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert moved and all(name.startswith("inputs.second_text.") for name in moved)


@pytest.fixture
def learnt(spoken: Path, tmp_path: Path, tokenizer) -> Path:
    """A run that has learnt the drawings in all languages, evaluated at its end."""
    second = replace(SECOND, pretrain_steps=40, dropout=0.0)
    settings = {
        "epochs": 40,
        "evaluate_every": 40,
        "ema": 0.8,
        "rates": {"projection": 3e-3, "inputs": 3e-3},
        "objectives": {"itc": 1.0, "token_itc": 1.0, "second_itc": 0.5, "second_text_itc": 0.25},
    }
    trainer(spoken, tmp_path / "run", tokenizer, second=second, **settings).run()
    return tmp_path / "run"


def test_the_second_text_encoder_learns_is_measured_by_language_and_has_its_own_bundle(
    learnt: Path, spoken: Path, tmp_path: Path, tokenizer
):
    lines = [json.loads(line) for line in (learnt / "metrics.jsonl").read_text().splitlines()]
    reports = {line["language"]: line["dev"] for line in lines if "dev" in line}
    assert list(reports) == ["en", "zh", "de"]
    assert reports["zh"]["photos"] == reports["de"]["captions"] == 7
    losses = [line["second_itc"] for line in lines if "second_itc" in line]
    assert losses[-1] < 0.7 * losses[0]
    assert reports["zh"]["text_to_image"]["itc"]["r1"] > 100 / 7
    assert reports["zh"]["text_to_image"]["itc"]["r5"] > 75

    manifest = export_second_text(learnt / "model.pt", tmp_path / "others", str(spoken), "1.0.0")
    assert manifest["languages"] == ["zh", "de"] and "fusion_encoder" not in manifest
    assert set(manifest["metrics"]["drawings"]["languages"]) == {"de"}
    card = (tmp_path / "others" / "README.md").read_text()
    assert "source not stated, shards drawings: 8 images" in card and "Flickr8k" not in card
    assert "captions in de | text to image" in card
    encoders = BundleEncoders(tmp_path / "others")
    for language, report in reports.items():
        if language != "en":
            samples = read_shards(str(spoken), {language: 1.0})
            assert (
                evaluate(encoders, samples, manifest["match"], (4,))["photos"] == report["photos"]
            )
    goldens = json.loads((tmp_path / "others" / "goldens.json").read_text())
    assert any("草地" in text["text"] for text in goldens["texts"])

    both = export_both_texts(
        learnt / "model.pt", tmp_path / "both", dev=str(spoken), version="1.0.0"
    )
    assert set(both["metrics"]["drawings"]["languages"]) == {"zh", "de"}
    assert both["other_text_encoders"][0]["match"] == manifest["match"]
    card = (tmp_path / "both" / "README.md").read_text()
    assert "Texts in zh, de have a text encoder of their own" in card
    assert "bundle, captions in de | text to image" in card

    saved = load(learnt)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    export_bundle(learnt / "model.pt", tmp_path / "first", tmp_path / "tokenizer.json", "", "1.0.0")
    assert "Flickr8k" not in (tmp_path / "first" / "README.md").read_text()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    images = [BundleEncoders(tmp_path / name).images(pixels)[0] for name in ("others", "first")]
    np.testing.assert_allclose(*images, atol=1e-6)  # the same index serves both

    again = trainer(
        spoken,
        tmp_path / "fused",
        tokenizer,
        start=str(learnt),
        freeze=TOWERS,
        objectives=FUSION,
        epochs=1,
    )
    again.run()
    carried = load(tmp_path / "fused")
    assert carried["inputs"] == saved["inputs"]
    for name, value in saved["state"].items():
        if name.startswith(("vision.", "pooler.", "text.", "inputs.")):
            assert torch.equal(carried["state"][name], value), name


def test_the_bundle_equals_pytorch_for_every_batch_and_length(
    spoken: Path, tmp_path: Path, tokenizer
):
    run = trainer(spoken, tmp_path / "run", tokenizer, second=SECOND)
    save(tmp_path / "model.pt", run.average.checkpoint())
    export_second_text(tmp_path / "model.pt", tmp_path / "others", "", "1.0.0")
    exported = BundleEncoders(tmp_path / "others")
    second = run.average.inputs["second_text"]
    graphs = Graphs.with_text(run.average, second.encoder)
    reference = TorchEncoders(graphs, second.tokenizer, bfloat16=False)
    texts = ["一个红色的方块。", "Der Balken ist grün, grün, grün und auch noch grün.", "?", ""]
    for some in (texts, texts[:1]):
        np.testing.assert_allclose(exported.texts(some)[0], reference.texts(some)[0], atol=2e-3)


@pytest.mark.parametrize("bank", [False, True])
def test_one_bundle_holds_both_text_encoders(
    spoken: Path, tmp_path: Path, tokenizer, bank: bool, monkeypatch
):
    fits, fit = [], hubs._bank
    monkeypatch.setattr(hubs, "_bank", lambda *given: fits.append(1) or fit(*given))
    run = trainer(spoken, tmp_path / "run", tokenizer, second=SECOND)
    save(tmp_path / "model.pt", run.average.checkpoint() | {"tokenizer": tokenizer.to_str()})
    options = {"dev": "", "version": "1.0.0", "bank": str(spoken) if bank else ""}
    manifest = export_both_texts(tmp_path / "model.pt", tmp_path / "both", **options)
    assert len(fits) == (2 if bank else 0)  # each text encoder reads the bank once
    written = read_manifest(tmp_path / "both")
    assert manifest == {key: value for key, value in written.items() if key != "files"}
    (entry,) = manifest["other_text_encoders"]
    assert (manifest["languages"], entry["languages"]) == (["en"], ["zh", "de"])
    goldens = json.loads((tmp_path / "both" / "goldens.json").read_text())
    of_other = [text for text in goldens["texts"] if text.get("encoder") == 1]
    session = onnxruntime.InferenceSession(tmp_path / "both" / entry["file"])
    for text in of_other:
        ids = np.array([text["token_ids"]])
        (embedding,) = session.run(None, {"token_ids": ids, "attention_mask": np.ones_like(ids)})
        assert embedding[0] @ np.array(text["embedding"]) > 0.999
    check(BundleEncoders(tmp_path / "both"), tmp_path / "both")
    if not bank:
        return
    # The cosine of a corrected text and image is the score by the terms of their own sides.
    alone = Graphs.with_text(run.average, run.average.inputs["second_text"].encoder)
    second = run.average.inputs["second_text"]
    encoders = TorchEncoders(alone, second.tokenizer, bfloat16=False)
    samples = read_shards(str(spoken), {"zh": 1.0, "de": 1.0})
    corrected = corrected_images(run.average, tokenizer, spoken)
    other = correct_other_text(alone, encoders, samples, corrected)
    caption = ["Der Balken ist grün."]
    texts, _ = TorchEncoders(other, second.tokenizer, bfloat16=False).texts(caption)
    image = encoders.images(np.zeros((1, 64, 64, 3), np.uint8))[0]
    flat = corrected.flat
    plain = F.normalize(torch.from_numpy(encoders.texts(caption)[0]) @ flat, dim=1)
    pixel = F.normalize(torch.from_numpy(image) @ flat, dim=1)
    limit = corrected.limit
    terms = [t.clamp(-limit, limit) for t in (corrected.term(pixel), other.text.term(plain))]
    score = (plain @ pixel.T - terms[0] - terms[1].T) / (1 + 2 * limit)
    found = texts @ corrected.correct(torch.from_numpy(image)).numpy().T
    np.testing.assert_allclose(found, score.numpy(), atol=1e-5)


def corrected_images(model, tokenizer, spoken: Path):
    """The corrected image graph of the first text encoder's bundle."""
    graphs = Graphs.of(model)
    encoders = TorchEncoders(graphs, tokenizer, bfloat16=False)
    return correct_hubs(graphs, encoders, read_shards(str(spoken))).image


def test_a_text_encoder_of_other_images_or_the_same_language_is_refused(
    spoken: Path, tmp_path: Path, tokenizer
):
    run = trainer(spoken, tmp_path / "run", tokenizer, second=SECOND)
    save(tmp_path / "model.pt", run.average.checkpoint() | {"tokenizer": tokenizer.to_str()})
    export_second_text(tmp_path / "model.pt", tmp_path / "others", "", "1.0.0")
    with pytest.raises(ValueError, match="is for de, zh, which .* has already"):
        add_text_encoder(tmp_path / "others", tmp_path / "others")
    export_bundle(tmp_path / "model.pt", tmp_path / "first", None, "", "1.0.0")
    recorded = json.loads((tmp_path / "others" / "goldens.json").read_text())
    recorded["image"]["embedding"].reverse()
    (tmp_path / "others" / "goldens.json").write_text(json.dumps(recorded))
    manifest = json.loads((tmp_path / "others" / "manifest.json").read_text())
    manifest.pop("files")
    write_manifest(tmp_path / "others", manifest)
    with pytest.raises(ValueError, match="embed an image differently; expected one encoder"):
        add_text_encoder(tmp_path / "first", tmp_path / "others")


def test_a_checkpoint_without_a_second_text_encoder_is_refused(model, tmp_path: Path):
    save(tmp_path / "model.pt", model.checkpoint())
    with pytest.raises(
        ValueError,
        match=r"model.pt has no second text encoder: its recipe had no table \[second_text\]",
    ):
        export_second_text(tmp_path / "model.pt", tmp_path / "others", "", "1.0.0")
