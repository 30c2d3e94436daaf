"""Everything about running a lake: what a unit costs its scheduler, what a second worker is worth, the catalog, many writers, many units.

Each section is a file of its own, `operations_<name>.py`, that can also be run alone.

    python benchmarks/operations.py [--quick] [--json]
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import main

SECTIONS = ("overhead", "scaling", "catalog", "writers", "scale")


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run every section, one after the other."""
    results, goals = list[dict[str, Any]](), list[dict[str, Any]]()
    for name in SECTIONS:
        rows, met = import_module(f"benchmarks.operations_{name}").run(quick)
        results += [{"section": name, **row} for row in rows]
        goals += met
    return results, goals


if __name__ == "__main__":
    main("operations", (__doc__ or "").splitlines()[0], run)
