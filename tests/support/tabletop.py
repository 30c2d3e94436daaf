"""A table seen from above, drawn: things on a textured cloth, an arm, a camera that may shake. Every pair knows what changed in it."""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import cv2
import numpy as np

SIDE, PAD = 256, 16
SINGLE = ("location", "rotation", "count", "attribute", "articulation")
SPOILT = ("none", "camera", "two", "arm_only", "light", "blur", "still_moving", "swap_colours")
COLOURS = {
    "red": (214, 40, 40), "orange": (240, 130, 30), "yellow": (235, 205, 50), "green": (40, 140, 60), "blue": (40, 70, 200),
    "purple": (130, 60, 170), "white": (235, 235, 235), "black": (25, 25, 25),
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """A rectangle or an ellipse: centre, half sizes in pixels, turn in radians, colour."""

    shape: str
    x: float
    y: float
    a: float
    b: float
    turn: float
    colour: str


@dataclass(frozen=True)
class Table:
    """One state of the table. `arm` is where the arm's hand is, `drawer` how far the drawer is out, in pixels; None: there is none."""

    cloth: int
    things: tuple[Thing, ...]
    arm: tuple[float, float] | None = None
    drawer: float | None = None
    light: float = 1.0


@dataclass(frozen=True)
class Drawn:
    """A pair: pictures, a moment around each, masks of the arm, the truth."""

    source: np.ndarray
    target: np.ndarray
    before: np.ndarray
    after: np.ndarray
    robot: tuple[np.ndarray, np.ndarray]
    kind: str
    prompt: str
    single: bool
    camera: tuple[float, float] = (0.0, 0.0)
    tables: tuple[Table, ...] = field(default=(), repr=False)


def random_table(seed: int, arm: bool = True) -> Table:
    """Three or four things that do not touch each other, in different colours."""
    r = np.random.default_rng(seed)
    names, things = list(r.permutation(list(COLOURS))), list[Thing]()
    while len(things) < 3 + seed % 2:
        a = float(r.uniform(11, 17))
        thing = Thing(
            str(r.choice(["box", "ball"])), float(r.uniform(70, 186)), float(r.uniform(90, 190)), a, a * float(r.uniform(0.4, 0.9)),
            float(r.uniform(0, np.pi)), names[len(things)],
        )  # fmt: skip
        if free(things, thing):
            things.append(thing)
    return Table(seed, tuple(things), (float(r.uniform(40, 70)), float(r.uniform(40, 60))) if arm else None, 0.0)


def free(others: list[Thing], thing: Thing) -> bool:
    """Whether a thing keeps 12 pixels from every other one."""
    return all(np.hypot(thing.x - o.x, thing.y - o.y) > thing.a + o.a + 12 for o in others)


@lru_cache(maxsize=64)
def cloth(seed: int) -> np.ndarray:
    """Texture float32[S, S] that has something to match at every scale."""
    r, size = np.random.default_rng(seed), SIDE + 2 * PAD
    layers = [
        cv2.resize(r.normal(0, s, (n, n)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        for n, s in ((8, 18), (32, 11), (96, 7))
    ]
    return 125 + np.sum(layers, 0)


def draw(table: Table, camera: tuple[float, float] = (0.0, 0.0), noise: int = 0) -> np.ndarray:
    """The picture uint8[256, 256, 3] of a state, by a camera that stands `camera` pixels off."""
    base = cloth(table.cloth)
    image = np.stack([base, base * 0.95, base * 0.85], -1)
    if table.drawer is not None:
        top = 215 + PAD
        cv2.rectangle(image, (90 + PAD, top - round(table.drawer)), (165 + PAD, top), (45, 35, 30), -1)
        front = top - round(table.drawer)
        cv2.rectangle(image, (90 + PAD, front - 12), (165 + PAD, front), (150, 105, 70), -1)
        cv2.rectangle(image, (120 + PAD, front - 9), (135 + PAD, front - 5), (230, 230, 210), -1)
    for thing in table.things:
        corners = _outline(thing)
        cv2.fillPoly(image, [corners], COLOURS[thing.colour], cv2.LINE_AA, 4)
        cv2.polylines(image, [corners], True, tuple(c * 0.6 for c in COLOURS[thing.colour]), 2, cv2.LINE_AA, 4)
    if table.arm is not None:
        x, y = (v + PAD for v in table.arm)
        cv2.line(image, (PAD, PAD), (round(x), round(y)), (175, 180, 190), 14, cv2.LINE_AA)
        cv2.circle(image, (round(x), round(y)), 11, (90, 95, 110), -1, cv2.LINE_AA)
    moved = cv2.warpAffine(
        image, np.array([[1, 0, camera[0] - PAD], [0, 1, camera[1] - PAD]], np.float32), (SIDE, SIDE), flags=cv2.INTER_CUBIC
    )
    return np.clip(moved * table.light + np.roll(grain(), 977 * noise + 31 * table.cloth, 0), 0, 255).astype(np.uint8)


@lru_cache
def grain() -> np.ndarray:
    """Noise of a camera, float32[256, 256, 3]."""
    return np.random.default_rng(0).normal(0, 1.5, (SIDE, SIDE, 3)).astype(np.float32)


def arm_mask(table: Table) -> np.ndarray:
    """Where the arm is, bool[256, 256]."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    if table.arm is not None:
        end = (round(table.arm[0]), round(table.arm[1]))
        cv2.line(image, (0, 0), end, 255, 18)
        cv2.circle(image, end, 13, 255, -1)
    return image > 0


def make(kind: str, seed: int, jitter: float = 0.0) -> Drawn:
    """Draw a pair of one kind; `jitter` moves the camera by so many pixels in a direction drawn from the seed."""
    r = np.random.default_rng((seed, sum(map(ord, kind))))
    source = random_table(seed)
    if kind == "rotation":
        first, *rest = source.things
        source = replace(source, things=(replace(first, shape="box", b=first.a * 0.35), *rest))
    target, prompt = edit(source, kind, r)
    angle = float(r.uniform(0, 2 * np.pi))
    jitter = jitter or (float(r.uniform(1, 4)) if kind == "camera" else 0.0)
    camera = (jitter * float(np.cos(angle)), jitter * float(np.sin(angle)))
    resting = target
    if kind == "still_moving":
        last = target.things[0]
        resting = replace(target, things=(replace(last, x=last.x + 5), *target.things[1:]))
    pictures = [
        draw(t, c, n)
        for n, (t, c) in enumerate(((source, (0.0, 0.0)), (target, camera), (source, (0.0, 0.0)), (resting, camera)))
    ]
    if kind == "blur":
        pictures[1] = cv2.GaussianBlur(pictures[1], (0, 0), 3.0)
    first, second, before, after = pictures
    return Drawn(
        first, second, before, after, (arm_mask(source), arm_mask(target)), kind, prompt, kind in SINGLE and not jitter, camera, (source, target)
    )  # fmt: skip


def edit(table: Table, kind: str, r: np.random.Generator) -> tuple[Table, str]:
    """Change one state into another, and say how."""
    first, *rest = table.things
    moved_arm = (float(r.uniform(40, 75)), float(r.uniform(35, 62)))
    if kind in ("location", "blur", "still_moving", "camera", "light"):
        moved = _moved(first, rest, r)
        away = abs(moved.x - first.x) > abs(moved.y - first.y)
        word = ("right" if moved.x > first.x else "left") if away else ("down" if moved.y > first.y else "up")
        prompt = f"move the {first.colour} {first.shape} {'to the ' if away else ''}{word}"
        if kind in ("camera", "light"):
            return (table, prompt) if kind == "camera" else (replace(table, light=1.45), "turn on the light")
        return replace(table, things=(moved, *rest)), prompt
    if kind == "rotation":
        turned = replace(first, turn=first.turn + float(r.uniform(0.5, 1.5)) * float(r.choice([-1, 1])))
        return replace(table, things=(turned, *rest)), f"rotate the {first.colour} box"
    if kind == "count":
        if r.random() < 0.5:
            return replace(table, things=tuple(rest)), f"remove the {first.colour} {first.shape}"
        used = {t.colour for t in table.things}
        new = _placed(replace(first, colour=next(c for c in COLOURS if c not in used)), list(table.things), r)
        return replace(table, things=(*table.things, new)), f"add a {new.colour} {new.shape}"
    if kind == "attribute":
        used = {t.colour for t in table.things}
        colour = str(r.choice([c for c in COLOURS if c not in used]))
        return replace(table, things=(replace(first, colour=colour), *rest)), f"make the {first.colour} {first.shape} {colour}"
    if kind == "articulation":
        return replace(table, drawer=float(r.uniform(10, 20))), "open the drawer"
    if kind == "two":
        second, *others = rest
        a = _moved(first, rest, r)
        return replace(table, things=(a, _moved(second, [a, *others], r), *others)), f"move the {first.colour} {first.shape}"
    if kind == "swap_colours":
        second, *others = rest
        return replace(
            table, things=(replace(first, colour=second.colour), replace(second, colour=first.colour), *others)
        ), f"make the {first.colour} {first.shape} {second.colour}"
    return (replace(table, arm=moved_arm) if kind == "arm_only" else table), f"push the {first.colour} {first.shape}"


def _moved(thing: Thing, others: list[Thing], r: np.random.Generator) -> Thing:
    """The same thing 14 to 80 pixels away."""
    while True:
        moved = _placed(thing, others, r)
        if 14 <= np.hypot(moved.x - thing.x, moved.y - thing.y) <= 80:
            return moved


def _placed(thing: Thing, others: list[Thing], r: np.random.Generator) -> Thing:
    for _ in range(2000):
        placed = replace(thing, x=float(r.uniform(50, 215)), y=float(r.uniform(80, 190)))
        if free(others, placed):
            return placed
    raise AssertionError(f"no room on the table for {thing}")


def _outline(thing: Thing) -> np.ndarray:
    """Corners int32[n, 1, 2] in sixteenths of a pixel."""
    if thing.shape == "box":
        local = np.array([[-thing.a, -thing.b], [thing.a, -thing.b], [thing.a, thing.b], [-thing.a, thing.b]])
    else:
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        local = np.stack([thing.a * np.cos(t), thing.b * np.sin(t)], 1)
    c, s = np.cos(thing.turn), np.sin(thing.turn)
    return np.round(((local @ np.array([[c, s], [-s, c]])) + [thing.x + PAD, thing.y + PAD]) * 16).astype(np.int32)[:, None]
