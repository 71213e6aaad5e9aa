import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from support.models import FILES, RECIPES, masking_tokenizer, recipe_trainer, small
from tandem_training import compare, survey
from tandem_training.compare import Results, jobs_of, outcome_of, to_train, train_for
from tandem_training.evaluation.comparison import Outcome, Row, page, with_result
from tandem_training.recipe import read_recipe

TINY = """
[data]
train = "{shard}"
dev = "{shard}"
views = 1
word_dropout = 0.0

[vision]
kind = "vit"
image_size = 64
patch = 32
width = 24
heads = 2
layers = 1
token_width = 16

[text]
kind = "causal"
width = 24
heads = 2
layers = 1

[fusion]
kind = "{fusion}"

[objectives]
{objectives}

[train]
batch = 8
"""


def outcome(
    name: str, shard: Path, tmp_path: Path, tokenizer: Tokenizer, core_seconds: float
) -> Outcome:
    torch.set_num_threads(1)
    tokenizer.add_special_tokens(["[MASK]"])
    recipe = small(name, shard)
    return outcome_of(
        name, recipe, recipe_trainer(recipe, tmp_path / name, tokenizer), core_seconds
    )


def test_more_compute_is_more_steps_and_the_rates_end_at_zero(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch
):
    torch.set_num_threads(1)
    made = recipe_trainer(small("clip", shard), tmp_path / "clip", tokenizer)
    step, clock = made.train_step, 0.0

    def of_three_hundredths() -> dict:
        nonlocal clock
        clock += 0.03
        return step()

    made.train_step = of_three_hundredths
    monkeypatch.setattr("time.process_time", lambda: clock)
    spent = train_for(made, 0.6)
    assert spent >= 0.6
    assert made.step >= made.total - 1 >= 19  # the schedule had come to its end
    group = made.optimiser.groups()[0]
    assert group["lr"] < 0.1 * group["peak"]


def test_what_counts_is_the_time_of_the_processor_and_not_that_of_waiting(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer
):
    torch.set_num_threads(1)
    made = recipe_trainer(small("clip", shard), tmp_path / "clip", tokenizer)
    step, waits = made.train_step, 0.2

    def slow() -> dict:
        time.sleep(waits)
        return step()

    made.train_step, start = slow, time.perf_counter()
    spent = train_for(made, 0.3)
    assert made.step > 1
    assert spent < time.perf_counter() - start - 0.9 * waits * made.step


def test_a_stopped_run_goes_on_from_its_last_state_and_what_it_has_cost_counts(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch
):
    torch.set_num_threads(1)
    monkeypatch.setattr(compare, "SAVE_EVERY", 0.0)
    made = recipe_trainer(small("clip", shard), tmp_path / "clip", tokenizer)
    step, calls = made.train_step, []

    def stopped() -> dict:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step()

    made.train_step = stopped
    with pytest.raises(KeyboardInterrupt):
        train_for(made, 60.0)
    spent = json.loads((tmp_path / "clip" / "spent.json").read_text())["3"]
    again = recipe_trainer(small("clip", shard), tmp_path / "clip", tokenizer)
    assert again.step == 3
    assert train_for(again, spent) == spent  # all of it is spent
    assert again.step == 3
    assert train_for(again, 2 * spent) >= 2 * spent and again.step > 3


def test_the_page_has_a_row_for_each_recipe(shard: Path, tmp_path: Path, tokenizer: Tokenizer):
    rows = []
    for name in ("clip", "albef"):
        found = outcome(name, shard, tmp_path, tokenizer, 0.1)
        rows.append(Row(name, read_recipe(FILES[name]), [found]))
    rows.append(Row("blip", read_recipe(FILES["blip"]), []))
    text = page(rows)
    clip, albef, blip = [line for line in text.splitlines() if line.startswith("| [`")]
    assert clip.startswith("| [`clip`](survey.md#clip) | itc |")
    assert clip.count("–") == 9  # nothing to rerank with
    assert albef.startswith("| [`albef`](survey.md#albef) | itc · itm · mlm |")
    assert "–" not in albef
    assert "| not measured | –" in blip
    (random,) = [line for line in text.splitlines() if line.startswith("| random order")]
    assert "12.5/62.5/100.0" in random  # of 8 photos
    assert "2 of 3 recipes are measured" in text
    assert {line.count("|") for line in (clip, albef, blip, random)} == {18}
    assert "0 of 1 recipes are measured." in page(rows[2:])


