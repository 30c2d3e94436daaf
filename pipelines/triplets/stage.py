"""The dataset stage: what was mined for a selection becomes one folder per dataset, Parquet with pictures, loadable by `datasets`.

A pair whose two episodes fall into different splits belongs to neither and is counted, not written.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from annotators.triplets.triplets import Triplets
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.exporters.destination import Destination
from pipelines.exporters.gates import check_licences, check_splits
from pipelines.exporters.splits import SplitMode, assign, split_order
from pipelines.selection import choose
from pipelines.triplets.audit import MOST, audit_page, drawn
from pipelines.triplets.card import card
from pipelines.triplets.contrast import contrasts
from pipelines.triplets.counterfactuals import NAME as COUNTERFACTUAL
from pipelines.triplets.gather import Mined, gather
from pipelines.triplets.pictures import Instant, Pictures
from pipelines.triplets.tables import CONFIGS, ROWS_PER_GROUP, write_contrasts, write_pairs
from pipelines.unit import Output, Unit
from schemas.errors import UsageError
from schemas.ids import digest, unit_id

CODE = "1"
INFO, README, AUDIT = "dataset.json", "README.md", "audit.html"
FORMAT = "triplets"
CONTRAST = "contrast"


@dataclass(frozen=True, slots=True)
class TripletsOptions:
    """How pairs are written.

    Attributes:
        split: who decides which episodes are held out, see `pipelines.exporters.splits`.
        val_share: share of split groups that go to `val` where a hash decides.
        jpeg_quality: of the pictures.
        least_confidence: positives below are left out, with their negatives.
        audited: pairs on the page for a person.
    """

    split: SplitMode = "auto"
    val_share: float = 0.1
    jpeg_quality: int = 95
    least_confidence: float = 0.0
    audited: int = MOST


@dataclass(frozen=True, slots=True)
class TripletsStage:
    """Write the image-pair dataset of a selection.

    Attributes:
        lake: where episodes and side tables are.
        what: see `pipelines.selection.choose`.
        out: folder or URL; every dataset becomes a folder below it.
        annotator: whose side tables; the counterfactuals' were made with the same.
        options: see `TripletsOptions`.
        accepted: restricted licences, or datasets under one, that may be written.
    """

    lake: Lake
    what: str
    out: str
    annotator: Triplets = field(default_factory=Triplets)
    options: TripletsOptions = field(default_factory=TripletsOptions)
    accepted: tuple[str, ...] = ()
    name: str = "triplets"

    def plan(self) -> Sequence[Unit]:
        """One unit per dataset of the selection.

        Raises:
            LicenceError: a restricted licence was not accepted by name.
            LeakageError: the splits are not independent.
            UsageError: nothing was mined for the selection.
        """
        episodes = choose(self.lake, self.what).episodes
        check_licences(episodes, self.accepted)
        check_splits(episodes, self.splits_of(episodes))
        history, units = Catalog(self.lake).scan("publications").collect(), list[Unit]()
        for (dataset,), rows in episodes.group_by("dataset", maintain_order=True):
            folder = Destination.below(self.out, str(dataset)).uri
            content = self._content(rows)
            past = history.filter((pl.col("uri") == folder) & (pl.col("content_hash") == content)).height
            inputs = [content, folder, 0 if Destination(folder).is_current(content) else past]  # as exports: again if it is gone
            name = unit_id(self.name, inputs, None, CODE)
            units.append(
                Unit(
                    name,
                    self.name,
                    str(dataset),
                    f"{dataset} -> {folder}",
                    (folder, content),
                    int(rows["bytes"].sum()),
                    rows.height,
                )
            )
        return units

    def work(self, unit: Unit) -> Output:
        """Write one dataset and give its folder its name.

        Raises:
            UsageError: nothing was mined for it.
            CorruptMediaError: a picture does not decode.
        """
        folder, content = unit.payload
        place = Destination(folder)
        every = choose(self.lake, self.what).episodes
        mined = gather(self.lake, self.annotator, unit.dataset, every)
        if mined.rows.is_empty():
            raise UsageError(
                f"no pairs were mined for {unit.dataset}; `cotrain triplets {unit.dataset} --out ...` mines and writes them"
            )
        with place.workspace() as work:
            info = _Writer(self, unit.dataset, every, work).write(mined)
            place.publish(work, content, (INFO, README))
        files = [f for config in info["files"].values() for f in config.values()]
        count, size = sum(f["rows"] for f in files), sum(f["bytes"] for f in files)
        plan = {"dataset": unit.dataset, "format": FORMAT, "options": asdict(self.options)}
        row = {
            "uri": folder, "format": FORMAT, "mixture": None, "mixture_hash": None, "episodes": unit.episodes, "rows": count, "bytes": size,
            "content_hash": content, "verified": False, "report": json.dumps({"plan": plan, "export": {"counts": info["counts"]}}),
        }  # fmt: skip
        return Output((), {"publications": pa.Table.from_pylist([row])}, (), count, 2 * count, size)

    def splits_of(self, episodes: pl.DataFrame) -> dict[str, str]:
        """Return the split of every episode."""
        found: dict[str, str] = {}
        for _, rows in episodes.group_by("dataset", maintain_order=True):
            found |= assign(rows, self.options.split, self.options.val_share, None, always_val=True)
        return found

    def _content(self, rows: pl.DataFrame) -> str:
        """Identify what a dataset's folder would hold: its episodes, their side tables, the options."""
        listed = Catalog(self.lake).latest("annotations").filter(
            pl.col("annotator").is_in([self.annotator.name, COUNTERFACTUAL]), pl.col("fingerprint") == self.annotator.fingerprint(),
            pl.col("shard").is_in(rows["shard"].unique().to_list()),
        )  # fmt: skip
        tables = listed.select("annotator", "shard", "blake3").sort("annotator", "shard").collect().rows()
        return digest([FORMAT, CODE, sorted(rows["content_hash"].to_list()), tables, asdict(self.options)])


