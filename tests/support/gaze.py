"""A wearer's world, known at every instant: things on a sphere around a turning head, a hand that follows the eyes, a lens, a recorder.

The eyes rest on one coloured block after the other; the hand arrives at each a known time later. Grey blocks are never looked at. Every
scene has its own background, places and order, so a model that does well on a scene it has not seen has learnt what to look for.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.clips import Clip
from schemas.contract import Camera, Contract, Projection, Stream
from schemas.shards import STREAMS, steps_schema
from transforms.projection import project, unproject

SECOND = 1_000_000_000
LEAD_S = 0.9  # the hand is at a block so long after the eyes
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 230)}
FISHEYE624 = (-0.03, 0.1, -0.07, 0.012, 0.002, -0.0005, 5e-4, -3e-4, 2e-4, -1e-5, -3e-4, 2e-5)


@dataclass(frozen=True)
class Ego:
    """How a scene is made. Sizes are pixels, times seconds, angles degrees."""

    seconds: float = 6.0
    fps: int = 15
    gaze_hz: int = 120
    size: tuple[int, int] = (48, 64)
    lens: Projection = "pinhole"
    jitter_deg: float = 0.05
    turn_deg: float = 8.0
    centre: float = 0.35  # how far from the middle blocks may lie, of the field


def lens_of(ego: Ego) -> Camera:
    """The scene camera: 70 degrees wide."""
    height, width = ego.size
    focal = width / 2 / np.tan(np.radians(35.0))
    if ego.lens == "fisheye624":
        focal = width / 2 / np.radians(35.0)
    k = (focal, 0.0, (width - 1) / 2, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 1.0)
    distortion = {"pinhole": None, "opencv": (-0.1, 0.05, 5e-4, -5e-4, 0.01), "fisheye624": FISHEYE624}[ego.lens]
    return Camera(
        "scene", role="ego", width=width, height=height, fps=ego.fps, intrinsics=k, projection=ego.lens, distortion=distortion,
    )  # fmt: skip


def turns(ego: Ego, seed: int, t: np.ndarray) -> np.ndarray:
    """World from camera, float64[T, 3, 3]: the head yaws and pitches smoothly."""
    rng = np.random.default_rng([seed, 1])
    rate, phase = rng.uniform(0.8, 1.6, 2), rng.uniform(0, 6.28, 2)
    yaw, pitch = (np.radians(ego.turn_deg) * np.sin(rate[k] * t + phase[k]) * (1.0, 0.6)[k] for k in (0, 1))
    about_y = np.tile(np.eye(3), (len(t), 1, 1))
    about_x = about_y.copy()
    about_y[:, 0, 0], about_y[:, 0, 2], about_y[:, 2, 0], about_y[:, 2, 2] = np.cos(yaw), np.sin(yaw), -np.sin(yaw), np.cos(yaw)
    about_x[:, 1, 1], about_x[:, 1, 2], about_x[:, 2, 1], about_x[:, 2, 2] = (
        np.cos(pitch),
        -np.sin(pitch),
        np.sin(pitch),
        np.cos(pitch),
    )
    return about_y @ about_x


@dataclass(frozen=True)
class Plan:
    """Where blocks lie (unit vectors [3]), when the eyes go to which, float64[V] seconds and names [V]."""

    blocks: dict[str, np.ndarray]
    greys: list[np.ndarray]
    times: np.ndarray
    order: list[str]


def plan_of(ego: Ego, seed: int) -> Plan:
    rng = np.random.default_rng([seed, 2])
    places: list[np.ndarray] = []
    while len(places) < 6:
        wide = ego.centre * 70
        yaw, pitch = np.radians(rng.uniform(-wide, wide)), np.radians(rng.uniform(-0.6 * wide, 0.6 * wide))
        place = np.array([np.tan(yaw), np.tan(pitch), 1.0])
        place /= np.linalg.norm(place)
        if all(np.degrees(np.arccos(np.clip(place @ p, -1, 1))) > 10 for p in places):
            places.append(place)
    names = list(COLOURS)
    order, at, times = [names[int(rng.integers(3))]], 0.0, [0.0]
    while at < ego.seconds:
        at += float(rng.uniform(0.8, 1.3))
        order.append(names[(names.index(order[-1]) + int(rng.integers(1, 3))) % 3])
        times.append(at)
    return Plan(dict(zip(names, places[:3], strict=True)), places[3:], np.array(times), order)


def gaze_of(plan: Plan, t: np.ndarray) -> np.ndarray:
    """Where the eyes point in the world, unit vectors float64[3, N]: still between saccades of 40 ms."""
    return _travel(plan, t, 0.0, 0.04)


def hand_of(plan: Plan, t: np.ndarray) -> np.ndarray:
    return _travel(plan, t, LEAD_S, 0.5)


def _travel(plan: Plan, t: np.ndarray, late: float, lasts: float) -> np.ndarray:
    """Each visit is reached `late` after its time; the way there takes `lasts`."""
    at = np.clip(np.searchsorted(plan.times + late, t, side="right") - 1, 0, len(plan.times) - 1)
    here = np.stack([plan.blocks[plan.order[i]] for i in at], 1)
    after = np.stack([plan.blocks[plan.order[min(i + 1, len(plan.times) - 1)]] for i in at], 1)
    goes = plan.times[np.minimum(at + 1, len(plan.times) - 1)] + late
    share = np.clip(1 - (goes - t) / lasts, 0, 1)
    mixed = here * (1 - share) + after * share
    return mixed / np.linalg.norm(mixed, axis=0)


def seen_by(camera: Camera, turn: np.ndarray, world: np.ndarray) -> np.ndarray:
    """Pixels float64[2, T] of world directions float64[3, T] (or one for all) by cameras that turn, float64[T, 3, 3]."""
    inside = np.einsum("tji,jt->it", turn, np.broadcast_to(world.reshape(3, -1), (3, len(turn))))
    return project(camera, np.eye(4), inside)[0]


def pictures_of(ego: Ego, seed: int, plan: Plan, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8[T, H, W, 3], and masks uint8[T, H, W]: 1 to 3 the coloured blocks, 9 the hand."""
    camera, turn = lens_of(ego), turns(ego, seed, t)
    height, width = ego.size
    v, u = np.mgrid[:height, :width]
    rays, _ = unproject(camera, np.stack([u.ravel(), v.ravel()]).astype(float))
    world = np.einsum("tij,jp->tip", turn, np.nan_to_num(rays, nan=0.0))
    shades = _background(seed, world).reshape(len(t), height, width, 3)
    masks = np.zeros((len(t), height, width), np.uint8)
    discs = [(p, (110 + 30 * i,) * 3, 0) for i, p in enumerate(plan.greys)]
    discs += [(plan.blocks[n], c, 1 + i) for i, (n, c) in enumerate(COLOURS.items())]
    for place, colour, value in discs:
        inside = (np.einsum("tip,i->tp", world, place) > np.cos(np.radians(3.5))).reshape(masks.shape)
        shades[inside] = colour
        masks[inside] = value
    hand = hand_of(plan, t) + np.array([[0.0], [0.07], [0.0]])
    inside = (np.einsum("tip,it->tp", world, hand / np.linalg.norm(hand, axis=0)) > np.cos(np.radians(3.0))).reshape(masks.shape)
    shades[inside], masks[inside] = (235, 180, 140), 9
    return shades, masks