def test_the_header_of_a_recipe_gets_the_measured_result(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer
):
    found = outcome("clip", shard, tmp_path, tokenizer, 0.1)
    text = (FILES["clip"]).read_text()
    once = with_result(text, found)
    assert f"# Cost and result: {found.core_minutes} core-minutes" in once
    assert with_result(once, found) == once
    recipes = shutil.copytree(RECIPES, tmp_path / "recipes")
    copied = recipes / FILES["clip"].relative_to(RECIPES)
    copied.write_text(once)
    assert read_recipe(copied) == read_recipe(FILES["clip"])
    with pytest.raises(ValueError, match="clip has no line"):
        with_result("[data]\n", found)


def test_recipes_that_others_start_from_come_first_and_are_started_from(tmp_path: Path):
    jobs = jobs_of([FILES["git"], FILES["siglip"], FILES["vlmo"]], 1.0, range(2), tmp_path)
    names = ["siglip", "git", "vlmo-image", "vlmo-text", "vlmo"]
    assert [job.name for job in jobs] == [*names, *(f"{name}.1" for name in names)]
    starts = {job.name: job.before and job.before.name for job in jobs}
    assert starts["git"] == "siglip" and starts["git.1"] == "siglip.1"
    assert starts["vlmo"] == "vlmo-text" and starts["siglip"] is None
    assert len({job.key for job in jobs}) == len(jobs)


def test_a_result_depends_on_the_recipe_that_it_starts_from_and_not_on_a_folder(tmp_path: Path):
    def keys() -> dict[str, str]:
        return {job.name: job.key for job in jobs_of([FILES["git"]], 1.0, [0], tmp_path)}

    before = keys()
    (siglip, git) = jobs_of([FILES["git"]], 1.0, [0], tmp_path / "elsewhere")
    assert {"siglip": siglip.key, "git": git.key} == before
    other = tmp_path / "siglip.toml"
    other.write_text(f'extends = "{FILES["siglip"]}"\n[system]\nyear = 2024\n')
    assert jobs_of([FILES["git"], other], 1.0, [0], tmp_path)[1].key == before["git"]
    other.write_text(f'extends = "{FILES["siglip"]}"\n[train]\nbatch = 128\n')
    assert jobs_of([FILES["git"], other], 1.0, [0], tmp_path)[1].key != before["git"]


def test_a_measured_recipe_is_trained_again_if_another_starts_from_it_and_its_model_is_gone(
    shard: Path, tmp_path: Path, tokenizer: Tokenizer
):
    found = outcome("clip", shard, tmp_path, tokenizer, 0.1)
    results = Results(tmp_path / "page.md")
    siglip, git, clip = jobs = jobs_of([FILES["git"], FILES["clip"]], 1.0, [0], tmp_path / "out")
    for job in (siglip, clip):
        results.add(job, replace(found, key=job.key))
    results = Results(tmp_path / "page.md")  # as another process reads them
    assert [job.name for job in to_train(jobs, results)] == ["siglip", "git"]
    siglip.folder.mkdir(parents=True)
    (siglip.folder / "model.pt").touch()
    (siglip.folder / "key").write_text(siglip.key)
    assert [job.name for job in to_train(jobs, results)] == ["git"]
    results.add(git, replace(found, key=git.key))
    assert to_train(jobs, results) == []


def test_representatives_come_first_and_alone_have_further_seeds(tmp_path: Path, monkeypatch):
    seen = []
    monkeypatch.setattr(compare, "to_train", lambda jobs, _: seen.extend(jobs) or [])
    arguments = ["--seeds", "2", "--out", str(tmp_path / "out"), "--page", str(tmp_path / "p.md")]
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    compare.main()
    names = [job.name for job in seen]
    first = [path.stem for path in survey.representatives()]
    assert len(first) >= 12
    asked = [name for name in names if name in first]
    assert asked == first
    every = {path.stem for path in survey.recipe_files()}
    again = [name for name in names if "." in name]
    assert {name for name in names if "." not in name} == every
    assert {f"{name}.1" for name in first} <= set(again) and len(again) < len(every) / 2
    assert names.index("albef") < names.index("tcl")


