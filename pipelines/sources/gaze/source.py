"""The source adapters of this room: one class per device family, all of them the same loop over recordings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pipelines.shards.draft import EpisodeDraft
from pipelines.sources.base import Group, SourceOptions
from pipelines.sources.gaze.aria import Aria
from pipelines.sources.gaze.base import Declared, Family, Place, Take
from pipelines.sources.gaze.ego4d import Ego4d
from pipelines.sources.gaze.egtea import Egtea
from pipelines.sources.gaze.episode import build_episode
from pipelines.sources.gaze.hot3d import Hot3d
from pipelines.sources.gaze.neon import Neon
from pipelines.sources.gaze.pupil import Pupil
from pipelines.sources.gaze.tobii import Tobii
from pipelines.sources.tree import Tree, open_tree, peek_tree
from pipelines.unit import Reject
from schemas.contract import Camera, Contract, Stream, overlay
from schemas.errors import DataError, MalformedSourceError
from schemas.settings import parse_settings

LOOK = 16  # recordings looked at for the contract; a later one that differs says so in its episode's notes


@dataclass(frozen=True, slots=True)
class GazeSource:
    """Recordings of one device family below a folder.

    An episode's clock starts at the first scene frame and each scene frame is a step; a recording without scene video steps with its
    main signal instead. Steps carry no features: every signal is a stream.

    Attributes:
        uri: a recording, or a folder with recordings somewhere below it.
        options: see `SourceOptions`; `settings` are the fields of the family's class.
    """

    uri: str
    options: SourceOptions
    name: ClassVar[str] = "gaze"
    version: ClassVar[str] = "1"
    family: ClassVar[type[Any]]

    @classmethod
    def recognises(cls, uri: str) -> bool:
        """Tell whether a recording of this family lies at or below `uri`."""
        tree = peek_tree(uri)
        return tree is not None and bool(cls.family().places(tree))

    def contract(self) -> Contract:
        """Return the contract: the cameras and streams of the first recordings, and a calibration only where all of them share it.

        Raises:
            MalformedSourceError: there is no recording.
        """
        tree, family = open_tree(self.uri), self._family()
        looks: list[Declared] = []
        for place in self._places(tree, family)[:LOOK]:
            try:
                looks.append(family.declare(tree, place))
            except DataError:
                continue  # `read` rejects it with the reason
        base = Contract(
            self.options.dataset, "human", "human", None, cameras=_cameras(looks), streams=_streams(looks),
            licence=self.options.licence, split_keys=("recording",),
        )  # fmt: skip
        return overlay(base, self.options.contract) if self.options.contract else base

    def groups(self) -> Sequence[Group]:
        """Group the recordings, in natural order, up to `shard_bytes` each.

        Raises:
            MalformedSourceError: there is no recording.
        """
        tree = open_tree(self.uri)
        groups, batch, size = list[Group](), list[Place](), 0
        for place in self._places(tree, self._family()):
            own = sum(tree.size(f) for f in place.files)
            if batch and size + own > self.options.shard_bytes:
                groups.append(_group(tree, batch, size))
                batch, size = [], 0
            batch.append(place)
            size += own
        return [*groups, _group(tree, batch, size)]

    def read(self, group: Group) -> Iterator[EpisodeDraft | Reject]:
        """Yield the episodes of `group`; a recording that cannot be read is a `Reject` for every episode it still owed."""
        tree, family, contract = open_tree(self.uri), self._family(), self.contract()
        places: tuple[Place, ...] = group.payload
        for place in places:
            owed = place.episodes
            try:
                for item in family.read(tree, place):
                    owed -= item.episodes if isinstance(item, Reject) else 1
                    yield _finish(contract, item) if isinstance(item, Take) else item
            except DataError as error:
                yield Reject.of(error, place.key, tree.uri(place.folder), episodes=max(owed, 0))

    def _family(self) -> Family:
        family: Family = parse_settings(self.family, self.options.settings)
        return family

    def _places(self, tree: Tree, family: Family) -> list[Place]:
        places = family.places(tree)
        if not places:
            raise MalformedSourceError(f"{self.uri} holds no recording that the {self.name} adapter knows", uri=self.uri)
        return places


@dataclass(frozen=True, slots=True)
class NeonSource(GazeSource):
    """Native recordings of Pupil Labs Neon, as the companion device writes them."""

    name: ClassVar[str] = "neon"
    family: ClassVar[type[Any]] = Neon


@dataclass(frozen=True, slots=True)
class PupilSource(GazeSource):
    """Exports of Pupil Core (Pupil Player) and of Pupil Cloud (Neon, Invisible)."""

    name: ClassVar[str] = "pupil"
    family: ClassVar[type[Any]] = Pupil


@dataclass(frozen=True, slots=True)
class TobiiSource(GazeSource):
    """Recordings of Tobii Pro Glasses 2 and Tobii Pro Glasses 3 as they lie on the memory card."""

    name: ClassVar[str] = "tobii"
    family: ClassVar[type[Any]] = Tobii


@dataclass(frozen=True, slots=True)
class Hot3dSource(GazeSource):
    """HOT3D sequences (folders of CSV and JSONL) and HOT3D-Clips (tar files of JPEG and JSON)."""

    name: ClassVar[str] = "hot3d"
    family: ClassVar[type[Any]] = Hot3d


@dataclass(frozen=True, slots=True)
class AriaSource(GazeSource):
    """Project Aria: the CSV files of its Machine Perception Services, and the VRS recording they belong to."""

    name: ClassVar[str] = "aria"
    family: ClassVar[type[Any]] = Aria


@dataclass(frozen=True, slots=True)
class EgteaSource(GazeSource):
    """EGTEA Gaze+: videos, BeGaze text exports and action labels."""

    name: ClassVar[str] = "egtea"
    family: ClassVar[type[Any]] = Egtea


@dataclass(frozen=True, slots=True)
class Ego4dGazeSource(GazeSource):
    """Ego4D: canonical videos with their tables of gaze."""

    name: ClassVar[str] = "ego4d_gaze"
    family: ClassVar[type[Any]] = Ego4d


def _finish(contract: Contract, take: Take) -> EpisodeDraft | Reject:
    try:
        return build_episode(contract, take)
    except DataError as error:
        return Reject.of(error, take.key, take.uri)


def _group(tree: Tree, places: list[Place], size: int) -> Group:
    inputs = [[p.key, p.episodes, [[f, tree.seal(f)] for f in p.files]] for p in places]
    label = places[0].key if len(places) == 1 else f"{places[0].key} ... {places[-1].key} ({len(places)} recordings)"
    return Group(label, sum(p.episodes for p in places), size, inputs, tuple(places))


def _cameras(looks: list[Declared]) -> tuple[Camera, ...]:
    """Merge cameras by name; a calibration that recordings do not share is left to each episode's attributes."""
    merged: dict[str, Camera] = {}
    for camera in (c for look in looks for c in look.cameras):
        known = merged.setdefault(camera.name, camera)
        if _calibration(known) != _calibration(camera):
            merged[camera.name] = replace(known, intrinsics=None, extrinsics=None, projection=None, distortion=None)
    return tuple(merged.values())


def _calibration(camera: Camera) -> tuple[Any, ...]:
    return camera.intrinsics, camera.extrinsics, camera.projection, camera.distortion


def _streams(looks: list[Declared]) -> tuple[Stream, ...]:
    """Merge streams by name; one whose columns differ between recordings declares all of them."""
    merged: dict[str, Stream] = {}
    for stream in (s for look in looks for s in look.streams):
        known = merged.setdefault(stream.name, stream)
        merged[stream.name] = replace(known, names=tuple(dict.fromkeys([*known.names, *stream.names])))
    return tuple(merged.values())
