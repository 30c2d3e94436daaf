"""The attempts stage: recordings or traces become attempt trees in the lake, one content-named file per unit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import fsspec
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotations import segment_starts
from pipelines.attempts.recorded import intervention_nodes, read_recorded, retry_nodes
from pipelines.attempts.spoken import correction_nodes
from pipelines.attempts.traces import read_traces
from pipelines.publish import publish_bytes
from pipelines.selection import choose
from pipelines.unit import Output, Reject, Unit
from schemas.attempts import NODES, Node, table
from schemas.errors import DataError, LakeError, UsageError
from schemas.ids import bytes_digest, is_slug, unit_id
from transforms.attempts.tree import open_tree

CODE = "2"  # raise when the nodes made of the same input change
Origin = Literal["interventions", "corrections", "retries", "traces"]


@dataclass(frozen=True, slots=True)
class AttemptsStage:
    """Read attempts of one origin.

    Attributes:
        lake: where episodes are and trees go.
        source: a slug; the trees are listed under it.
        origin: `interventions`, `corrections` and `retries` read episodes of the lake, `traces` a JSONL file.
        what: a selection of episodes, or the file's URL.
        tolerance: retries: how finely initial states are told apart, in the features' own units.
    """

    lake: Lake
    source: str
    origin: Origin
    what: str
    tolerance: float = 1e-3
    name: str = "attempts"

    def plan(self) -> Sequence[Unit]:
        """One unit for the file, or one per selection: attempts at one task may lie in several shards.

        Raises:
            UsageError: the source has no usable name, the file does not exist, or nothing is selected.
        """
        if not is_slug(self.source):
            raise UsageError(f"{self.source!r} cannot name a source of attempts: lower-case letters, digits, '.', '_' and '-'")
        if self.origin == "traces":
            content: Any = bytes_digest(_chunks(self.what))
            count = 0
        else:
            chosen = choose(self.lake, self.what).episodes
            if chosen.is_empty():
                raise UsageError(f"{self.what!r} selects no episode; there are no attempts to read")
            content, count = chosen.select("episode_id", "content_hash").sort("episode_id").rows(), chosen.height
        name = unit_id(self.name, [self.source, content], [self.origin, self.tolerance], CODE)
        return [Unit(name, self.name, self.source, f"{self.source}: {self.origin} of {self.what}", None, 0, count)]

    def work(self, unit: Unit) -> Output:
        """Read, check and write the trees; what cannot be read is a reject.

        Raises:
            DataError: nothing could be read.
        """
        nodes, rejects = self._read()
        if not nodes:
            raise DataError(f"{self.what}: no attempt could be read; {rejects[0].message if rejects else 'it is empty'}")
        rows = table(nodes)
        tree = open_tree(rows)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, NODES) as out:
            out.write_table(rows)
        file = publish_bytes(self.lake, sink.getvalue().to_pybytes(), self.lake.attempts(self.source, unit.id))
        row = {
            "source": self.source, "origin": self.origin, "of": self.what, "uri": file.path, "blake3": file.blake3, "bytes": file.bytes,
            "trees": len(set(rows.column("tree").to_pylist())), "nodes": rows.num_rows, "attempts": len(tree.leaves),
            "judged": sum(tree.outcome(leaf) is not None for leaf in tree.leaves),
        }  # fmt: skip
        return Output((file,), {"attempts": pa.Table.from_pylist([row])}, tuple(rejects), rows.num_rows, 0, file.bytes)

    def _read(self) -> tuple[list[Node], list[Reject]]:
        if self.origin == "traces":
            found = list(read_traces(_lines(self.what)))
            rejects = [Reject.of(x.error, f"line {x.number}", self.what) for x in found if x.error is not None]
            return [n for x in found for n in x.nodes], rejects
        nodes, rejects, chosen = list[Node](), list[Reject](), choose(self.lake, self.what).episodes
        starts = segment_starts(Catalog(self.lake), chosen) if self.origin == "retries" else {}
        for episode in read_recorded(self.lake, chosen):
            try:
                if self.origin == "retries":
                    nodes += retry_nodes(episode, starts.get(episode.row["episode_id"], ())[1:], self.tolerance)
                else:
                    nodes += correction_nodes(episode) if self.origin == "corrections" else intervention_nodes(episode)
            except DataError as error:
                rejects.append(Reject.of(error, episode.row["episode_id"], episode.row["uri"] or ""))
        return nodes, rejects


def read_attempts(lake: Lake, source: str = "") -> pa.Table:
    """Return the nodes of one source, or of all of them, as rows of `NODES`.

    Raises:
        UsageError: there is no such source.
        LakeError: a file the catalog names is missing.
    """
    listed = Catalog(lake).latest("attempts").collect()
    rows = [r for r in listed.sort("source").iter_rows(named=True) if source in ("", r["source"])]
    if not rows:
        raise UsageError(
            f"there are no attempts called {source!r}; there are {listed['source'].to_list()}. `cotrain attempts add` reads some"
        )
    tables = [_open(lake, r["uri"]) for r in rows]
    return pa.concat_tables(tables).unify_dictionaries()


def _open(lake: Lake, uri: str) -> pa.Table:
    path = lake.path(uri)
    try:
        with lake.fs.open(path, "rb") as file:
            return pa.ipc.open_file(pa.BufferReader(file.read())).read_all()
    except FileNotFoundError as error:
        raise LakeError(f"{path} is missing although the catalog names it; run `cotrain verify lake`") from error


def _chunks(uri: str) -> Iterator[bytes]:
    try:
        with fsspec.open(uri, "rb") as file:
            while block := file.read(1 << 20):
                yield block
    except FileNotFoundError as error:
        raise UsageError(f"{uri} does not exist; give a JSONL file with one attempt per line") from error


def _lines(uri: str) -> Iterator[str]:
    with fsspec.open(uri, "rt", encoding="utf-8", errors="replace") as file:
        yield from file
