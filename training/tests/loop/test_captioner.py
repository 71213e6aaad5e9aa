import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from support.drawings import write_drawings
from support.models import masking_tokenizer, recipe_trainer, small
from tandem_training import capfilt
from tandem_training.data.samples import read_shards
from tandem_training.data.tokens import pad
from tandem_training.evaluation.retrieval import Scored
from tandem_training.loop.captioner import Captioner, nucleus
from tandem_training.loop.checkpoint import load


@pytest.fixture(scope="module")
def blip(tmp_path_factory) -> Path:
    """The folder of a run of BLIP's recipe with its sizes cut, after 100 steps over eight drawings,
    each of which has a caption that says its colour and shape."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("blip")
    shard = write_drawings(folder / "drawings-0000.tar")
    run = recipe_trainer(small("blip", shard), folder, masking_tokenizer())
    run.total = 100  # steps, at whose end the rate is 0
    for group in run.optimiser.groups():
        group["peak"] = 3e-3
    for _ in range(run.total):
        run.train_step()
    run.average.load_state_dict(run.model.state_dict())
    scored = Scored(run.encoders("en"), run.dev["en"], 8)
    with torch.no_grad():  # so little training leaves all logits on one side of 0
        run.average.fusion.head.bias -= float(np.median(scored.text_to_image.logits))
    run.save_model()
    return folder


def test_words_are_drawn_from_the_fewest_that_sum_to_nine_tenths():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.04, 0.01], [0.01, 0.95, 0.02, 0.01, 0.01]]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([nucleus(logits, generator) for _ in range(400)])
    assert set(drawn[:, 0].tolist()) == {0, 1, 2} and set(drawn[:, 1].tolist()) == {1}
    assert float((drawn[:, 0] == 0).float().mean()) == pytest.approx(0.5 / 0.95, abs=0.08)


def test_a_caption_is_what_the_decoder_says_word_by_word(blip: Path, monkeypatch):
    captioner, seen = Captioner(load(blip)), []

    def likeliest(logits: torch.Tensor, _) -> torch.Tensor:
        seen.append(logits[0])
        return logits.argmax(-1)

    monkeypatch.setattr("tandem_training.loop.captioner.nucleus", likeliest)
    model, (sample, *_) = captioner.model, read_shards(str(blip / "drawings-0000.tar"))
    with torch.inference_mode():
        cells = model.encode_images(torch.from_numpy(captioner.rules.pixels(sample.jpeg))[None])[1]
        (written,) = captioner.write(cells, torch.Generator())
        ids = [captioner.start, *captioner.tokenizer.encode(written, add_special_tokens=False).ids]
        ended = len(ids) < captioner.longest
        row = torch.tensor([ids + [captioner.end] * ended])
        mask = torch.ones_like(row)
        tokens = model.read_words(row, mask)
        states = model.fusion.hidden(tokens, mask, cells, torch.zeros(1, 2).long(), causal=True)[0]
        logits = captioner.head(states, model.text.words)[0]
        logits[:, [0, 1, 2, 14, *range(15, logits.shape[1])]] = float("-inf")  # no words
    assert len(ids) > 1
    assert logits[:-1].argmax(-1).tolist() == row[0, 1:].tolist()
    torch.testing.assert_close(torch.stack(seen), logits[:-1], atol=1e-4, rtol=1e-4)


def test_captions_that_do_not_fit_are_left_out_and_fitting_ones_written(blip: Path):
    captioner = Captioner(load(blip))
    samples = read_shards(str(blip / "drawings-0000.tar"))
    model = captioner.model
    pixels = torch.stack([torch.from_numpy(captioner.rules.pixels(s.jpeg)) for s in samples])
    found = list(captioner.filtered(samples, seed=3))
    with torch.inference_mode():
        cells = model.encode_images(pixels)[1]
        for number, (sample, (fit, own)) in enumerate(zip(samples, found, strict=True)):
            for text in {*sample.captions, own} - {""}:
                ids, mask = pad([captioner.tokenizer.encode(text).ids])
                tokens = model.encode_texts(ids, mask)[1]
                logit = model.fusion(tokens, mask, cells, torch.tensor([[0, number]]))
                assert (text in fit or text == own) == bool(logit > 0)
    kept = sum(len(fit) for fit, _ in found)
    assert 0 < kept < sum(len(sample.captions) for sample in samples)
    assert any(own for _, own in found)
    assert found == list(captioner.filtered(samples, seed=3))
    model.fusion.head.bias.data.fill_(-1e4)
    assert list(captioner.filtered(samples)) == [([], "")] * len(samples)
    model.fusion.head.bias.data.fill_(1e4)
    every = list(captioner.filtered(samples))
    assert [fit for fit, _ in every] == [sample.captions for sample in samples]
    said = {caption for sample in samples for caption in sample.captions}
    assert any(own in said for _, own in every)  # it has learnt to write


def test_the_command_writes_shards_that_training_reads(
    blip: Path, tmp_path: Path, monkeypatch, capsys
):
    given = str(blip / "drawings-0000.tar")
    out = tmp_path / "new" / "blip"
    monkeypatch.setattr(sys, "argv", ["capfilt", str(blip), given, str(out), "--size", "3"])
    capfilt.main()
    samples, before = read_shards(f"{out}-*.tar"), {s.key: s for s in read_shards(given)}
    found = Captioner(load(blip)).filtered(read_shards(given))
    wanted = [[*fit, own] if own else fit for fit, own in found]
    assert [sample.captions for sample in samples] == [texts for texts in wanted if texts]
    assert any(len(set(s.captions) - set(before[s.key].captions)) for s in samples)
    said = capsys.readouterr().out
    assert f"{len(samples)} images in {out}-*.tar" in said
    assert samples and all(before[sample.key].jpeg == sample.jpeg for sample in samples)
    with tarfile.open(f"{out}-0000.tar") as tar:
        name = next(name for name in tar.getnames() if name.endswith(".json"))
        assert json.load(tar.extractfile(name)).keys() == {"captions", "source", "license"}
    with pytest.raises(SystemExit, match="exists; choose another name"):
        capfilt.main()
    monkeypatch.setattr(Captioner, "fits", lambda self, texts, *_: torch.zeros(len(texts)).bool())
    with pytest.raises(SystemExit, match="none of 16 captions fits its image"):
        capfilt.main()


@pytest.mark.parametrize(
    ("name", "message"),
    [("albef", "trained without objective lm"), ("simvlm", "'encoder_decoder' has no matching")],
)
def test_a_run_that_cannot_write_or_judge_is_refused(
    name: str, message: str, shard: Path, tmp_path: Path
):
    run = recipe_trainer(small(name, shard), tmp_path, masking_tokenizer())
    run.save_model()
    with pytest.raises(ValueError, match=message):
        Captioner(load(tmp_path))
