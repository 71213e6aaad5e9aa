"""What defines the recipes with a shared backbone, beyond their parts in models/test_shared.py."""

import pytest

from support.models import FILES, moved
from tandem_training.recipe import read_recipe


def test_the_second_stage_of_vlmo_moves_the_feed_forwards_of_texts_alone(run):
    """VLMo (arXiv:2111.02358), section 3.3."""
    stack = {n for n in moved(run("vlmo-text")) if n.startswith("vision.")}
    assert stack and all(".feed.text." in n or ".norm2.text." in n for n in stack)


def test_the_first_stage_of_vlmo_moves_attention_and_the_feed_forwards_of_images(run):
    names = moved(run("vlmo-image"))
    assert any(".qkv." in n for n in names) and any(".feed.image." in n for n in names)
    assert not any(".text." in n or n.startswith(("text.", "fusion.", "pooler.")) for n in names)


def test_the_stages_of_vlmo_and_beit_3_go_on_from_one_another():
    starts = {name: read_recipe(FILES[name]).train.start for name in FILES}
    assert starts["vlmo-text"] == "runs/vlmo-image" and starts["vlmo"] == "runs/vlmo-text"
    assert starts["beit3-retrieval"] == "runs/beit3"
    first = read_recipe(FILES["vlmo-image"]).model
    assert first == read_recipe(FILES["vlmo-text"]).model == read_recipe(FILES["vlmo"]).model


def test_ufo_computes_one_task_a_step(run):
    """UFO (arXiv:2111.10023), section 3.2."""
    ufo = run("ufo")
    drawn = [set(ufo.train_step()) - {"loss"} for _ in range(8)]
    assert all(len(names) == 1 for names in drawn)
    assert set.union(*drawn) == {"itc", "itm", "mlm"}


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("beit3", {"image_mim": 0.4, "text_mlm": 0.15, "mlm": 0.5}),
        ("vl-beit", {"image_mim": 0.4, "mim": 0.4, "text_mlm": 0.15, "mlm": 0.5}),
    ],
)
def test_hidden_data_is_all_that_pre_trains(name: str, shares: dict):
    """BEiT-3 (arXiv:2208.10442), section 2.2; VL-BEiT (arXiv:2206.01127), section 2.3."""
    recipe = read_recipe(FILES[name])
    hidden = {n: o.share for n, o in recipe.objectives.items() if hasattr(o, "share")}
    assert hidden == shares and not recipe.train.start
    others = set(recipe.objectives) - hidden.keys()
    assert others == ({"itc", "itm"} if recipe.model.companion else set())


def test_the_companion_of_vl_beit_leaves_the_shared_stack_alone(run):
    vl_beit = run("vl-beit")
    batch = vl_beit.batch(0)
    features = vl_beit._encode(batch.inputs)
    (features["text.embedding"] @ features["image.embedding"].T).square().sum().backward()
    reached = {n for n, p in vl_beit.model.named_parameters() if p.grad is not None}
    assert reached and all(n.startswith(("pooler.", "text.project")) for n in reached)
