"""What every benchmark shares: taking turns, medians, goals, and one JSON document on standard output.

Absolute figures drift between machines and minutes, so cases take turns within one run and goals are ratios against a peer.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn of one case: how much it did, and what that cost. `amount` is in the case's own unit (rows, MB)."""

    amount: float
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over the turns of one case."""

    name: str
    turns: int
    amount: float
    per_s: float
    per_cpu_s: float
    wall_s: float

    def row(self, unit: str, **more: Any) -> dict[str, Any]:
        """Return the result row."""
        figures = {f"{unit}_per_s": round(self.per_s, 2), f"{unit}_per_cpu_s": round(self.per_cpu_s, 2)}
        return {
            "case": self.name,
            "turns": self.turns,
            unit: round(self.amount, 2),
            "seconds": round(self.wall_s, 4),
            **figures,
            **more,
        }


def measure(work: Callable[[], float]) -> Sample:
    """Run `work`, which returns how much it did, and take wall and processor time of this process, all threads included."""
    wall, cpu = time.perf_counter(), time.process_time()
    amount = work()
    return Sample(amount, time.perf_counter() - wall, time.process_time() - cpu)


def take_turns(cases: Mapping[str, Callable[[], Sample]], rounds: int = ROUNDS) -> dict[str, Timing]:
    """Run every case once per round, the order reversed every other round, and return each one's medians."""
    taken: dict[str, list[Sample]] = {name: [] for name in cases}
    for turn in range(rounds):
        names = list(cases) if turn % 2 == 0 else list(cases)[::-1]
        for name in names:
            taken[name].append(cases[name]())
    return {name: _timing(name, samples) for name, samples in taken.items()}


def goal(name: str, text: str, value: float, met: bool) -> dict[str, Any]:
    """Return one goal's entry."""
    return {"name": name, "goal": text, "value": round(value, 4), "met": bool(met)}


def machine() -> dict[str, Any]:
    """Describe the machine by what matters for the figures, and nothing that names it."""
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def main(name: str, description: str, run: Callable[[bool], tuple[list[dict[str, Any]], list[dict[str, Any]]]]) -> None:
    """Parse `--quick` and `--json`, run, and report; standard output holds nothing but the report."""
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller turns; ends within 50 s")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    arguments = parser.parse_args()
    # Encoders and libraries print to descriptor 1 from C; only the report may reach it.
    real = os.dup(1)
    os.dup2(2, 1)
    start = time.perf_counter()
    results, goals = run(arguments.quick)
    sys.stdout.flush()
    os.dup2(real, 1)
    report = {
        "name": name,
        "machine": machine(),
        "seconds": round(time.perf_counter() - start, 1),
        "results": results,
        "goals": goals,
    }
    print(json.dumps(report) if arguments.json else _text(report), flush=True)


def _timing(name: str, samples: Sequence[Sample]) -> Timing:
    return Timing(
        name,
        len(samples),
        statistics.median(s.amount for s in samples),
        statistics.median(s.amount / s.wall_s for s in samples),
        statistics.median(s.amount / max(s.cpu_s, 1e-9) for s in samples),
        statistics.median(s.wall_s for s in samples),
    )


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open() as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    except OSError:
        return platform.machine()


def _text(report: Mapping[str, Any]) -> str:
    lines = [f"{report['name']}: {report['seconds']} s on {report['machine']['cpus']} x {report['machine']['processor']}"]
    lines += ["  " + ", ".join(f"{k} {v}" for k, v in row.items()) for row in report["results"]]
    lines += [f"  {'met' if g['met'] else 'MISSED'}: {g['name']} = {g['value']} (goal {g['goal']})" for g in report["goals"]]
    return "\n".join(lines)
