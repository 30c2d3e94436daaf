"""Where something came from and what became of it, answered by SQL over the catalog alone; the statements are part of the answer.

Backwards: a sample of a mixture names an episode, an episode its recording and dataset, a dataset its source, adapter and licence, and
every row the unit that wrote it. Forwards: an episode's side tables, scores, decisions, the mixtures that hold it and their exports.
"""
# ruff: noqa: S608 (ids are checked hashes, names are checked slugs, and polars can only read)

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from catalog.lake import Lake
from catalog.query import Query
from catalog.tables import Catalog
from pipelines.mixture.manifest import open_mixture
from schemas.errors import UnknownNameError, UsageError
from schemas.shards import stored_shard

type Way = Literal["back", "forward"]

_EPISODE = re.compile(r"^ep-[0-9a-f]{20}$")
_MIXTURE = re.compile(r"^(?:mixture:)?(?P<name>[a-z0-9][a-z0-9_.-]*)(?:@(?P<hash>[0-9a-f]+))?(?::(?P<sample>[0-9]+))?$")


@dataclass(frozen=True, slots=True)
class Step:
    """One answer: what was asked, in which direction it looks, the statement, and its rows."""

    title: str
    way: Way
    sql: str
    rows: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is known of one episode, mixture or sample. `what` says which it is, in words."""

    what: str
    steps: tuple[Step, ...]

    @property
    def sources(self) -> list[str]:
        """Every source uri it comes from."""
        found = [step.rows["source_uri"] for step in self.steps if "source_uri" in step.rows.columns]
        return sorted({uri for column in found for uri in column if uri is not None})


def lineage(lake: Lake, what: str) -> Lineage:
    """Trace an episode (`ep-...`), a mixture (`name`, `name@hash`), or a sample of one (`name@hash:number`).

    Raises:
        UsageError: `what` is none of these.
        UnknownNameError: the lake does not know it.
    """
    if _EPISODE.match(what):
        return _episode(lake, what)
    if (named := _MIXTURE.match(what)) is None:
        raise UsageError(f"{what!r} is not an episode (ep-...), a mixture (name or name@hash) or a sample (name@hash:number)")
    mixture = open_mixture(lake, named["name"], named["hash"])
    if named["sample"] is None:
        return _mixture(lake, mixture.name, mixture.hash)
    number, size = int(named["sample"]), len(mixture.plan)
    if number >= size:
        raise UsageError(f"{mixture.name}@{mixture.hash} has samples 0 to {size - 1}, not {number}")
    draw = mixture.plan.draw([number])
    source = mixture.plan.sources[int(draw.source[0])].name
    rows, steps = mixture.index.find(source, "train", np.asarray(draw.item, np.int64))
    row = mixture.index.row(int(rows[0]))
    found = _episode(lake, row.episode_id)
    return Lineage(f"sample {number} of {mixture.name}@{mixture.hash}: step {int(steps[0])} of {found.what}", found.steps)


def _episode(lake: Lake, episode: str) -> Lineage:
    ask = _asker(lake)
    recording = ask(
        "recording", "back",
        "SELECT episode_id, key, uri AS source_uri, content_hash, shard, dataset, licence, unit FROM episodes "
        f"WHERE episode_id = '{episode}'",
    )  # fmt: skip
    if recording.rows.is_empty():
        raise UnknownNameError(f"the lake {lake.root} has no episode {episode}; `cotrain ls episodes` lists them")
    row = recording.rows.row(0, named=True)
    shown, mixtures = row["shard"], f"SELECT name, hash FROM mixture_index WHERE episode_id = '{episode}'"
    steps = (
        recording,
        ask("dataset", "back", "SELECT dataset, uri AS source_uri, adapter, adapter_version, kind, embodiment, licence FROM datasets "
            f"WHERE dataset = '{row['dataset']}'"),
        ask("shard", "back", f"SELECT uri, kind, blake3, bytes, unit FROM shards WHERE shard = '{stored_shard(shown)}'"),
        ask("run", "back", f"SELECT unit, run, stage, host, seconds, committed_ns FROM runs WHERE unit = '{row['unit']}'"),
        ask("versions", "back", "SELECT content_hash, shard, unit, committed_ns FROM episodes_history "
            f"WHERE episode_id = '{episode}' ORDER BY committed_ns"),
        ask("annotations", "forward", f"SELECT annotator, fingerprint, uri, rows, coverage, unit FROM annotations WHERE shard = '{shown}'"),
        ask("scores", "forward", "SELECT method, fingerprint, count(*) AS rows FROM scores "
            f"WHERE episode_id = '{episode}' GROUP BY method, fingerprint ORDER BY method"),
        ask("decisions", "forward", f"SELECT curation, keep, gate, reason FROM decisions WHERE episode_id = '{episode}'"),
        ask("residuals", "forward", f"SELECT teacher, cache_key, mode, uri FROM residuals WHERE source_shard = '{shown}'"),
        ask("mixtures", "forward", "SELECT DISTINCT name, hash, source, split FROM mixture_index "
            f"WHERE episode_id = '{episode}' ORDER BY name, hash"),
        ask("exports", "forward", "SELECT p.uri, p.format, p.verified, p.content_hash FROM publications p "
            f"JOIN (SELECT DISTINCT name, hash FROM ({mixtures})) m ON p.mixture = m.name AND p.mixture_hash = m.hash"),
    )  # fmt: skip
    return Lineage(f"episode {episode} of {row['dataset']}", steps)


def _mixture(lake: Lake, name: str, digest: str) -> Lineage:
    ask, here = _asker(lake), f"name = '{name}' AND hash = '{digest}'"
    steps = (
        ask("mixture", "back", f"SELECT name, hash, uri, samples, episodes, pins, unit FROM mixtures WHERE {here}"),
        ask("sources", "back",
            "SELECT i.source, i.dataset, d.uri AS source_uri, d.adapter, d.adapter_version, d.licence, "
            "count(DISTINCT i.episode_id) AS episodes, sum(i.steps) AS steps "
            f"FROM (SELECT * FROM mixture_index WHERE {here}) i LEFT JOIN datasets d ON i.dataset = d.dataset "
            "GROUP BY i.source, i.dataset, d.uri, d.adapter, d.adapter_version, d.licence ORDER BY i.source, i.dataset"),
        ask("recordings", "back",
            f"SELECT DISTINCT e.episode_id, e.uri AS source_uri, e.key FROM episodes e JOIN (SELECT episode_id FROM mixture_index WHERE {here}) i "
            "ON e.episode_id = i.episode_id ORDER BY e.episode_id"),
        ask("run", "back", "SELECT r.unit, r.run, r.stage, r.host, r.committed_ns FROM runs r "
            f"JOIN (SELECT unit FROM mixtures WHERE {here}) m ON r.unit = m.unit"),
        ask("exports", "forward",
            f"SELECT uri, format, verified, content_hash FROM publications WHERE mixture = '{name}' AND mixture_hash = '{digest}'"),
    )  # fmt: skip
    return Lineage(f"mixture {name}@{digest}", steps)


def _asker(lake: Lake) -> Callable[[str, Way, str], Step]:
    query = Query(Catalog(lake))
    return lambda title, way, sql: Step(title, way, sql, query.sql(sql))
