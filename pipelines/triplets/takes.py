"""Which simulated episodes show one scene twice with exactly one factor changed, and what that changes, in words."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

# What a factor changes: the kind of edit, and whether that is a change of one thing. Light and camera change everything.
KINDS: Mapping[str, str] = {"colour": "attribute", "object": "attribute", "pose": "location", "distractors": "count"}
RESET = (
    "pose",
    "object",
    "colour",
    "distractors",
)  # factors that takes of their own may differ in; only their first pictures compare
LEAST_PX = 2.0
FAR = 1.5  # times the other axis: a move in one direction


@dataclass(frozen=True, slots=True)
class Take:
    """Two episodes of one scene.

    Attributes:
        source: row of the catalog's `episodes`.
        target: the one with a changed factor.
        factor: which.
        rerendered: whether both show the same states, step by step; otherwise only their first pictures compare.
    """

    source: Mapping[str, Any]
    target: Mapping[str, Any]
    factor: str
    rerendered: bool

    @property
    def single(self) -> bool:
        """Whether that changes exactly one thing."""
        return self.factor in KINDS and (
            self.factor != "distractors" or abs(self._count(self.target) - self._count(self.source)) == 1
        )

    @property
    def kind(self) -> str:
        """The kind of edit; empty where everything changes."""
        return KINDS.get(self.factor, "")

    @property
    def prompt(self) -> str:
        """What was done, in words."""
        label = factors_of(self.target).get(self.factor, {})
        thing = "object"
        match self.factor:
            case "colour":
                return f"make the {thing} {label.get('category', 'another colour')}"
            case "object":
                return f"exchange the {thing} for a {label.get('category', 'another one')}"
            case "pose":
                return f"move the {thing}{self._towards()}"
            case "distractors":
                more = self._count(self.target) - self._count(self.source)
                count = {1: "a distractor", -1: "a distractor"}.get(more, f"{abs(more)} distractors")
                return f"{'add' if more > 0 else 'remove'} {count}"
            case _:
                return {"lighting": "change the light", "camera": "move the camera"}.get(self.factor, f"change the {self.factor}")

    def _towards(self) -> str:
        """Return where the thing goes, where the factor is told in pixels of a picture from above."""
        ends = [factors_of(row).get("pose", {}) for row in (self.source, self.target)]
        if "dx_px" not in ends[1]:
            return ""
        dx, dy = (ends[1][k] - ends[0].get(k, 0.0) for k in ("dx_px", "dy_px"))
        if max(abs(dx), abs(dy)) < max(FAR * min(abs(dx), abs(dy)), LEAST_PX):
            return ""
        if abs(dx) > abs(dy):
            return " to the right" if dx > 0 else " to the left"
        return " down" if dy > 0 else " up"

    def _count(self, row: Mapping[str, Any]) -> int:
        return int(factors_of(row).get("distractors", {}).get("count", 0))


def factors_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the factors an episode says it was recorded with."""
    found = _attributes(row).get("factors")
    return found if isinstance(found, dict) else {}


def find_takes(episodes: pl.DataFrame) -> list[Take]:
    """Return every pair of episodes that differ in one factor, in the order of the rows; each pair once.

    Re-rendered counterfactuals name what they were made of. Plays of one scene (simulator, task, number) with differing factors start
    alike but for that; a colour or a distractor is seen there as well.
    """
    rows = list(episodes.iter_rows(named=True))
    plain = {(r["dataset"], r["key"]): r for r in rows if "counterfactual_of" not in _attributes(r)}
    found = [t for r in rows if (t := _rerendered(r, plain)) is not None]
    scenes: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in plain.values():
        said = _attributes(row)
        if isinstance(said.get("scene"), int) and said.get("simulator"):
            scenes.setdefault((said["simulator"], said.get("task"), said["scene"]), []).append(row)
    for mates in scenes.values():
        found += _siblings(mates)
    return found


def _rerendered(row: Mapping[str, Any], plain: Mapping[tuple[str, str], Mapping[str, Any]]) -> Take | None:
    said = _attributes(row)
    base = plain.get((row["dataset"], str(said.get("counterfactual_of"))))
    factor = said.get("counterfactual_factor")
    return Take(base, row, factor, rerendered=True) if base is not None and isinstance(factor, str) else None


def _siblings(rows: Sequence[Mapping[str, Any]]) -> Iterator[Take]:
    for at, one in enumerate(rows):
        for other in rows[at + 1 :]:
            a, b = factors_of(one), factors_of(other)
            differ = [name for name in {*a, *b} if a.get(name) != b.get(name)]
            if len(differ) == 1 and differ[0] in RESET:
                first, second = (one, other) if differ[0] in b else (other, one)
                yield Take(first, second, differ[0], rerendered=False)


def _attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(row["attributes"]) if row.get("attributes") else {}
