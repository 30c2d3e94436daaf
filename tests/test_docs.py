"""The documentation says only what is so: its commands, options, links and tables exist."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pipelines.cli.app import app
from schemas.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
COMMANDS: dict[str, Any] = dict(vars(typer.main.get_command(app))["commands"])
USE = re.compile(r"(?:^|`|\s)cotrain ([a-z][a-z-]*)((?: [^`\n]*)?)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    for block in re.findall(r"```(?:bash|console|sh)?\n(.*?)```|`(cotrain [^`]+)`", page.read_text(), re.DOTALL):
        for name, rest in USE.findall("\n".join(block)):
            assert name in COMMANDS, f"{page.name}: `cotrain {name}` is not a command"
            parts = [COMMANDS[name], *getattr(COMMANDS[name], "commands", {}).values()]
            known = {o for part in parts for p in part.params for o in getattr(p, "opts", [])} | {"--help"}
            used = set(re.findall(r"(?<!\S)(--[a-z-]+)", rest))
            assert used <= known, f"{page.name}: `cotrain {name}` has no {used - known}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    links = [t for t in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in t]
    files = re.findall(r"`((?:schemas|transforms|annotators|catalog|pipelines|flows|tests|docs|benchmarks)/[\w./-]+\.\w+)`", text)
    missing = [t for t in links if not (page.parent / t).exists()] + [f for f in files if not (ROOT / f).exists()]
    assert not missing


def test_every_catalog_table_is_described() -> None:
    text = (ROOT / "docs" / "lake.md").read_text()
    assert not [name for name in TABLES if f"`{name}`" not in text]


def test_make_verbs_named_in_the_readme_exist() -> None:
    verbs = set(re.findall(r"`?make ([a-z-]+)`?", (ROOT / "README.md").read_text()))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert verbs <= targets


def test_nothing_names_a_package_registry() -> None:
    hosts = re.compile(r"p[y]pi\.(org|python)|python[h]osted|registry\.npm[j]s|deb\.debi[a]n")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    ours = [ROOT / name for name in listed if (ROOT / name).is_file()]
    assert ours
    assert not [str(p.relative_to(ROOT)) for p in ours if hosts.search(p.read_text(errors="ignore"))]
