"""Write docs/survey.md and docs/survey.zh.md, a walk through the systems, from the recipes.

python -m tandem_training.survey

The prose is recipes/survey.toml; everything else comes from each recipe's table `[system]` and from
the parts and objectives that it names."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from .models.registry import part_of
from .objectives.registry import OBJECTIVES
from .recipe import Recipe, read_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
DOCS = RECIPES.parents[1] / "docs"
PAGES = {"en": DOCS / "survey.md", "zh": DOCS / "survey.zh.md"}
WORDS = {  # of each language, beside the prose
    "en": {"recipe": "Recipe", "lines": "lines", "parts": "Parts", "objectives": "Objectives",
           "serves": "Serves as", "row": "measured in [its row](recipes.md)", "has": "Also has",
           "lacks": "Lacks", "memory": "From memory", "of": "by",
           "count": "{} systems in {} recipes.",
           "other": "[中文](survey.zh.md)", "roles": ["Vision", "Text", "Fusion"]},
    "zh": {"recipe": "配方", "lines": "行", "parts": "部件", "objectives": "目标",
           "serves": "服务方式", "row": "测量结果见[其所在行](recipes.md)",
           "count": "共 {} 个系统，{} 个配方。", "of": "各系统",
           "other": "[English](survey.md)", "roles": ["视觉", "文本", "融合"]},
}  # fmt: skip
WRITTEN = "<!-- Written by `python -m tandem_training.survey`; edit the recipes instead. -->"


@dataclass
class Entry:
    """A recipe of the taxonomy."""

    path: Path
    recipe: Recipe

    @property
    def name(self) -> str:
        return self.recipe.system.name

    @property
    def anchor(self) -> str:
        return self.path.stem


def recipe_files() -> list[Path]:
    """The files of the recipes that stand for a system."""
    paths = [p for p in sorted(RECIPES.glob("*/*.toml")) if p.stem != "family"]
    return [path for path in paths if "[system]" in path.read_text()]


def representatives() -> list[Path]:
    """Of those the few that represent their families, in the order of survey.toml."""
    by_name = {path.stem: path for path in recipe_files()}
    return [by_name[name] for name in _prose()["representatives"]]


def entries() -> list[Entry]:
    """Every recipe that stands for a system, by family and year."""
    entries = [Entry(path, read_recipe(path)) for path in recipe_files()]
    return sorted(entries, key=lambda e: (e.recipe.system.year, e.name))


def _prose() -> dict:
    return tomllib.loads((RECIPES / "survey.toml").read_text())


def source_of(kind: type) -> str:
    """A link to the file of a part or an objective."""
    path = "training/" + kind.__module__.replace(".", "/") + ".py"
    return f"[`{kind.name}`](../{path})"


def page(language: str) -> str:
    """The Markdown page of a language."""
    prose, words = _prose(), WORDS[language]
    every = entries()
    blocks = [f"# {prose['title'][language]}", WRITTEN, words["other"], prose["intro"][language]]
    # A stage of a system has its name and what it adds: "VLMo, stage 1".
    systems = {entry.name.split(", ")[0] for entry in every}
    counted = words["count"].format(len(systems), len(every))
    blocks += [prose["serve"][language], counted]
    families = dict.fromkeys([*prose["family"], *(e.path.parent.name for e in every)])
    for family in families:
        own = [entry for entry in every if entry.path.parent.name == family]
        if own:
            title, text = prose["family"].get(family, {}).get(language, (family, ""))
            blocks += [f"## {title}", text, *(_system(entry, language) for entry in own)]
    for role, title in zip(("vision", "text", "fusion"), words["roles"], strict=True):
        kinds = {e.anchor: [part_of(role, getattr(e.recipe.model, role).kind)] for e in every}
        blocks.append(_index(f"{title}: {words['of']}", every, kinds))
    kinds = {e.anchor: [OBJECTIVES[n] for n in e.recipe.objectives] for e in every}
    blocks.append(_index(f"{words['objectives']}: {words['of']}", every, kinds))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _system(entry: Entry, language: str) -> str:
    system, words, recipe = entry.recipe.system, WORDS[language], entry.recipe
    file = entry.path.relative_to(RECIPES.parents[1])
    count = len(entry.path.read_text().splitlines())
    at = system.source.removeprefix("arXiv:")
    source = f"[{system.source}](https://arxiv.org/abs/{at})" if at != system.source else at
    parts = ", ".join(source_of(part_of(r, p.kind)) for r, p in recipe.model.parts().items())
    objectives = ", ".join(source_of(OBJECTIVES[name]) for name in recipe.objectives)
    lines = [
        f'### <a id="{entry.anchor}"></a>{system.name} ({system.year})',
        f"*{system.paper}*, {source}. {words['recipe']}: [{file.name}](../{file}) ({count} "
        f"{words['lines']}). {words['parts']}: {parts}. {words['objectives']}: {objectives}. "
        f"{words['serves']}: **{system.serve}**; {words['row']}.",
    ]
    if language == "en":
        lines.append("\n".join(f"- {trait}" for trait in system.traits))
        for key in ("has", "lacks", "memory"):
            if values := getattr(system, key):
                lines.append(f"{words[key]}: {'; '.join(values)}.")
    return "\n\n".join(lines)


def _index(title: str, every: list[Entry], kinds: dict[str, list[type]]) -> str:
    """Which systems have each kind."""
    known = dict.fromkeys(kind for found in kinds.values() for kind in found)
    rows = []
    for kind in sorted(known, key=lambda kind: kind.name):
        links = [f"[{e.name}](#{e.anchor})" for e in every if kind in kinds[e.anchor]]
        rows.append(f"- {source_of(kind)}: {', '.join(links)}")
    return f"## {title}\n\n" + "\n".join(rows)


def main() -> None:
    for language, path in PAGES.items():
        path.write_text(page(language))


if __name__ == "__main__":
    main()