@lru_cache(maxsize=64)
def _texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 3])
    coarse = cv2.resize(rng.uniform(60, 190, (24, 48, 1)).astype(np.float32), (720, 360), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.uniform(-25, 25, (120, 240)).astype(np.float32), (720, 360), interpolation=cv2.INTER_CUBIC)
    tint = rng.uniform(0.8, 1.2, 3)
    return np.clip((coarse + fine)[..., None] * tint, 0, 255).astype(np.uint8)


def _background(seed: int, world: np.ndarray) -> np.ndarray:
    """Look a texture up by longitude and latitude."""
    texture = _texture(seed)
    column = ((np.arctan2(world[:, 0], world[:, 2]) / (2 * np.pi) + 0.5) * texture.shape[1]).astype(int) % texture.shape[1]
    row = ((np.arcsin(np.clip(world[:, 1], -1, 1)) / np.pi + 0.5) * (texture.shape[0] - 1)).astype(int)
    return texture[row, column]


@lru_cache(maxsize=16)
def wearer(seeds: tuple[int, ...] = (0, 1, 2, 3), hz: int = 15, ego: Ego = Ego(), late_ms: float = 0.0) -> Batch:
    """Episodes of one wearer each, steps at `hz`, pictures at `ego.fps`; gaze is told `late_ms` after it happened."""
    camera = lens_of(ego)
    names = {f"object_pose.{n}Block": n for n in COLOURS}
    streams = (
        Stream("gaze", ("x", "y"), "px", "scene"), Stream("camera_view.scene", privileged=True),
        Stream("hand_pixel.scene", ("u", "v"), "px", privileged=True), *(Stream(n, privileged=True) for n in names),
    )  # fmt: skip
    mask = replace(camera, name="segmentation.scene", role="segmentation", privileged=True)
    contract = Contract("wearer", "human", "person", float(hz), cameras=(camera, mask), streams=streams)
    rows: dict[str, list[Any]] = {"episode_id": [], "stream": [], "t_ns": [], "values": []}
    steps, clips, masks = [], [], []
    for seed in seeds:
        episode, plan = f"ego-{seed:03d}", plan_of(ego, seed)
        t = np.arange(round(ego.seconds * hz)) / hz
        shown = np.arange(round(ego.seconds * ego.fps)) / ego.fps
        for name, when, values in signals(ego, seed, plan, late_ms):
            rows["episode_id"] += [episode] * len(when)
            rows["stream"] += [name] * len(when)
            rows["t_ns"] += np.rint(when * SECOND).astype(np.int64).tolist()
            rows["values"] += values.tolist()
        pictures, values = pictures_of(ego, seed, plan, shown)
        steps.append(_steps(contract, episode, plan, t, shown))
        seen = np.searchsorted(shown, t + 1e-9, side="right") - 1
        at = np.searchsorted(t, shown + 1e-9, side="right") - 1
        clips.append(Clip(pictures, np.rint(shown * SECOND).astype(np.int64), at, seen, ego.size))
        masks.append(replace(clips[-1], pictures=values))
    table = pa.table({
        "episode_id": pa.array(rows["episode_id"]).dictionary_encode(), "stream": pa.array(rows["stream"]).dictionary_encode(),
        "t_ns": pa.array(rows["t_ns"], pa.int64()), "end_ns": pa.nulls(len(rows["t_ns"]), pa.int64()),
        "values": pa.array(rows["values"], pa.list_(pa.float64())), "text": pa.nulls(len(rows["t_ns"]), pa.string()),
    }, schema=STREAMS)  # fmt: skip
    whole = pa.concat_tables(steps).unify_dictionaries()
    return Batch(contract, whole, {"scene": tuple(clips), "segmentation.scene": tuple(masks)}, table)


