"""Minimal-change triplets: two pictures of one camera between which exactly one thing changed, and what was done. No model.

Candidates come from segments, from what a hand came to do, and from captions; nine filters in order of cost refuse them, each with its
reason. What only moved the robot is kept apart (`arm_only`), starts and later goals are told as such (`goal`), and every positive
brings hard negatives. Counterfactuals pair two episodes and are found by `pipelines.triplets`, through the same filters.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Clip, Look, Needs, colour_cameras
from annotators.evaluation import QualityReport
from annotators.motion.things import object_streams
from annotators.segments.config import SegmentsConfig
from annotators.segments.segments import Segments
from annotators.spans import constant, nothing, span_table
from annotators.traces.objects import MASK
from annotators.traces.views import view_streams
from annotators.triplets.candidates import Candidate, find_candidates, segments_of
from annotators.triplets.config import SIDE, TripletsConfig
from annotators.triplets.filters import judge, picture
from annotators.triplets.pair import Evidence, Pair
from annotators.triplets.robot import Robot, find_robots
from annotators.triplets.rows import PROVIDES, Kept, Row, columns_of, negatives_of, with_verdict, without_duplicates
from annotators.triplets.things import Poses, read_poses
from annotators.triplets.words import directed, towards
from schemas.annotation import annotation_schema
from schemas.contract import Camera, Contract
from schemas.settings import parse_settings
from transforms.grid import I64, SECOND

MOVING = ("wrist", "ego")  # cameras whose own motion would change every picture
FAR = 0.05  # of the picture: how far something must go before a prompt says where to
GOES = ("transport", "place", "push")


@dataclass(frozen=True, slots=True)
class Scene:
    """One episode as one camera sees it."""

    name: str
    clip: Clip
    t_ns: I64
    robot: Robot
    poses: Poses


@dataclass(frozen=True, slots=True)
class Triplets:
    """Annotates episodes with pairs of pictures; see the module's text."""

    config: TripletsConfig = field(default_factory=TripletsConfig)

    name: ClassVar[str] = "triplets"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "episodes"
    grain: ClassVar[Grain] = "pair"
    provides: ClassVar[pa.Schema] = PROVIDES

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `TripletsConfig`."""
        return cls(parse_settings(TripletsConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration, the segments inside, and OpenCV's major version."""
        inside = (self._segments().fingerprint(),)
        return fingerprint(self.name, self.version, self.settings(), inside, libraries=("opencv-python-headless",))

    def cameras(self, contract: Contract) -> tuple[Camera, ...]:
        """Return the cameras looked at."""
        if self.config.cameras:
            return colour_cameras(contract, self.config.cameras, eyes=True)
        return tuple(c for c in colour_cameras(contract) if c.role not in MOVING)

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name cameras, masks, and what segments and the robot's hand are read from."""
        needs = self.needs(contract)
        if not needs.looks:
            return ()
        looks = tuple(f"mask:{look.camera}" if look.camera.startswith(MASK) else f"rgb:{look.camera}" for look in needs.looks)
        calibrated = tuple(f"K:{c.name}" for c in self.cameras(contract) if c.intrinsics is not None)
        streams = tuple(f"stream:{s}" for s in needs.streams)
        return tuple(dict.fromkeys((*looks, *calibrated, *self._segments().requires(contract), *streams)))

    def needs(self, contract: Contract) -> Needs:
        """Ask for its cameras, their masks, and signals; only whole episodes make sense."""
        cameras = self.cameras(contract)
        if not cameras:
            return Needs()
        size = (SIDE, SIDE)
        looks = [Look(c.name, size, self.config.hz) for c in cameras]
        segmented = {c.name for c in contract.cameras if c.role == "segmentation"}
        if self.config.masks:
            looks += [Look(MASK + c.name, size) for c in cameras if MASK + c.name in segmented]
        known = object_streams(contract).values() if self.config.masks or self.config.poses else ()
        streams = [*known, *self._segments().needs(contract).streams, *(s for c in cameras for s in view_streams(contract, c))]
        return Needs(tuple(looks), tuple(dict.fromkeys(streams)))

    def run(self, batch: Batch) -> pa.Table:
        """Look for pairs in every episode, camera by camera."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        cameras = [c for c in self.cameras(batch.contract) if c.name in batch.clips]
        if not cameras:
            return nothing(self, batch, "no_still_camera")
        found: list[tuple[int, str, Row]] = []
        for camera in cameras:
            for at, rows in enumerate(self.episodes(batch, camera)):
                found += [(at, camera.name, row) for row in rows]
        found.sort(key=lambda item: (item[0], item[2].first))  # stable: cameras in order, pairs before their negatives
        return self._table(batch, found)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure against what a simulator knows, and by spoiling pairs on purpose; see `annotators.triplets.evaluation`."""
        from annotators.triplets.evaluation import evaluate_triplets

        return evaluate_triplets(self, heldout)

    def episodes(self, batch: Batch, camera: Camera) -> list[list[Row]]:
        """Return the rows of every episode of a batch as one camera sees it."""
        found: list[list[Row]] = []
        for at, (scene, candidates) in enumerate(self.scenes(batch, camera)):
            whole = int(batch.starts[at + 1] - batch.starts[at])
            if not len(scene.clip):
                found.append([Row(0, whole, reason="no_picture")])
                continue
            rows = self.judged(scene, candidates)
            found.append(rows or [Row(0, whole, reason="no_candidate")])
        return found

    def scenes(self, batch: Batch, camera: Camera) -> list[tuple[Scene, list[Candidate]]]:
        """Return what a camera sees of every episode, and its candidates."""
        poses = read_poses(batch)
        robots = find_robots(batch, camera, poses, self.config)
        spoken = self._runs(batch) if {"segment", "event"} & set(self.config.candidates) else [[]] * len(batch.episodes)
        captions = (
            batch.steps.column("language").cast(pa.string()).to_pylist() if "language" in batch.steps.column_names else None
        )
        found: list[tuple[Scene, list[Candidate]]] = []
        for at, episode in enumerate(batch.episodes):
            a, b = int(batch.starts[at]), int(batch.starts[at + 1])
            t_ns = batch.t_ns[a:b]
            scene = Scene(episode, batch.clips[camera.name][at], t_ns, robots[at], poses[at])
            said = captions[a:b] if captions else [None] * (b - a)
            found.append((scene, find_candidates(spoken[at], said, (t_ns - t_ns[0]) / SECOND, self.config)))
        return found

    def judged(self, scene: Scene, candidates: list[Candidate]) -> list[Row]:
        """Pass the candidates of one episode through every filter, and add negatives."""
        kept = without_duplicates([self._look(scene, c) for c in candidates], self.config.duplicate_bits)
        rows = [k.row for k in kept]
        positives = [r for r in rows if r.label == "positive"]
        for row in positives if self.config.negatives else ():
            rows += negatives_of(row, positives, self.config, scene.name)
        return rows

    def pair(self, scene: Scene, candidate: Candidate) -> tuple[Pair, Row] | Row:
        """Return what filters look at, or the row that says why there is nothing to look at."""
        clip, start = scene.clip, int(scene.t_ns[0])
        a = int(np.searchsorted(clip.t_ns, start + round(candidate.source_s * SECOND) + 1_000_000, side="right")) - 1
        b = int(np.searchsorted(clip.t_ns, start + round(candidate.target_s * SECOND) - 1_000_000))
        a, b = max(a, 0), min(b, len(clip) - 1)
        first, last = int(clip.step[a]), int(clip.step[b])
        if a >= b or first >= last:
            step = min(first, len(scene.t_ns) - 1)
            return Row(step, step + 1, reason="too_short", candidate=candidate.kind, filter="candidate", prompt=candidate.prompt)
        prompt = self._said(scene, candidate, first, last)
        row = Row(
            first, last, candidate.reason, candidate=candidate.kind, prompt=prompt, source_ns=int(clip.t_ns[a]),
            target_ns=int(clip.t_ns[b]), phase=candidate.phase or None, object=candidate.thing or None,
        )  # fmt: skip
        if candidate.reason is not None:
            return replace(row, filter="candidate")
        masks = scene.robot.at(first, self.config), scene.robot.at(last, self.config)
        known = None if masks[0] is None or masks[1] is None else (masks[0], masks[1])
        if known is None and candidate.kind != "goal" and not scene.robot.is_back(first, last, self.config):
            return replace(row, reason="robot_unknown", filter="candidate")
        moved = None
        if self.config.poses and scene.poses.place:
            moved = len(scene.poses.groups(first, last, self.config.moved_m, self.config.turned_rad))
        before, after = (self._near(clip, n, sign) for n, sign in ((a, -1), (b, 1)))
        opened = scene.robot.opened(first, last)
        return Pair(clip.pictures[a], clip.pictures[b], prompt, before, after, known, moved, opened, candidate.phase), row

    def _look(self, scene: Scene, candidate: Candidate) -> Kept:
        found = self.pair(scene, candidate)
        if isinstance(found, Row):
            return Kept(found)
        pair, row = found
        evidence = Evidence(pair, self.config)
        if candidate.kind == "goal":
            seen = picture(evidence)
            return Kept(replace(row, reason=seen, filter="picture") if isinstance(seen, str) else replace(row, label="goal"))
        return with_verdict(row, judge(evidence))

    def _near(self, clip: Clip, at: int, sign: int) -> Any:
        """Return the picture `still_s` before (-1) or after (1) one; None where there is none within twice that."""
        wanted = clip.t_ns[at] + sign * round(self.config.still_s * SECOND)
        near = int(np.argmin(np.abs(clip.t_ns - wanted)))
        fits = near != at and abs(int(clip.t_ns[near]) - int(wanted)) <= self.config.still_s * SECOND
        return clip.pictures[near] if fits else None

    def _said(self, scene: Scene, candidate: Candidate, first: int, last: int) -> str | None:
        """Return the prompt; of what goes somewhere, with the direction in the picture where a calibrated camera tells it."""
        view, robot = scene.robot.view, scene.robot
        if not candidate.prompt or candidate.phase not in GOES or view is None or candidate.kind == "clip":
            return candidate.prompt
        path = scene.poses.place.get(candidate.thing) if self.config.poses else None
        if path is None:
            path = robot.tip if candidate.phase != "push" else None
        if path is None or not np.isfinite(path[:, [first, last]]).all():
            return candidate.prompt
        ends = [view.track(path[:, s : s + 1], s) for s in (first, last)]
        if not all(ahead[0] for _, ahead in ends):
            return candidate.prompt
        across, down = (ends[1][0][:, 0] - ends[0][0][:, 0]) / [view.camera.width, view.camera.height]
        return directed(candidate.prompt, towards(float(across), float(down), FAR))

    def _segments(self) -> Segments:
        return Segments(SegmentsConfig(motions=False, privileged=self.config.poses))

    def _runs(self, batch: Batch) -> list[Any]:
        rows = (
            self._segments()
            .run(batch)
            .select(["episode_id", "start_ns", "end_ns", "valid", "phase", "object", "text"])
            .to_pylist()
        )
        mine: dict[str, list[dict[str, Any]]] = {e: [] for e in batch.episodes}
        for row in rows:
            mine[row["episode_id"]].append(row)
        return [segments_of(mine[e], int(batch.t_ns[batch.starts[at]])) for at, e in enumerate(batch.episodes)]

    def _table(self, batch: Batch, found: list[tuple[int, str, Row]]) -> pa.Table:
        rows = [row for *_, row in found]
        base = np.array([batch.starts[at] for at, *_ in found], np.int64)
        first, stop = (base + np.array([getattr(r, n) for r in rows], np.int64) for n in ("first", "stop"))
        names = sorted({camera for _, camera, _ in found})
        seen_by = pa.array([camera for _, camera, _ in found], pa.string()).dictionary_encode() if len(names) > 1 else None
        camera = seen_by if seen_by is not None else constant(names[0], len(rows))
        sure = pa.array([r.confidence for r in rows], pa.float32())
        return span_table(self, batch, first, stop, [r.reason for r in rows], columns_of(rows), camera=camera, confidence=sure)
