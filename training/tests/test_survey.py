"""docs/survey.md and its Chinese page are those of the recipes, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

from support.models import FILES, NAMES
from tandem_training.survey import PAGES, page


@pytest.mark.parametrize("language", PAGES)
def test_the_page_is_the_one_that_the_recipes_give(language: str):
    assert PAGES[language].read_text() == page(language), (
        "run: python -m tandem_training.survey (in training/)"
    )


@pytest.mark.parametrize("language", PAGES)
def test_every_system_has_its_recipe_and_every_link_leads_somewhere(language: str):
    text, path = PAGES[language].read_text(), Path(PAGES[language])
    for name in NAMES:
        assert f'<a id="{name}"></a>' in text
        assert f"](../training/recipes/{FILES[name].parent.name}/{name}.toml)" in text
    anchors = set(re.findall(r'<a id="([^"]+)">', text))
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://arxiv.org/abs/"):
            assert (path.parent / link).is_file(), link