def signals(ego: Ego, seed: int, plan: Plan, late_ms: float) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Every signal of a scene: name, seconds float64[N], values float64[N, K]."""
    camera, rng = lens_of(ego), np.random.default_rng([seed, 4])
    t = np.arange(round(ego.seconds * ego.gaze_hz)) / ego.gaze_hz
    gaze = gaze_of(plan, t) + rng.normal(size=(3, len(t))) * np.radians(ego.jitter_deg)
    told = seen_by(camera, turns(ego, seed, t), gaze / np.linalg.norm(gaze, axis=0)).T
    slow = np.arange(round(ego.seconds * ego.fps)) / ego.fps
    turn = turns(ego, seed, slow)
    hand = seen_by(camera, turn, hand_of(plan, slow) + np.array([[0.0], [0.07], [0.0]])).T
    k = np.array(camera.intrinsics)[[0, 4, 2, 5]]
    view = np.concatenate([np.tile(k, (len(slow), 1)), np.zeros((len(slow), 3)), _quaternions(turn)], 1)
    things = [(f"object_pose.{n}Block", slow, np.tile([*p, 1.0, 0, 0, 0], (len(slow), 1))) for n, p in plan.blocks.items()]
    return [("gaze", t + late_ms / 1000, told), ("camera_view.scene", slow, view), ("hand_pixel.scene", slow, hand), *things]


def _quaternions(turn: np.ndarray) -> np.ndarray:
    """wxyz of small rotations, float64[T, 4]."""
    w = np.sqrt(np.maximum(1 + np.trace(turn, axis1=1, axis2=2), 1e-9)) / 2
    x, y, z = (turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1])
    return np.stack([w, x / (4 * w), y / (4 * w), z / (4 * w)], 1)


def _steps(contract: Contract, episode: str, plan: Plan, t: np.ndarray, shown: np.ndarray) -> pa.Table:
    count = len(t)
    at = np.clip(np.searchsorted(plan.times + LEAD_S - 0.2, t, side="right") - 1, -1, len(plan.times) - 1)
    told = [f"take the {plan.order[i]} block" if i >= 0 else None for i in at]
    frame = (np.searchsorted(shown, t + 1e-9, side="right") - 1).astype(np.int32)
    values = {
        "episode_id": pa.array([episode] * count).dictionary_encode(), "step": pa.array(np.arange(count), pa.int32()),
        "t_ns": pa.array(np.rint(t * SECOND).astype(np.int64)), "is_first": pa.array(np.arange(count) == 0),
        "is_last": pa.array(np.arange(count) == count - 1), "is_terminal": pa.array(np.zeros(count, bool)),
        "language": pa.array(told, pa.string()).dictionary_encode(), "frame.scene": pa.array(frame),
        "frame.segmentation.scene": pa.array(frame),
    }  # fmt: skip
    schema = steps_schema(contract)
    return pa.table([values.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)


def with_gaze(batch: Batch, change: Any) -> Batch:
    """The same recording with other gaze: `change(values float64[N, 2], t_ns int64[N]) -> values, t_ns` per episode."""
    assert batch.streams is not None
    table, parts = batch.streams, []
    for episode in batch.episodes:
        mine = table.filter(pa.compute.equal(table.column("episode_id").cast(pa.string()), episode))
        is_gaze = pa.compute.equal(mine.column("stream").cast(pa.string()), "gaze")
        gaze, rest = mine.filter(is_gaze), mine.filter(pa.compute.invert(is_gaze))
        values, t_ns = change(np.array(gaze.column("values").to_pylist(), float), gaze.column("t_ns").to_numpy())
        for name, array in (("values", pa.array(values.tolist(), pa.list_(pa.float64()))), ("t_ns", pa.array(t_ns, pa.int64()))):
            gaze = gaze.set_column(gaze.column_names.index(name), gaze.schema.field(name), array)
        parts += [gaze, rest]
    return replace(batch, streams=pa.concat_tables(parts).unify_dictionaries())


def batch_of_draft(source: Any, draft: Any) -> Batch:
    """One episode as a source drafts it, as an annotator is given it."""
    tables = [
        t
        if t is None or "episode_id" in t.column_names
        else t.add_column(0, "episode_id", pa.array(["e"] * len(t)).dictionary_encode())
        for t in (draft.steps, draft.streams)
    ]
    return Batch(source.contract(), tables[0], streams=tables[1])
