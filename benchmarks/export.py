"""Exporting: LeRobot v3.0 and RLDS, each against its format's own writer.

python benchmarks/export.py [--quick] [--json]
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import lerobot_export, rlds_export
from benchmarks.harness import main


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run every suite. LeRobot's writer is started first: its import takes longer than some suites."""
    with lerobot_export.start_peer(quick) as peer:
        rlds = rlds_export.cases(quick)
        lerobot = lerobot_export.cases(quick, peer)
    return [*lerobot, *rlds], [*lerobot_export.goals(lerobot), *rlds_export.goals(rlds)]


if __name__ == "__main__":
    main("export", __doc__ or "", run)
