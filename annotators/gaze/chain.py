"""The intention chain: what the eyes rest on, which thing that is, and what is done with it next. One row per fixation.

Rows have the style `gaze`; their text reads "look at red cup (<loc0512><loc0100>) -> reach -> grasp", location tokens row first. Only
recorded gaze makes chains: neither predictions nor a robot's pseudo-gaze are intentions anybody had.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Needs
from annotators.evaluation import QualityReport
from annotators.gaze.acts import SEGMENTS, Act, act_columns, act_streams, acts_of
from annotators.gaze.config import GazeConfig
from annotators.gaze.recorded import XY, RecordedGaze, vectors
from annotators.gaze.rests import Rest, rests_of
from annotators.gaze.samples import read_samples
from annotators.gaze.source import GazeSource, find_gaze
from annotators.gaze.things import Things, thing_looks, thing_streams, things_of
from annotators.spans import constant, nothing, span_table
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.gaze.maps import loc_text
from transforms.grid import SECOND

STYLE = "gaze"


@dataclass(frozen=True, slots=True)
class GazeChainConfig:
    """How chains are made.

    Attributes:
        camera: see `GazeConfig`.
        stream: see `GazeConfig`.
        device_cpf: see `GazeConfig`.
        detector: a function `module:function` that takes pictures uint8[N, H, W, 3] and returns, per picture, (name, mask bool[H, W])
            of every thing; empty: the masks of a simulator.
        hz: pictures per second that things are looked for in.
        inside_deg: a mask no further away than this holds the fixation: confidence 1.
        near_deg: else the nearest one within this is what was meant: confidence 0.5.
        most_s: an act that begins later than this after the fixation is not what it was for.
        field_deg: degrees across the picture, where nobody states the lens.
    """

    camera: str | None = None
    stream: str | None = None
    device_cpf: tuple[float, ...] = ()
    detector: str = ""
    hz: float = 5.0
    inside_deg: float = 2.0
    near_deg: float = 3.0
    most_s: float = 5.0
    field_deg: float = 90.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: names the field.
        """
        for name in ("hz", "inside_deg", "near_deg", "most_s", "field_deg"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)} must be above 0")

    @property
    def gaze(self) -> GazeConfig:
        """How gaze is read."""
        return GazeConfig(camera=self.camera, stream=self.stream, device_cpf=self.device_cpf)


