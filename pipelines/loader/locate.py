"""From a position of an order to an episode and a step, and to the neighbours that the order draws along with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.mixture.index import Index, IndexRow, Split
from pipelines.mixture.plan import Order, Plan

KNOWN_ROWS = 1 << 14  # index rows and spans kept as Python values
RUN_STEPS = 32  # a sequential pass decodes this many steps together


@dataclass(frozen=True, slots=True)
class Located:
    """Where one sample lies: `row`, the index's row number `number`, and a step of it. `item` counts those of its source and split."""

    position: int
    row: IndexRow
    step: int
    source: int
    item: int
    number: int


class Locator:
    """Finds samples; safe to share between threads and to send to other processes."""

    def __init__(self, index: Index, order: Order, split: Split) -> None:
        self.index, self.order = index, order
        self.split: Split = split
        self._rows: dict[int, IndexRow] = {}
        self._spans: dict[tuple[int, int], tuple[int, int]] = {}

    def __call__(self, positions: Sequence[int]) -> list[Located]:
        """Return where the samples at `positions` lie.

        Raises:
            IndexError: a position is outside the order.
        """
        draws = self.order.draw(positions)
        rows, steps = np.empty_like(draws.item), np.empty_like(draws.item)
        for number in np.unique(draws.source).tolist():
            mine = draws.source == number
            rows[mine], steps[mine] = self.index.find(self.order.sources[number].name, self.split, draws.item[mine])
        parts = (rows.tolist(), steps.tolist(), draws.source.tolist(), draws.item.tolist())
        return [Located(int(p), self._row(r), s, n, i, r) for p, r, s, n, i in zip(positions, *parts, strict=True)]

    def anywhere(self, source: int, unit: float) -> tuple[IndexRow, int]:
        """Return an episode of a source and a step of it, uniform over the source's steps for `unit` uniform in [0, 1)."""
        name = self.order.sources[source].name
        row, step = self.index.find(name, self.split, np.array([int(unit * self.index.items(name, self.split))]))
        return self._row(int(row[0])), int(step[0])

    def span(self, found: Located) -> tuple[int, int]:
        """Return the steps `[first, stop)` of the sample's episode that the order draws near it."""
        steps, run = found.row.steps, self._run
        if not run:
            return 0, steps
        if isinstance(self.order, Plan):  # whose runs count items, not steps
            key = (found.number, found.item // run)
            known = self._spans.get(key)
            if known is None:
                if len(self._spans) >= KNOWN_ROWS:
                    self._spans.clear()
                known = self._spans[key] = self.index.steps_between(found.number, key[1] * run, (key[1] + 1) * run)
            return known
        first = found.step // run * run
        return first, min(first + run, steps)

    def window_steps(self) -> list[tuple[str, int]] | None:
        """Return the steps that the order has in the air at once, per dataset and source; None: it stays nowhere.

        A source's window is over once the next begins, and threads may still be reading the one while others read the next.
        """
        if isinstance(self.order, Plan) and self.order.locality is None:
            return None
        window = self.order.locality.window if isinstance(self.order, Plan) and self.order.locality else 1
        frame = self.index.frame()
        found: list[tuple[str, int]] = []
        for source in self.order.sources:
            mine = frame.filter((frame["source"] == source.name) & (frame["split"] == self.split))
            longest: Any = mine["steps"].max()
            if longest is not None:
                run = longest if self.index.is_weighted else self._run or longest  # a few copies may span many steps
                blocks = (min(window * run, source.items) + run) if source.items else 0
                found += [(dataset, blocks) for dataset in mine["dataset"].unique()[:1]]
        return found

    @property
    def _run(self) -> int:
        """Steps per block; 0: a block is an episode."""
        if isinstance(self.order, Plan):
            return self.order.locality.block_steps if self.order.locality else 0
        return RUN_STEPS

    def _row(self, number: int) -> IndexRow:
        row = self._rows.get(number)
        if row is None:
            if len(self._rows) >= KNOWN_ROWS:
                self._rows.clear()
            row = self._rows.setdefault(number, self.index.row(number))
        return row
