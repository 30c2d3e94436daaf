"""What to record: one frozen dataclass, checked on construction. Knows no simulator; what only one of them can tell is checked there."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from pipelines.record.factors import VISUAL, Factors
from schemas.errors import UsageError

SimulatorName = Literal["auto", "metaworld", "pusht", "gymnasium", "robosuite"]
GlBackend = Literal["auto", "egl", "osmesa"]
UNVARIED = Factors()
CAMERAS = ("front", "wrist", "ego")
MIN_SIZE, MAX_SIZE = 32, 1024
# Adding episodes or tasks to a recording keeps what is there; changing anything else would mix two kinds of data in one folder.
GROWS = ("tasks", "episodes", "seed", "gl", "counterfactual")


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """One recording.

    Attributes:
        simulator: `metaworld` (MuJoCo, needs OpenGL), `pusht` (software only), `gymnasium` (any registered environment; tasks are
            their ids), `robosuite` (its environments by name, LIBERO's by BDDL file; not installed by cotrain), or `auto`: the first of the first two that works here.
        tasks: names of tasks; none means the simulator's own three (Meta-World) or one (PushT).
        episodes: episodes per task.
        seed: scene of the first episode of each task; episode i plays scene `seed + i`.
        size: width and height of every picture, pixels; even, because H.264 4:2:0 needs it.
        hz: recorded steps per second; must divide the simulator's control rate (Meta-World 80, PushT 100).
        cameras: which of `front`, `wrist` and `ego` (a head that looks over the table and follows the work) to render.
        segmentation_hz: about how often to take the privileged segmentation masks (every so many steps); 0 takes none.
        depth_hz: about how often to take privileged depth (Meta-World only); 0 takes none.
        gl: OpenGL platform for MuJoCo.
        settle_s: seconds recorded after the task first succeeds.
        pace: share of the expert's commanded translation, in (0, 1]. Meta-World's experts move at up to 1 m/s and finish within
            a second or two; slower ones look like demonstrations. Some experts need their full pace to succeed (push, door-open).
        gop: frames per keyframe of the encoded video.
        policy: of simulators without experts of their own (gymnasium, robosuite): `random` (as is nothing), `scripted`, or `module:function`.
        factors: what varies from scene to scene beside the simulator's own randomness, recorded as labels.
        counterfactual: factors to change one at a time in every scene, rendering the same states again as further episodes.
    """

    simulator: SimulatorName = "auto"
    tasks: tuple[str, ...] = ()
    episodes: int = 4
    seed: int = 0
    size: int = 128
    hz: int = 20
    cameras: tuple[str, ...] = ("front", "wrist")
    segmentation_hz: float = 5
    gl: GlBackend = "auto"
    settle_s: float = 0.5
    pace: float = 0.4
    gop: int = 8
    policy: str = ""
    factors: Factors = UNVARIED
    counterfactual: tuple[str, ...] = ()
    depth_hz: float = 0

    def __post_init__(self) -> None:
        """Refuse what no simulator could record.

        Raises:
            UsageError: names the field, its value and what it may be.
        """
        _check("gl", self.gl, self.gl in get_args(GlBackend), f"one of {get_args(GlBackend)}")
        _check("episodes", self.episodes, self.episodes >= 1, "at least 1")
        _check("seed", self.seed, self.seed >= 0, "0 or more")
        _check("size", self.size, MIN_SIZE <= self.size <= MAX_SIZE and self.size % 2 == 0, f"even, {MIN_SIZE} to {MAX_SIZE}")
        _check("hz", self.hz, self.hz >= 1, "at least 1")
        known = bool(self.cameras) and set(self.cameras) <= set(CAMERAS) and len(set(self.cameras)) == len(self.cameras)
        _check("cameras", self.cameras, known, f"one or more of {CAMERAS}, each once")
        _check("segmentation_hz", self.segmentation_hz, self.segmentation_hz >= 0, "0 or more")
        _check("depth_hz", self.depth_hz, self.depth_hz >= 0, "0 or more")
        _check("tasks", self.tasks, len(set(self.tasks)) == len(self.tasks), "without repetition")
        _check("settle_s", self.settle_s, 0 <= self.settle_s <= 10, "0 to 10 seconds")
        _check("pace", self.pace, 0 < self.pace <= 1, "above 0, at most 1")
        _check("gop", self.gop, self.gop >= 1, "at least 1")
        once = set(self.counterfactual) <= set(VISUAL) and len(set(self.counterfactual)) == len(self.counterfactual)
        _check(
            "counterfactual", self.counterfactual, once, f"of {VISUAL}, each once: others change what happens, not what is seen"
        )

    @property
    def seeds(self) -> range:
        """The scenes to play for each task."""
        return range(self.seed, self.seed + self.episodes)

    @property
    def mask_every(self) -> int:
        """Steps from one segmentation mask to the next; 0 where none are taken."""
        return max(1, round(self.hz / self.segmentation_hz)) if self.segmentation_hz else 0

    @property
    def depth_every(self) -> int:
        """Steps from one depth picture to the next; 0 where none are taken."""
        return max(1, round(self.hz / self.depth_hz)) if self.depth_hz else 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; factors and depth only where there are any, so that plain recordings stay as they always were."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("factors", "counterfactual", "depth_hz")}
        varied = {"factors": self.factors.to_dict(), "counterfactual": self.counterfactual, "depth_hz": self.depth_hz}
        return plain | {name: value for name, value in varied.items() if value}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote; lists become tuples.

        Raises:
            UsageError: a key is unknown or a value impossible.
        """
        if unknown := sorted(set(raw) - {f.name for f in fields(cls)}):
            raise UsageError(f"a recording has no settings {unknown}; it has {[f.name for f in fields(cls)]}")
        values: dict[str, Any] = {k: tuple(raw[k]) if isinstance(raw[k], list) else raw[k] for k in raw}
        if "factors" in values:
            values["factors"] = Factors.from_dict(values["factors"])
        return cls(**values)

    def differences(self, other: "RecordSpec") -> dict[str, tuple[Any, Any]]:
        """Return the settings that may not differ within one recording, as `name -> (self, other)`."""
        mine, theirs = self.to_dict(), other.to_dict()
        names = [k for k in mine | theirs if k not in GROWS]
        return {k: (mine.get(k), theirs.get(k)) for k in names if mine.get(k) != theirs.get(k)}


def _check(name: str, value: object, holds: bool, may: str) -> None:
    if not holds:
        raise UsageError(f"a recording's {name} may not be {value!r}: it must be {may}")
