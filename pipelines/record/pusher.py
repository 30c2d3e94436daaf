"""A scripted expert for PushT: it tries pushes in a copy of the world and carries out the best one, until nothing improves.

Block and pusher stop at once when nothing moves them (the simulation has full damping), so what a push does in the copy is what it
will do. Lengths are PushT's pixels, x to the right and y down; angles are radians.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from pipelines.record.rollout import F64

RADIUS = 15.0  # of the pusher
GAP = 6.0  # left between pusher and block before a push
CLEARANCE = 125.0  # radius around the block on which the pusher travels without touching it
STRIDE = 9.0  # furthest the commanded target moves in one step at 20 Hz
MARGIN = (18.0, 494.0)  # the pusher stays between the walls
PER_EDGE = 4
ANGLES = (-0.45, 0.0, 0.45)  # of the push against the edge's normal
BRAKE_S = 0.3
REACH = 16  # steps of the longest push
STEADY = (1.0, 0.25)  # strides tried: a coarse push, and a fine one for the last millimetres


@dataclass(frozen=True, slots=True)
class Push:
    """Go to `start` without touching the block, then move the commanded target by `stride` (both float64[2]) for `steps` steps."""

    start: F64
    stride: F64
    steps: int
    error: float  # mean distance of the block's corners from their goal afterwards, pixels


def plan(world: Any, copy: Any, scale: float) -> Iterator[F64]:
    """Yield the target, float64[2], to command at each step, until no push brings the block closer to its goal.

    Args:
        world: the PushT environment being recorded; its state is read anew after every push.
        copy: another one, to try pushes in.
        scale: length of a control step relative to 1/20 s.
    """
    while True:
        push = best_push(world, copy, scale)
        if push is None:
            return
        yield from travel(world, push.start, STRIDE * scale)
        for i in range(push.steps):
            yield push.start + push.stride * (i + 1)
        yield back_off(world)


def back_off(world: Any) -> F64:
    """Return the target, float64[2], that takes the pusher's momentum away at once: some way behind it."""
    return np.asarray(world.agent.position) - BRAKE_S * np.asarray(world.agent.velocity)


def best_push(world: Any, copy: Any, scale: float) -> Push | None:
    """Return the push that leaves the block closest to its goal, or None if none improves on where it is."""
    goal, state = goal_corners(world), snapshot(world)
    best, error = None, corner_error(world, goal)
    floor = error - 0.05
    for start, direction in contacts(world):
        for share in STEADY:
            stride = direction * STRIDE * scale * share
            restore(copy, state)
            copy.agent.position, copy.agent.velocity = tuple(start), (0.0, 0.0)
            for i in range(round(REACH / scale)):
                advance(copy, start + stride * (i + 1))
                after = corner_error(copy, goal)
                if after < floor and (best is None or after < best.error):
                    best = Push(start, stride, i + 1, after)
    return best


def contacts(world: Any) -> Iterator[tuple[F64, F64]]:
    """Yield where a push may start and its direction (float64[2] each): along every edge, around its normal, between the walls."""
    for shape in shapes(world):
        corners = np.array([world.block.local_to_world(v) for v in shape.get_vertices()])
        centre = corners.mean(0)
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            normal = np.array([(b - a)[1], -(b - a)[0]]) / np.linalg.norm(b - a)
            normal = normal if normal @ ((a + b) / 2 - centre) > 0 else -normal
            for share in (np.arange(PER_EDGE) + 0.5) / PER_EDGE:
                for angle in ANGLES:
                    start = a + (b - a) * share + rotate(normal, angle) * (RADIUS + GAP)
                    if (start > MARGIN[0]).all() and (start < MARGIN[1]).all() and is_free(world, start):
                        yield start, -rotate(normal, angle)


def travel(world: Any, goal: F64, stride: float) -> Iterator[F64]:
    """Yield targets that lead the pusher to `goal` around the block: out to a circle, along it, and in."""
    here = np.asarray(world.agent.position)
    centre = np.asarray(world.block.local_to_world(world.block.center_of_gravity))
    first, last = _angle(here - centre), _angle(goal - centre)
    turn = (last - first + np.pi) % (2 * np.pi) - np.pi
    arc = [first + turn * s for s in np.linspace(0, 1, max(2, int(abs(turn) * CLEARANCE / stride)))]
    corners = [here, *(np.clip(centre + CLEARANCE * np.array([np.cos(a), np.sin(a)]), *MARGIN) for a in arc), goal]
    for a, b in pairwise(corners):
        count = max(1, int(np.ceil(np.linalg.norm(b - a) / stride)))
        for i in range(count):
            yield a + (b - a) * (i + 1) / count
    for _ in range(4):  # the pusher follows its target with a lag
        yield goal


def advance(world: Any, target: F64) -> None:
    """Do one control step as PushT does it: a PD controller pulls the pusher to `target`."""
    for _ in range(int(1 / (world.dt * world.control_hz))):
        position, velocity = np.asarray(world.agent.position), np.asarray(world.agent.velocity)
        world.agent.velocity = tuple(velocity + (world.k_p * (target - position) - world.k_v * velocity) * world.dt)
        world.space.step(world.dt)


def snapshot(world: Any) -> dict[str, Any]:
    """Return the state of pusher and block."""
    agent, block = world.agent, world.block
    return {
        "agent": (tuple(agent.position), tuple(agent.velocity)),
        "block": (tuple(block.position), block.angle, tuple(block.velocity), block.angular_velocity),
    }


def restore(world: Any, state: dict[str, Any]) -> None:
    """Put pusher and block where `snapshot` saw them."""
    world.agent.position, world.agent.velocity = state["agent"]
    position, world.block.angle, world.block.velocity, world.block.angular_velocity = state["block"]
    world.block.position = position  # after the angle: PushT turns the block about its centre of gravity
    world.space.reindex_shapes_for_body(world.block)


def corner_error(world: Any, goal: F64) -> float:
    """Return the mean distance of the block's corners from `goal`, pixels."""
    return float(np.linalg.norm(block_corners(world) - goal, axis=1).mean())


def block_corners(world: Any) -> F64:
    """Return the corners of the block, float64[8, 2] pixels."""
    return np.array([world.block.local_to_world(v) for shape in shapes(world) for v in shape.get_vertices()])


def goal_corners(world: Any) -> F64:
    """Return where the corners of the block belong, float64[8, 2] pixels."""
    body = world.get_goal_pose_body(world.goal_pose)
    return np.array([body.local_to_world(v) for shape in shapes(world) for v in shape.get_vertices()])


def is_free(world: Any, point: F64) -> bool:
    """Tell whether the pusher fits at `point` without touching the block."""
    return all(shape.point_query(tuple(point)).distance > RADIUS + 1 for shape in shapes(world))


def shapes(world: Any) -> list[Any]:
    """Return the two bars of the block in an order that does not depend on memory addresses."""
    return sorted(world.block.shapes, key=lambda shape: [tuple(v) for v in shape.get_vertices()])


def rotate(vector: F64, angle: float) -> F64:
    """Turn `vector` float64[2] by `angle`."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]])


def _angle(vector: F64) -> float:
    return float(np.arctan2(vector[1], vector[0]))
