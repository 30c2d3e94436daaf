"""Auditing a cache: compute a hundredth of it again, and say how exact, how stale and how noisy it is.

Exactness asks whether the same parts still give the same bits. Staleness asks whether the residual still describes a student that
has changed since: s = |v_now - v_cached| / |r|. The signal-to-noise ratio compares what is stored with a float32 forward.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.tables import Catalog
from pipelines.residuals.compute import compute
from pipelines.residuals.keys import EpisodeRef
from pipelines.residuals.precision import LEAST_DB, exact_residual, snr_db
from pipelines.residuals.reading import Part, split
from pipelines.residuals.stage import CacheStage
from pipelines.residuals.store import Cache, open_cache
from schemas.errors import UsageError
from schemas.ids import short_id
from transforms.noise import seed_of

Verdict = Literal["ok", "warn", "refuse"]
WARN, REFUSE = 0.1, 0.5  # staleness
RELATIVE = 1e-3  # float16 against float32
CHECKED = {
    "frozen_pair": ("residual", "v_base"), "frozen_teacher_live_student": ("v_teacher",), "online": ("seed", "tau_a"),
    "regression": ("residual", "a_base"), "logits": ("token_ids", "token_logp"), "hidden": ("hidden",), "error": ("error", "a_base"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        teacher: its id.
        key: of the audited cache.
        same_key: whether the present teacher has that key; False: the weights or anything else have changed since.
        rows: computed again.
        share: of the cache's rows.
        identical: share of these rows whose stored values came out bit for bit.
        worst: largest difference between stored and new values, relative to the mean size of the stored ones.
        staleness: |v_now - v_cached| / |r|; None where the mode keeps no student.
        snr_db: of the stored residual against a float32 forward; None where the mode keeps no residual.
        verdict: `refuse`: do not train on it; `warn`: compute it again soon.
        reasons: for anything but `ok`.
    """

    teacher: str
    key: str
    same_key: bool
    rows: int
    share: float
    identical: float
    worst: float
    staleness: float | None
    snr_db: float | None
    verdict: Verdict
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


def audit(stage: CacheStage, key: str | None = None, share: float = 0.01) -> Audit:
    """Compute a share of a cache again with the present teacher and compare.

    Args:
        stage: the teacher, the mixture and the configuration.
        key: the cache to audit, or the beginning of its key; None: the stage's own.
        share: of the rows, in whole parts, at least one.

    Raises:
        UsageError: there is no such cache, or it holds other draws than the configuration makes.
    """
    cache = _opened(stage, key)
    parts = _chosen(stage, cache, share)
    seen = _Seen()
    for ref, frames in parts:
        part = stage.readers[ref.dataset].read(ref, frames)
        rows, _ = compute(stage.teacher, stage.config, part)
        seen.compare(stage, cache, part, rows)
    return seen.result(stage, cache)


