"""The nightly upkeep of a lake in one call. Every part of it may run beside working units, and beside itself."""

from dataclasses import dataclass

from catalog.lake import Lake
from catalog.maintain import RETENTION_H, compact, vacuum
from pipelines.sweep import SweepReport, sweep
from pipelines.upkeep.pins import pinned_versions


@dataclass(frozen=True, slots=True)
class MaintainReport:
    """What was done: leftovers removed, per table its files before and after compaction, and its old files removed."""

    swept: SweepReport
    compacted: dict[str, tuple[int, int]]
    vacuumed: dict[str, int]

    @property
    def tables(self) -> list[tuple[str, int | None, int | None, int]]:
        """Per table that changed: its name, its files before and after compaction, how many old files were removed."""
        found = list[tuple[str, int | None, int | None, int]]()
        for name in sorted({*self.compacted, *self.vacuumed}):
            before, after = self.compacted.get(name, (None, None))
            found.append((name, before, after, self.vacuumed.get(name, 0)))
        return found


def maintain(lake: Lake, *, older_than_s: float = 24 * 3600.0, keep_versions_h: float = RETENTION_H) -> MaintainReport:
    """Sweep, compact and vacuum; the union of every pin is taken just before the vacuum.

    A mixture pinned while the vacuum runs names the newest version, whose files are never touched.

    Args:
        lake: which.
        older_than_s: leave temporary files younger than this alone.
        keep_versions_h: how long catalog versions that nothing pins stay readable.
    """
    swept, compacted = sweep(lake, older_than_s=older_than_s), compact(lake)
    return MaintainReport(swept, compacted, vacuum(lake, pinned_versions(lake), older_than_h=keep_versions_h))