@pytest.fixture
def tiny(shard: Path, tmp_path: Path, monkeypatch):
    """Two recipes and a call of the command over them."""
    torch.set_num_threads(1)
    folder = tmp_path / "recipes"
    folder.mkdir()
    objectives = {"one": "itc = { soft_mix = 0.0 }", "two": "itm = { negatives = 1 }"}
    for name, fusion in (("one", "none"), ("two", "single_stream")):
        text = TINY.format(shard=shard, fusion=fusion, objectives=objectives[name])
        (folder / f"{name}.toml").write_text("# Cost and result: not measured yet.\n" + text)
    monkeypatch.setattr(compare, "starting_tokenizer", lambda _: masking_tokenizer())
    monkeypatch.setattr(survey, "recipe_files", lambda: [FILES["clip"]])

    def run() -> str:
        arguments = [*map(str, sorted(folder.glob("*.toml"))), "--minutes", "0.002"]
        arguments += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
        arguments += ["--page", str(tmp_path / "page.md")]
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        compare.main()
        return (tmp_path / "page.md").read_text()

    return run


def rows_of(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line.startswith(("| `", "| [`"))]
    return {line.split("`")[1]: line for line in lines}


def test_a_comparison_goes_on_with_what_is_not_measured(tiny, tmp_path: Path, monkeypatch):
    measure = compare.measure

    def broken(job, cache) -> Outcome:
        if job.name == "two":
            raise ValueError("no such data")
        return measure(job, cache)

    monkeypatch.setattr(compare, "measure", broken)
    with pytest.raises(SystemExit, match="two: no such data"):
        tiny()
    rows = rows_of((tmp_path / "page.md").read_text())
    assert rows.keys() == {"clip", "one", "two"}
    assert "not measured" in rows["two"] and "not measured" in rows["clip"]
    assert "not measured" not in rows["one"]
    monkeypatch.setattr(compare, "measure", measure)
    before = (tmp_path / "out" / "one" / "model.pt").stat().st_mtime_ns
    rows = rows_of(tiny())
    assert "not measured" not in rows["one"] + rows["two"] and "not measured" in rows["clip"]
    assert (tmp_path / "out" / "one" / "model.pt").stat().st_mtime_ns == before  # not trained again
    assert (tmp_path / "out" / "two" / "model.pt").exists()
    assert not (tmp_path / "out" / "two" / "last.pt").exists()
    assert (tmp_path / "page.png").exists()
    assert "core-minutes" in (tmp_path / "recipes" / "two.toml").read_text()


def test_a_recipe_that_has_changed_is_not_measured(tiny, tmp_path: Path):
    tiny()
    file = tmp_path / "recipes" / "one.toml"
    file.write_text(file.read_text().replace("batch = 8", "batch = 4"))
    (job,) = jobs_of([file], 0.002, [0], tmp_path / "out")
    assert Results(tmp_path / "page.md").of(job) is None
    tiny()
    assert Results(tmp_path / "page.md").of(job) is not None


def test_results_of_recipes_that_are_not_named_stay_on_the_page(tiny, tmp_path: Path, monkeypatch):
    tiny()
    arguments = [str(tmp_path / "recipes" / "one.toml"), "--minutes", "0.002"]
    arguments += ["--out", str(tmp_path / "elsewhere"), "--page", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    monkeypatch.setattr(survey, "recipe_files", lambda: sorted((tmp_path / "recipes").glob("*")))
    compare.main()
    rows = rows_of((tmp_path / "page.md").read_text())
    assert rows.keys() == {"one", "two"} and "not measured" not in "".join(rows.values())
    assert not list((tmp_path / "elsewhere").iterdir())  # nothing was trained
