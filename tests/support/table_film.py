"""Episodes on the drawn table: an arm comes, pushes a thing to another place, leaves; filmed, with masks, poses and the hand's position."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.clips import Clip
from pipelines.shards.draft import build_steps
from schemas.contract import Camera, Contract, Feature, Part, Stream
from schemas.shards import STREAMS, steps_schema
from tests.support.tabletop import SIDE, Table, arm_mask, draw, random_table

SECOND = 1_000_000_000
SECONDS = 6.0
METRE = 500.0  # pixels
HOME = (60.0, 45.0)
TIMES = (0.0, 0.5, 1.5, 1.8, 3.0, 3.3, 4.6, SECONDS)  # rest, come, wait, push, wait, leave, rest


def contract(hz: float, masks: bool = True) -> Contract:
    """What an episode promises: a camera, its masks, the hand in metres, the pose of what is pushed."""
    state = Feature(
        "observation.state", "float32", (3,), ("x", "y", "z"), role="state", representation="absolute", unit="m",
        parts=(Part("ee_position", 0, 3, representation="absolute", unit="m"),),
    )  # fmt: skip
    cameras = [Camera("front", role="exterior", width=SIDE, height=SIDE, fps=hz)]
    if masks:
        cameras.append(
            Camera("segmentation.front", role="segmentation", width=SIDE, height=SIDE, colour_order="gray", privileged=True)
        )
    poses = Stream("object_pose.thing", ("x", "y", "z", "qw", "qx", "qy", "qz"), "m", privileged=True)
    return Contract("table", "sim", "drawn_arm", hz, features=(state,), cameras=tuple(cameras), streams=(poses,))


def path(seed: int, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the hand and the first thing are, float64[2, T] pixels each."""
    table, r = random_table(seed), np.random.default_rng((7, seed))
    thing = table.things[0]
    start = np.array([thing.x, thing.y])
    way = np.array([float(r.uniform(22, 34)) * (1 if thing.x < 130 else -1), 0.0])
    reach = thing.a + 12
    behind = start - np.sign(way[0]) * np.array([reach, 0.0])
    stops = np.array([HOME, HOME, behind, behind, behind + way, behind + way, HOME, HOME])
    hand = np.stack([np.interp(t, TIMES, stops[:, k]) for k in (0, 1)])
    pushed = np.interp(t, TIMES, [0, 0, 0, 0, 1, 1, 1, 1])
    return hand, start[:, None] + way[:, None] * pushed


def state_at(seed: int, hand: np.ndarray, thing: np.ndarray) -> Table:
    """The table at one instant."""
    table = random_table(seed)
    first = replace(table.things[0], x=float(thing[0]), y=float(thing[1]))
    return replace(table, things=(first, *table.things[1:]), arm=(float(hand[0]), float(hand[1])))


@lru_cache
def film(hz: int, seeds: tuple[int, ...] = (1, 2, 5), masks: bool = True, shake: float = 0.0) -> Batch:
    """Episodes of six seconds at `hz`; with `shake`, the camera moves by so many pixels while the arm pushes."""
    promised = contract(hz, masks)
    t = np.arange(round(SECONDS * hz) + 1) / hz
    t_ns, number = np.rint(t * SECOND).astype(np.int64), np.arange(len(t))
    tables, streams, clips, segments = [], [], [], []
    for place, seed in enumerate(seeds):
        hand, thing = path(seed, t)
        name = f"ep-{place}"
        frames = {c.name: number.astype(np.int32) for c in promised.cameras}
        columns: dict[str, Any] = {"observation.state": np.stack([hand[0] / METRE, -hand[1] / METRE, np.zeros(len(t))], 1)}
        steps = build_steps(promised, t_ns, columns, frames=frames, language="push the thing aside")
        names = pa.DictionaryArray.from_arrays(
            pa.array(np.full(len(t), place, np.int32)), pa.array([f"ep-{i}" for i in range(len(seeds))])
        )
        tables.append(steps.add_column(0, pa.field("episode_id", names.type, nullable=False), names))
        poses = [[p[0] / METRE, -p[1] / METRE, 0.0, 1.0, 0.0, 0.0, 0.0] for p in thing.T]
        rows = {"episode_id": [name] * len(t), "stream": ["object_pose.thing"] * len(t), "t_ns": t_ns.tolist(), "values": poses}
        nothing = [None] * len(t)
        streams.append(pa.table({f.name: pa.array(rows.get(f.name, nothing), f.type) for f in STREAMS}, schema=STREAMS))
        states = [state_at(seed, h, p) for h, p in zip(hand.T, thing.T, strict=True)]
        still = np.array([(shake, 0.0) if TIMES[3] < s else (0.0, 0.0) for s in t])
        pictures = np.stack([draw(s, (float(c[0]), float(c[1])), n) for n, (s, c) in enumerate(zip(states, still, strict=True))])
        clips.append(Clip(pictures, t_ns, number, number, (SIDE, SIDE)))
        segments.append(Clip(np.stack([arm_mask(s).astype(np.uint8) * 3 for s in states]), t_ns, number, number, (SIDE, SIDE)))
    steps = pa.concat_tables(tables).cast(steps_schema(promised).remove_metadata())
    seen = {"front": tuple(clips)} | ({"segmentation.front": tuple(segments)} if masks else {})
    return Batch(promised, steps, seen, pa.concat_tables(streams).unify_dictionaries())