@dataclass
class _Writer:
    """Writes one dataset into an empty folder."""

    stage: TripletsStage
    dataset: str
    episodes: pl.DataFrame
    folder: Path
    places: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    licences: dict[str, str | None] = field(default_factory=dict[str, str | None])

    def __post_init__(self) -> None:
        for name, dataset, shard, licence in self.episodes.select("episode_id", "dataset", "shard", "licence").iter_rows():
            self.places[name], self.licences[name] = (dataset, shard), licence

    def write(self, mined: Mined) -> dict[str, Any]:
        """Write every file and return the content of `dataset.json`."""
        splits = self.stage.splits_of(self.episodes)
        groups = dict(self.episodes.select("episode_id", pl.coalesce("split_group", "episode_id").alias("g")).iter_rows())
        ends = [pl.col(c).replace_strict(splits, return_dtype=pl.String) for c in ("source_episode", "target_episode")]
        rows = mined.rows.with_columns(
            split=ends[0], other=ends[1], context=pl.col("episode_id").replace_strict(groups, return_dtype=pl.String)
        )
        crossing = rows.filter(pl.col("split") != pl.col("other")).height
        rows = self._sure(rows.filter(pl.col("split") == pl.col("other")))
        files: dict[str, dict[str, dict[str, Any]]] = {}
        order = sorted(rows["split"].unique().to_list(), key=split_order)
        for config in CONFIGS:
            for split in order:
                some = rows.filter(pl.col("split") == split, _belongs(config))
                self._file(files, config, split, lambda path, some=some: write_pairs(path, self._pairs(some)))
        positives = rows.filter(pl.col("label") == "positive")
        triples = contrasts(positives)
        where = dict(positives.select("id", "split").iter_rows())
        for split in order:
            some = [asdict(t) for t in triples if where[t.anchor] == split]
            self._file(files, CONTRAST, split, lambda path, some=some: write_contrasts(path, some))
        shown = self._audit(positives)
        about = {**CONFIGS, CONTRAST: "an anchor, the same action elsewhere, another action there: ids"}
        licences = sorted({v for v in self.licences.values() if v})
        info: dict[str, Any] = {
            "format": FORMAT, "dataset": self.dataset, "episodes": len(set(rows["episode_id"].to_list())), "splits": order, "files": files,
            "about": about, "counts": dict(rows.group_by("label").len().sort("label").iter_rows()), "pairs_across_splits": crossing,
            "by_kind": dict(positives.group_by("edit_kind").len().sort("edit_kind").iter_rows()), "refused": mined.refused.to_dicts(),
            "licence": licences[0] if len(licences) == 1 else None, "annotator": self.stage.annotator.settings(),
            "fingerprint": self.stage.annotator.fingerprint(),
        }  # fmt: skip
        (self.folder / README).write_text(card(self.dataset, info, info["refused"], shown))
        (self.folder / INFO).write_text(json.dumps(info, indent=1, sort_keys=True) + "\n")
        return info

    def _sure(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Leave out positives that are not sure enough, and negatives without their positive."""
        label, least = pl.col("label"), self.stage.options.least_confidence
        rows = rows.filter((label != "positive") | (pl.col("confidence") >= least))
        return rows.filter(~label.str.starts_with("neg_") | pl.col("of").is_in(rows["id"].implode()))

    def _file(self, files: dict[str, Any], config: str, split: str, write: Any) -> None:
        path = self.folder / "data" / config / f"{split}-00000.parquet"
        if count := write(path):
            relative = path.relative_to(self.folder).as_posix()
            files.setdefault(config, {})[split] = {"path": relative, "rows": count, "bytes": path.stat().st_size}

    def _pairs(self, rows: pl.DataFrame) -> Iterator[list[dict[str, Any]]]:
        """Yield rows with their pictures, a bounded number at a time, in the order they were mined."""
        pictures = Pictures(self.stage.lake, self.places, self.stage.options.jpeg_quality)
        for start in range(0, rows.height, ROWS_PER_GROUP):
            group = rows[start : start + ROWS_PER_GROUP].to_dicts()
            ends = [(_instant(r, "source"), _instant(r, "target")) for r in group]
            pictures.load(instant for pair in ends for instant in pair)
            yield [self._row(r, pictures, *pair) for r, pair in zip(group, ends, strict=True)]

    def _row(self, row: Mapping[str, Any], pictures: Pictures, source: Instant, target: Instant) -> dict[str, Any]:
        shift = tuple(row["shift"]) if row["shift"] else None
        mask = row["mask_png"]
        return {
            **{k: row[k] for k in ("id", "prompt", "label", "edit_kind", "candidate", "factor", "object", "of", "confidence", "minimality")},
            **{k: row[k] for k in ("source_box", "target_box", "moved", "camera_px", "changed", "ssim_outside")},
            "source": {"bytes": pictures.jpeg(source, shift), "path": None}, "target": {"bytes": pictures.jpeg(target), "path": None},
            "mask": {"bytes": mask, "path": None} if mask else None, "source_ref": self._ref(source), "target_ref": self._ref(target),
            "licence": self.licences[source[0]],
        }  # fmt: skip

    def _ref(self, instant: Instant) -> dict[str, Any]:
        return {"dataset": self.places[instant[0]][0], "episode": instant[0], "camera": instant[1], "t_ns": instant[2]}

    def _audit(self, positives: pl.DataFrame) -> int:
        chosen = drawn(positives.to_dicts(), self.stage.options.audited)
        rows = [row for group in self._pairs(pl.DataFrame(chosen, schema=positives.schema)) for row in group] if chosen else []
        (self.folder / AUDIT).write_text(audit_page(self.dataset, rows, positives.height))
        return len(rows)


def _belongs(config: str) -> pl.Expr:
    """Tell which rows go into a configuration."""
    label = pl.col("label")
    match config:
        case "arm_only":
            return label == "arm_only"
        case "goals":
            return label == "goal"
        case _:
            return (label == "positive") | label.str.starts_with("neg_")


def _instant(row: Mapping[str, Any], end: str) -> Instant:
    return row[f"{end}_episode"], row["camera"], row[f"{end}_ns"]
