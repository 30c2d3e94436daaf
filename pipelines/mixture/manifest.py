"""A mixture at rest: `manifest.json`, `index.arrow` and `stats.json` in its folder, and the way back from them.

Nothing is trusted: the manifest carries a seal over itself, and its hash is recomputed from spec, contracts, plan and index.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Self

import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.mixture.compile import CODE, Compiled, mixture_hash, plain_contracts
from pipelines.mixture.index import Index, Split
from pipelines.mixture.plan import InOrder, Order, Plan, PlanSource
from pipelines.mixture.shares import SourceShare
from pipelines.mixture.statistics import Statistics
from schemas.contract import Contract
from schemas.errors import LakeError, UnknownNameError
from schemas.ids import digest
from schemas.mixture import MixtureSpec

FORMAT = 1
MANIFEST, INDEX_FILE, STATS_FILE = "manifest.json", "index.arrow", "stats.json"


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says. `pins` is where the catalog stood; it is recorded, and not part of the hash."""

    hash: str
    spec: MixtureSpec
    pins: dict[str, int | None]
    contracts: dict[str, Contract]
    plan: Plan
    shares: tuple[SourceShare, ...]
    index_digest: str
    index_rows: int
    statistics_hash: str | None
    code: str = CODE

    @classmethod
    def of(cls, compiled: Compiled, statistics: Statistics | None) -> Self:
        """Describe a compiled mixture."""
        return cls(
            compiled.hash, compiled.spec, compiled.pins, compiled.contracts, compiled.plan, compiled.shares, compiled.index_digest,
            len(compiled.index), statistics.hash if statistics else None,
        )  # fmt: skip

    def to_json(self) -> bytes:
        """Return the bytes of `manifest.json`, sealed."""
        body: dict[str, Any] = {
            "format": FORMAT, "code": self.code, "name": self.spec.name, "hash": self.hash, "spec": self.spec.to_dict(),
            "pins": self.pins, "contracts": plain_contracts(self.contracts),
            "plan": self.plan.to_dict(), "plan_hash": self.plan.hash, "sources": [asdict(s) for s in self.shares],
            "index": {"digest": self.index_digest, "rows": self.index_rows, "file": INDEX_FILE},
            "statistics": {"hash": self.statistics_hash, "file": STATS_FILE} if self.statistics_hash else None,
        }  # fmt: skip
        return json.dumps(body | {"seal": digest(body)}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes, uri: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            LakeError: the text is not a manifest of this format, or not the one that was written.
        """
        try:
            body: dict[str, Any] = json.loads(text)
            seal = body.pop("seal")
        except (ValueError, KeyError, AttributeError) as error:
            raise LakeError(f"{uri} is not a mixture manifest ({error}); mix again") from error
        if body.get("format") != FORMAT:
            raise LakeError(f"{uri} has format {body.get('format')}, this version reads {FORMAT}; mix again")
        if seal != digest(body):
            raise LakeError(f"{uri} does not match its seal: it was changed after it was written. Mix again")
        found = mixture_hash(body["code"], body["spec"], body["contracts"], body["plan"], body["index"]["digest"])
        if body["hash"] != found:
            raise LakeError(f"{uri} says hash {body['hash']} but its content has {found}. Mix again")
        manifest = cls._from_body(body)
        if manifest.plan.hash != body["plan_hash"]:
            raise LakeError(f"{uri}: this version would draw another order than plan {body['plan_hash']}. Mix again")
        return manifest

    @classmethod
    def _from_body(cls, body: Mapping[str, Any]) -> Self:
        contracts = {n: Contract.from_json(json.dumps(c)) for n, c in body["contracts"].items()}
        return cls(
            body["hash"], MixtureSpec.from_dict(body["spec"]), body["pins"], contracts, Plan.from_dict(body["plan"]),
            tuple(SourceShare(**s) for s in body["sources"]), body["index"]["digest"], body["index"]["rows"],
            body["statistics"]["hash"] if body["statistics"] else None, body["code"],
        )  # fmt: skip


@dataclass(frozen=True)
class Mixture:
    """A pinned mixture, opened: what the loader, the exporters and the residual caches read."""

    lake: Lake
    manifest: Manifest
    index: Index

    @property
    def name(self) -> str:
        """The mixture's name."""
        return self.manifest.spec.name

    @property
    def hash(self) -> str:
        """Identifies its content."""
        return self.manifest.hash

    @property
    def spec(self) -> MixtureSpec:
        """What was asked for."""
        return self.manifest.spec

    @property
    def pins(self) -> dict[str, int | None]:
        """Version of every catalog table it was compiled at."""
        return self.manifest.pins

    @property
    def plan(self) -> Plan:
        """The order of its draws."""
        return self.manifest.plan

    @property
    def shares(self) -> tuple[SourceShare, ...]:
        """Asked and realised, per source."""
        return self.manifest.shares

    @property
    def contracts(self) -> dict[str, Contract]:
        """Contract per dataset."""
        return self.manifest.contracts

    @cached_property
    def statistics(self) -> Statistics | None:
        """True statistics of the train split, or None where the spec turned them off.

        Raises:
            LakeError: `stats.json` is missing or not the one the manifest names.
        """
        if self.manifest.statistics_hash is None:
            return None
        uri = f"{self.lake.mixture(self.name, self.hash)}/{STATS_FILE}"
        found = Statistics.from_json(_read(self.lake, uri))
        if found.hash != self.manifest.statistics_hash:
            raise LakeError(f"{uri} holds other figures than the manifest names. Mix again")
        return found

    def episode_ids(self, split: Split | None = None) -> list[str]:
        """Return the episodes of one split, or of both; each once, in index order."""
        frame = self.index.frame()
        rows = frame if split is None else frame.filter(pl.col("split") == split)
        return rows["episode_id"].unique(maintain_order=True).to_list()

    def order(self, split: Split = "train") -> Order:
        """Return the order of a split: the plan for `train`, every held-out step once for `val`."""
        if split == "train":
            return self.plan
        return InOrder(tuple(PlanSource(s.name, f"{s.id}/val", self.index.items(s.name, "val")) for s in self.plan.sources))


def open_mixture(lake: Lake, name: str, mixture_hash: str | None = None) -> Mixture:
    """Open a mixture by name: its newest version, or the one whose hash starts with `mixture_hash`.

    Raises:
        UnknownNameError: the catalog has no such mixture.
        LakeError: a file is missing, or does not match the hash.
    """
    wanted = _resolve(lake, name, mixture_hash)
    folder = lake.mixture(name, wanted)
    manifest = Manifest.from_json(_read(lake, f"{folder}/{MANIFEST}"), f"{folder}/{MANIFEST}")
    if (manifest.spec.name, manifest.hash) != (name, wanted):
        raise LakeError(f"{folder}/{MANIFEST} is the manifest of {manifest.spec.name}@{manifest.hash}. Mix again")
    index = read_index(lake, f"{folder}/{INDEX_FILE}")
    if index.digest() != manifest.index_digest:
        raise LakeError(f"{folder}/{INDEX_FILE} is not the index its manifest names. Mix again")
    return Mixture(lake, manifest, index)


def read_index(lake: Lake, uri: str) -> Index:
    """Read an `index.arrow`.

    Raises:
        LakeError: it is missing or not an Arrow file.
    """
    try:
        return Index(pa.ipc.open_file(pa.BufferReader(_read(lake, uri))).read_all())
    except pa.ArrowInvalid as error:
        raise LakeError(f"{uri} is not a complete Arrow file: {error}. Mix again") from error


def index_bytes(index: Index) -> bytes:
    """Return the bytes of `index.arrow`: an Arrow IPC file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, index.table.schema) as out:
        out.write_table(index.table.combine_chunks())
    return sink.getvalue().to_pybytes()


def _resolve(lake: Lake, name: str, prefix: str | None) -> str:
    known = Catalog(lake).latest("mixtures").select("name", "hash", "committed_ns").sort("committed_ns").collect()
    versions = known.filter(pl.col("name") == name)["hash"].to_list()
    if not versions:
        names = sorted(set(known["name"].to_list()))
        near = get_close_matches(name, names, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names) or 'none; run `cotrain mix`'}"
        raise UnknownNameError(f"there is no mixture called {name!r}: {hint}")
    matching = [h for h in versions if prefix is None or h.startswith(prefix)]
    if prefix is not None and len(matching) != 1:
        raise UnknownNameError(f"{name}@{prefix} names {len(matching)} versions; the mixture has {', '.join(versions)}")
    return matching[-1]


def _read(lake: Lake, uri: str) -> bytes:
    try:
        return lake.fs.cat_file(uri)
    except FileNotFoundError as error:
        raise LakeError(f"{uri} is missing although the catalog names it. Mix again") from error