@dataclass
class _Seen:
    rows: int = 0
    same: int = 0
    worst: float = 0.0
    moved: float = 0.0
    residual: float = 0.0
    noise: float = 0.0
    exact: float = 0.0

    def compare(self, stage: CacheStage, cache: Cache, part: Part, rows: dict[str, npt.NDArray[Any]]) -> None:
        numbers = [cache.row(part.ref.episode_id, f, k) for f in part.frames for k in range(cache.header.draws)]
        held = cache.take([n for n in numbers if n is not None])
        mode = cache.shape.mode
        if not np.array_equal(held["seed"], rows["seed"]):
            raise UsageError(
                f"cache {cache.key[:12]} holds other draws than this configuration makes; give the seed and draws it was made with"
            )
        alike = np.ones(len(numbers), bool)
        for name in CHECKED[mode]:
            old, new = (np.asarray(x).reshape(len(numbers), -1) for x in (held[name], rows[name]))
            alike &= (old == new).all(1)
            size = float(np.abs(old.astype(np.float64)).mean()) or 1.0
            self.worst = max(self.worst, float(np.abs(old.astype(np.float64) - new.astype(np.float64)).max()) / size)
        self.rows += len(numbers)
        self.same += int(alike.sum())
        if stage.config.needs_both():
            base = CHECKED[mode][-1]
            stored = held["residual"].reshape(len(numbers), -1).astype(np.float64)
            now = rows[base].reshape(len(numbers), -1).astype(np.float64)
            self.moved += float(np.square(now - held[base].reshape(len(numbers), -1)).sum())
            self.residual += float(np.square(stored).sum())
            exact = exact_residual(stage.teacher, stage.config, part).astype(np.float64)
            self.exact += float(np.square(exact).sum())
            self.noise += float(np.square(stored - exact).sum())
        elif mode == "frozen_teacher_live_student":
            self._live(cache, numbers, rows)

    def _live(self, cache: Cache, numbers: Sequence[int | None], rows: dict[str, npt.NDArray[Any]]) -> None:
        """Compare the student with its float32 values in the audit rows, the only ones that keep it."""
        size = cache.shape.chunk
        for place, number in enumerate(numbers):
            kept = cache.audited(number or 0)
            if kept is not None and np.isfinite(kept[:size]).all():
                self.moved += float(np.square(rows["audit_fp32"][place, :size].astype(np.float64) - kept[:size]).sum())
                self.residual += float(np.square(kept[size:].astype(np.float64)).sum())

    def result(self, stage: CacheStage, cache: Cache) -> Audit:
        staleness = float(np.sqrt(self.moved / self.residual)) if self.residual else None
        snr = snr_db(self.exact, self.noise) if self.exact else None
        same_key, identical = cache.key == stage.key, self.same / max(self.rows, 1)
        reasons: list[tuple[Verdict, str]] = []
        if same_key and identical < 1 and self.worst > RELATIVE:
            reasons.append(
                ("refuse", f"{1 - identical:.2%} of the rows come out otherwise, by up to {self.worst:.2g} of their size")
            )
        if staleness is not None and staleness > WARN:
            level = "refuse" if staleness > REFUSE else "warn"
            reasons.append((level, f"the student has moved by {staleness:.2f} of the residual; compute the cache again"))
        if same_key and snr is not None and snr < LEAST_DB:
            reasons.append(("refuse", f"the residual has {snr:.1f} dB against float32, less than {LEAST_DB:.0f}"))
        levels = [level for level, _ in reasons]
        verdict: Verdict = "refuse" if "refuse" in levels else "warn" if levels else "ok"
        return Audit(
            cache.teacher, cache.key, same_key, self.rows, self.rows / len(cache), identical, self.worst, staleness, snr, verdict,
            tuple(text for _, text in reasons),
        )  # fmt: skip


def record(stage: CacheStage, found: Audit) -> None:
    """Write an audit's staleness over the cache's rows in the catalog; the same finding once."""
    catalog = Catalog(stage.lake)
    rows = catalog.latest("residuals").filter((pl.col("teacher") == found.teacher) & (pl.col("cache_key") == found.key)).collect()
    fresh = rows.with_columns(staleness=pl.lit(found.staleness, pl.Float64)).drop("unit", "committed_ns")
    catalog.append("residuals", fresh.to_arrow(), short_id("audit", [found.key, stage.key, found.staleness]))


def _opened(stage: CacheStage, key: str | None) -> Cache:
    name = stage.teacher.spec.teacher_id
    cache = open_cache(stage.lake, name, key or stage.key)
    if cache.shape.mode != stage.config.mode or cache.header.draws != stage.config.draws:
        raise UsageError(
            f"cache {cache.key[:12]} has mode {cache.shape.mode} and {cache.header.draws} draws, the audit was asked for "
            f"{stage.config.mode} and {stage.config.draws}; say --mode {cache.shape.mode} --draws {cache.header.draws}"
        )
    return cache


def _chosen(stage: CacheStage, cache: Cache, share: float) -> list[tuple[EpisodeRef, tuple[int, ...]]]:
    """Choose parts by hash until they hold the wanted share of the rows."""
    parts = [
        (ref, frames)
        for ref in stage.episodes()
        if ref.episode_id in cache.episodes
        for frames in split(range(ref.first, ref.stop, stage.config.stride), stage.config.batch)
    ]
    if not parts:
        raise UsageError(f"cache {cache.key[:12]} holds no episode of mixture {stage.mixture}")
    parts.sort(key=lambda p: seed_of("audit", p[0].episode_id, p[1][0]))
    wanted, chosen, rows = share * len(cache), list[tuple[EpisodeRef, tuple[int, ...]]](), 0
    for part in parts:
        if chosen and rows >= wanted:
            break
        chosen.append(part)
        rows += len(part[1]) * stage.config.draws
    return chosen
