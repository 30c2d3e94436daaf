"""The house's rules, read from the source: who may import whom, what stays light, and what a file may not contain."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS: dict[str, set[str]] = {
    "schemas": set(),
    "transforms": {"schemas"},
    "annotators": {"schemas", "transforms"},
    "catalog": {"schemas"},
    "pipelines": {"schemas", "transforms", "annotators", "catalog"},
    "flows": {"pipelines", "catalog", "schemas"},
}
HEAVY = {
    "torch",
    "torchvision",
    "lerobot",
    "tensorflow",
    "tensorflow_datasets",
    "prefect",
    "metaworld",
    "mujoco",
    "datasets",
    "dask",
    "scipy",
}


def _files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _imports(path: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_the_rooms_below_them(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _files(room)
        for name in _imports(path) & (ROOMS.keys() | {"tests", "benchmarks", "cotrain"})
        if name != room and name not in ROOMS[room]
    }
    assert not wrong


def test_the_direction_check_sees_a_wrong_import(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from pipelines.unit import Unit\n")
    assert _imports(bad) - ROOMS["schemas"] == {"pipelines"}


def test_only_flows_import_prefect() -> None:
    rooms = [r for r in ROOMS if r != "flows"]
    assert not [p for room in rooms for p in _files(room) if "prefect" in _imports(p)]


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    rooms = ("schemas", "transforms", "catalog", "pipelines")
    wrong = {
        f"{path.relative_to(ROOT)}: {sorted(found)}"
        for room in rooms
        for path in _files(room)
        if not path.is_relative_to(ROOT / "pipelines" / "loader") and (found := _imports(path, top_only=True) & HEAVY)
    }
    assert not wrong


def test_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, pipelines.cli; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert not loaded & (HEAVY | {"pyarrow", "polars", "numpy", "av", "deltalake", "rich"})


def test_no_data_is_ever_unpickled() -> None:
    calls = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in ROOMS
        for path in _files(room)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"pickle.load", "pickle.loads", "torch.load"}
        if not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
    }
    assert not calls


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_says_what_it_holds(room: str) -> None:
    assert not [str(p.relative_to(ROOT)) for p in _files(room) if not ast.get_docstring(ast.parse(p.read_text()))]