@dataclass(frozen=True, slots=True)
class Link:
    """One row: a fixation, the thing it rests on (empty: none), how far away that is, its box, and the acts it leads to."""

    rest: Rest
    thing: str = ""
    away_deg: float = 0.0
    box: tuple[float, float, float, float] | None = None
    contact: Act | None = None
    verbs: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The chain in words."""
        where = loc_text(self.rest.xy)
        seen = f"look at {self.thing} ({where})" if self.thing else f"look at {where}"
        return " -> ".join((seen, *self.verbs))


@dataclass(frozen=True, slots=True)
class GazeChain:
    """Annotates fixations with what they are for; see the module's text."""

    config: GazeChainConfig = field(default_factory=GazeChainConfig)

    name: ClassVar[str] = "gaze_chain"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "episodes"
    grain: ClassVar[Grain] = "segment"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("text", NAME),
            pa.field("style", NAME),
            pa.field("fix_id", pa.int32()),  # as in `gaze`
            pa.field("xy", XY),  # mean of the fixation
            pa.field("object", NAME),  # null: nothing within reach of the eyes
            pa.field("object_deg", pa.float32()),  # between fixation and mask; 0 inside
            pa.field("box", pa.list_(pa.float32(), 4)),  # of the mask: x0 y0 x1 y1, shares
            pa.field("verb", NAME),  # of the next act that touches the object; null: none soon
            pa.field("contact_ns", pa.int64()),  # when that begins
            pa.field("lead_s", pa.float32()),  # from the fixation's start to then
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `GazeChainConfig`."""
        return cls(parse_settings(GazeChainConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration, and the annotators inside."""
        inside = (RecordedGaze(self.config.gaze).fingerprint(), SEGMENTS.fingerprint())
        return fingerprint(self.name, self.version, self.settings(), inside)

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name signals, pictures and columns; empty where there is no gaze in a picture."""
        source = self.usable(contract)
        if isinstance(source, str):
            return ()
        needs, gaze = self.needs(contract), RecordedGaze(self.config.gaze).requires(contract)
        kind = "rgb" if self.config.detector else "mask"
        looks, signals = (f"{kind}:{look.camera}" for look in needs.looks), (f"stream:{s}" for s in needs.streams)
        return tuple(dict.fromkeys((*gaze, *looks, *signals, *act_columns(contract))))

    def needs(self, contract: Contract) -> Needs:
        """Ask for gaze, for what things are found in, and for what names them."""
        source = self.usable(contract)
        if isinstance(source, str) or source.camera is None:
            return Needs()
        camera, detector = source.camera, self.config.detector
        streams = (*source.streams, *thing_streams(contract, camera, detector), *act_streams(contract))
        return Needs(thing_looks(contract, camera, detector, self.config.hz), tuple(dict.fromkeys(streams)))

    def usable(self, contract: Contract) -> GazeSource | str:
        """Return the gaze of a dataset, or why no chain can be made of it: those of `find_gaze`, and `no_camera`."""
        source = find_gaze(contract, self.config.gaze)
        return "no_camera" if not isinstance(source, str) and source.camera is None else source

    def run(self, batch: Batch) -> pa.Table:
        """Give every fixation its chain; an episode without one has a row that says why."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        source = self.usable(batch.contract)
        if isinstance(source, str):
            return nothing(self, batch, source)
        links = self.links(batch, source)
        return self._table(batch, source, links)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure whether the eyes rest on what is used next, and how long before; see `annotators.gaze.chain_evaluation`."""
        from annotators.gaze.chain_evaluation import evaluate_chain

        return evaluate_chain(self, heldout)

    def links(self, batch: Batch, source: GazeSource) -> list[list[Link]]:
        """Return the chain of every episode, in order."""
        acts, found = acts_of(batch), list[list[Link]]()
        for episode in range(len(batch.episodes)):
            rests = rests_of(batch, episode, read_samples(batch, episode, source, self.config.gaze))
            things = self.things(batch, episode, source)
            found.append([self.link(r, things, acts[episode]) for r in rests])
        return found

    def things(self, batch: Batch, episode: int, source: GazeSource) -> Things | str:
        """Open what an episode's pictures show."""
        assert source.camera is not None
        return things_of(batch, episode, source.camera, self.config.detector, self.config.field_deg)

    def link(self, rest: Rest, things: Things | str, acts: list[Act]) -> Link:
        """Return the chain of one fixation."""
        seen = None if isinstance(things, str) else things.nearest((rest.start_ns + rest.stop_ns) // 2, rest.xy)
        if seen is None or seen[2] > max(self.config.near_deg, self.config.inside_deg):
            return Link(rest)
        thing, mask, away = seen
        rows, columns = np.nonzero(mask)
        height, width = mask.shape
        box = (columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height)
        soon = rest.start_ns + round(self.config.most_s * SECOND)
        mine = [a for a in acts if a.concerns(thing) and a.end_ns > rest.start_ns]
        contact = next((a for a in mine if a.touches and rest.start_ns <= a.start_ns <= soon), None)
        until = [] if contact is None else [a.verb for a in mine if a.start_ns <= contact.start_ns]
        verbs = tuple(v for at, v in enumerate(until) if at == 0 or until[at - 1] != v)
        return Link(rest, thing, away, tuple(float(x) for x in box), contact, verbs)  # type: ignore[arg-type]

    def _table(self, batch: Batch, source: GazeSource, links: list[list[Link]]) -> pa.Table:
        flat = [(e, link) for e, mine in enumerate(links) for link in (mine or [None])]
        first = np.array([batch.starts[e] if k is None else k.rest.first for e, k in flat], np.int64)
        stop = np.array([batch.starts[e + 1] if k is None else k.rest.stop for e, k in flat], np.int64)
        rows = [k for _, k in flat]
        known = np.array([k is not None for k in rows], np.bool_)
        boxed = np.array([k is not None and k.box is not None for k in rows], np.bool_)
        boxes = np.array([k.box if k is not None and k.box is not None else (0.0,) * 4 for k in rows], np.float64).reshape(-1, 4)
        own: dict[str, Any] = {
            "text": _words([k.text if k else None for k in rows]),
            "style": _words([STYLE if k else None for k in rows]),
            "fix_id": pa.array([k.rest.number if k else None for k in rows], pa.int32()),
            "xy": vectors(np.array([k.rest.xy if k else (0.0, 0.0) for k in rows], np.float64).reshape(-1, 2), known),
            "object": _words([(k.thing or None) if k else None for k in rows]),
            "object_deg": pa.array([k.away_deg if k and k.thing else None for k in rows], pa.float32()),
            "box": vectors(boxes, boxed),
            "verb": _words([k.contact.verb if k and k.contact else None for k in rows]),
            "contact_ns": pa.array([k.contact.start_ns if k and k.contact else None for k in rows], pa.int64()),
            "lead_s": pa.array(
                [(k.contact.start_ns - k.rest.start_ns) / SECOND if k and k.contact else None for k in rows], pa.float32()
            ),
        }
        reasons = [None if k else "no_fixation" for k in rows]
        assert source.camera is not None
        sure = [(1.0 if k.away_deg <= self.config.inside_deg else 0.5) if k and k.thing else None for k in rows]
        camera = constant(source.camera.name, len(rows))
        return span_table(self, batch, first, stop, reasons, own, camera=camera, confidence=pa.array(sure, pa.float32()))


def _words(values: list[str | None]) -> pa.DictionaryArray:
    return pa.array(values, pa.string()).dictionary_encode()
