"""Meta-World v3 under MuJoCo: its scripted experts play, two cameras watch, and what only a simulator knows is kept as privileged.

Everything is stated in the frame `base`: origin at the Sawyer's base, x forward over the table, y left, z up, metres. Meta-World's
own world has the arm reach along +y, so its vectors are turned by -90 degrees about z (the contract's `standardise` says so).
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from pipelines.record import metaworld_factors as looks
from pipelines.record.album import Album, counterfactual, declare_cameras
from pipelines.record.factors import Variation, draw_scene, redraw
from pipelines.record.render import FreeView, Photographer, View, activate, body_names, choose_backend
from pipelines.record.rollout import F64, Rollout, Samples, as_f32, step_times
from pipelines.record.sights import Sights, is_sight, sight_streams
from pipelines.record.spec import RecordSpec
from pipelines.record.tasks import META_WORLD, instruction
from schemas.contract import Contract, Feature, Part, Stream
from schemas.errors import UsageError

CONTROL_HZ = 80
SCENES = 50  # of one benchmark seed
# LeRobot's pose of corner2, closer than the benchmark's, where objects are a handful of pixels wide.
FRONT_POSITION = (0.75, 0.075, 0.7)
VIEWS = {"front": View("corner2", upside_down=True), "wrist": View("gripperPOV")}
TABLE = np.array([0.0, 0.72, 0.05])  # where a head above the robot looks at rest, Meta-World's world
SCENERY = ("world", "tablelink", "RetainingWall", "mocap")
ROBOT = "base"
GOAL = slice(36, 39)  # of an observation

BASE_FROM_WORLD = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
BASE_FROM_WORLD_QUAT = (0.5**0.5, 0.0, 0.0, -(0.5**0.5))
POSE_NAMES = ("x", "y", "z", "qw", "qx", "qy", "qz")
STATE = Feature(
    "observation.state", "float32", (8,), (*POSE_NAMES, "gripper"), role="state", representation="absolute", frame=ROBOT,
    parts=(
        Part("ee_position", 0, 3, representation="absolute", unit="m", frame=ROBOT),
        Part("ee_rotation", 3, 7, representation="absolute", rotation="quat_wxyz", frame=ROBOT),
        Part("gripper", 7, 8, representation="normalised", gripper_open=1.0, gripper_closed=0.0),
    ),
)  # fmt: skip
# The expert commands a displacement of the hand's target 80 times a second, 1 meaning 1 cm; a step holds their mean.
ACTION = Feature(
    "action", "float32", (4,), ("dx", "dy", "dz", "gripper"), role="action", representation="delta", frame=ROBOT,
    parts=(
        Part("ee_position", 0, 3, representation="delta", unit="cm per 1/80 s", frame=ROBOT),
        Part("gripper", 3, 4, representation="effort", gripper_open=-1.0, gripper_closed=1.0),
    ),
)  # fmt: skip


@dataclass(slots=True)
class MetaWorld:
    """Plays Meta-World tasks. One environment is open at a time: playing a task's episodes in a row costs one set-up."""

    spec: RecordSpec
    name: ClassVar[str] = "metaworld"
    known_tasks: ClassVar[Mapping[str, str]] = META_WORLD
    default_tasks: ClassVar[tuple[str, ...]] = ("drawer-open-v3", "button-press-topdown-v3", "pick-place-v3")
    factors: ClassVar[tuple[str, ...]] = looks.FACTORS
    values: ClassVar[Mapping[str, tuple[str, ...]]] = looks.VALUES
    sees_depth: ClassVar[bool] = True
    _stage: "Stage | None" = None
    _played: "Log | None" = None  # the last episode, where counterfactuals may be asked for

    def __post_init__(self) -> None:
        if CONTROL_HZ % self.spec.hz:
            rates = [hz for hz in range(1, CONTROL_HZ + 1) if CONTROL_HZ % hz == 0]
            raise UsageError(
                f"Meta-World is controlled at {CONTROL_HZ} Hz and cannot be recorded at {self.spec.hz} Hz; use one of {rates}"
            )
        activate(choose_backend() if self.spec.gl == "auto" else self.spec.gl)

    def contract(self, tasks: tuple[str, ...]) -> Contract:
        """Return what episodes of `tasks` promise; see `Simulator.contract`."""
        for task in tasks:
            instruction(task, META_WORLD)
        bodies = sorted({name for task in tasks for name in self._open(task).objects})
        geometry = {camera: _geometry(self._open(tasks[-1]), camera) for camera in self.spec.cameras}
        if "camera" in (*self.spec.factors.varied, *self.spec.counterfactual):
            geometry.pop("front", None)  # another one in every scene: told by the episodes' attributes
        poses = tuple(Stream(f"object_pose.{b}", POSE_NAMES, "m", ROBOT, privileged=True) for b in bodies)
        goal = Stream("goal_position", ("x", "y", "z"), "m", ROBOT, privileged=True)
        sights = sight_streams(self.spec.cameras, POSE_NAMES, ROBOT)
        return Contract(
            "", "sim", "metaworld_sawyer", float(self.spec.hz), features=(STATE, ACTION),
            cameras=declare_cameras(self.spec, geometry), streams=(*poses, goal, *sights), licence="MIT", split_keys=("task", "scene", *self.spec.factors.varied),
        )  # fmt: skip

    def run(self, task: str, seed: int) -> Rollout:
        """Play and render one episode; it ends `settle_s` after the first success or at Meta-World's limit of 500 control steps."""
        stage = self._open(task)
        variation = draw_scene(self.spec.factors, task, seed, looks.VALUES)
        log, policy = Log(self.spec, stage, stage.reset(seed, variation), Album(self.spec), variation), stage.policy()
        every = CONTROL_HZ // self.spec.hz
        settle, reached, solved = round(self.spec.settle_s * self.spec.hz), None, False
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constant")  # experts ask for more than 1 and are clipped, as the environment would
            for step in range(stage.env.max_path_length // every):
                log.look(step)
                succeeded, solved = log.act(policy, every)
                reached = step + 1 if succeeded and reached is None else reached
                if reached is not None and step + 1 - reached >= settle:
                    break
        attributes = {
            "simulator": self.name, "scene": seed, "control_hz": CONTROL_HZ, "pace": self.spec.pace,
            "success_s": None if reached is None else reached / self.spec.hz, "success_at_end": solved,
        }  # fmt: skip
        if variation.draws:
            attributes |= {"factors": looks.labels(variation), "split_parts": variation.parts} | self._placed(stage, variation)
        self._played = log if self.spec.counterfactual else None
        return log.rollout(task, seed, reached is not None, attributes)

    def rerender(self, rollout: Rollout, factor: str) -> Rollout:
        """Return the episode played last with exactly one factor changed; see `Varies.rerender`."""
        played = self._played
        if played is None:
            raise UsageError(f"nothing to render again: record Meta-World with counterfactual=({factor!r},)")
        stage, variation = (
            played.stage, redraw(played.variation, self.spec.factors, factor, rollout.task, rollout.seed, looks.VALUES),
        )  # fmt: skip
        stage.dress(variation)
        log = Log(self.spec, stage, played.observation, Album(self.spec), variation)
        for step, frame in enumerate(played.film):
            looks.project(stage.env.model, stage.env.data, frame)
            log.see(step)
        changed = counterfactual(rollout, factor, log.album, looks.labels(variation), log.segments())
        seen = [s for s in rollout.streams if not is_sight(s.name)]
        streams = (*seen, *log.sights.samples(rollout.t_ns, to_base))
        return replace(changed, streams=streams, attributes=changed.attributes | self._placed(stage, variation))

    def _placed(self, stage: "Stage", variation: Variation) -> dict[str, Any]:
        """Return where the front camera stands, if that is not the same in every scene."""
        if "camera" not in variation.draws or "front" not in self.spec.cameras:
            return {}
        known = {name: list(numbers) for name, numbers in _geometry(stage, "front", settle=False).items()}
        return {"cameras": {"front": known}}

    def close(self) -> None:
        """Free the open environment and its OpenGL context."""
        if self._stage is not None:
            self._stage.close()
            self._stage = None

    def _open(self, task: str) -> "Stage":
        if self._stage is None or self._stage.task != task:
            instruction(task, META_WORLD)
            self.close()
            self._stage = Stage(task, self.spec.size)
        return self._stage


@dataclass
class Stage:
    """One task's environment, its camera and its names."""

    task: str
    size: int
    _scenes: dict[int, Any] = field(default_factory=dict[int, Any])

    @cached_property
    def env(self) -> Any:
        """The Meta-World environment."""
        env = self._benchmark(0).train_classes[self.task]()
        env.model.camera(VIEWS["front"].camera).pos = FRONT_POSITION
        return env

    @cached_property
    def photographer(self) -> Photographer:
        """Renders the environment."""
        return Photographer(self.env.model, self.size, self.size)

    @cached_property
    def objects(self) -> dict[str, int]:
        """Body id of everything that is neither robot nor table, by name."""
        model = self.env.model
        bodies = [(model.body(i).name, i, model.body(int(model.body_rootid[i])).name) for i in range(model.nbody)]
        return {name: i for name, i, root in bodies if name and name not in SCENERY and root != ROBOT}

    @cached_property
    def finger_travel(self) -> F64:
        """Joint ranges of the two fingers, float64[2, 2] metres; both at their first value is open for one, closed for the other."""
        return np.array([self.env.model.joint(j).range for j in ("r_close", "l_close")])

    @cached_property
    def dresser(self) -> looks.Dresser:
        """Changes how the environment looks."""
        return looks.Dresser(self.env.model, self.objects.values())

    def dress(self, variation: Variation) -> None:
        """Make every later picture look like `variation`."""
        self.dresser.dress(variation)
        self.photographer.props[:] = looks.props(variation)

    def policy(self) -> Any:
        """Return a fresh scripted expert for this task."""
        from metaworld.policies import ENV_POLICY_MAP

        return ENV_POLICY_MAP[self.task]()

    def choose(self, seed: int) -> None:
        """Make scene `seed` what the environment's next reset sets up."""
        self.env.set_task(self._benchmark(seed // SCENES).train_tasks[seed % SCENES])

    def reset(self, seed: int, variation: Variation) -> F64:
        """Set up scene `seed` as it is varied and return the first observation, float64[39]."""
        self.choose(seed)
        offset = looks.pose_offset(variation)
        if any(offset):
            # Where the object starts is the first three entries of the benchmark's random vector; nothing public sets it.
            self.env._last_rand_vec = self.env._last_rand_vec + np.pad(offset, (0, len(self.env._last_rand_vec) - 2))
        self.dress(variation)
        observation, _ = self.env.reset()
        self.settle()
        return observation

    def settle(self) -> None:
        """Bring derived quantities (poses of bodies and cameras) up to date with the state."""
        import mujoco

        mujoco.mj_forward(self.env.model, self.env.data)

    def openness(self) -> float:
        """Return how open the gripper is: 1 with the fingers apart, 0 with both at the end of their travel."""
        data, (right, left) = self.env.data, self.finger_travel
        closed_by = (data.joint("r_close").qpos[0] - right[0]) + (left[1] - data.joint("l_close").qpos[0])
        travel = (right[1] - right[0]) + (left[1] - left[0])
        return float(np.clip(1 - closed_by / travel, 0, 1))

    def close(self) -> None:
        """Free the OpenGL context and the environment."""
        if "photographer" in self.__dict__:
            self.photographer.close()
        if "env" in self.__dict__:
            self.env.close()

    def _benchmark(self, block: int) -> Any:
        from metaworld import MT1

        if block not in self._scenes:
            self._scenes[block] = MT1(self.task, seed=block)
        return self._scenes[block]


@dataclass
class Log:
    """Plays and collects one episode. `observation` float64[39] is the latest; its end tells the expert where to go."""

    spec: RecordSpec
    stage: Stage
    observation: F64
    album: Album
    variation: Variation
    film: list[dict[str, F64]] = field(default_factory=list[dict[str, F64]])  # of a recording with counterfactuals
    hands: list[F64] = field(default_factory=list[F64])  # world pose xyz + quat wxyz, then openness
    objects: list[F64] = field(default_factory=list[F64])  # [bodies, 7] world poses
    actions: list[F64] = field(default_factory=list[F64])
    rewards: list[float] = field(default_factory=list[float])
    sights: Sights = field(default_factory=Sights)

    def look(self, step: int) -> None:
        """Record what is seen and sensed at the start of `step`."""
        data = self.stage.env.data
        hand = data.body("hand")
        self.hands.append(np.concatenate([hand.xpos, hand.xquat, [self.stage.openness()]]))
        ids = list(self.stage.objects.values())
        self.objects.append(np.concatenate([data.xpos[ids], data.xquat[ids]], axis=1))
        if self.spec.counterfactual:
            self.film.append(looks.film(data))
        self.see(step)

    def see(self, step: int) -> None:
        """Record what every camera sees of the present state, and the masks where they are due."""
        data, photographer = self.stage.env.data, self.stage.photographer
        hand = data.body("hand")
        for camera in self.spec.cameras:
            view = VIEWS[camera] if camera in VIEWS else head_view(hand.xpos, step / self.spec.hz)
            self.album.keep(camera, photographer.picture(data, view))
            self.sights.keep(camera, photographer.sight(view, hand.xpos))
            if self.album.wants_masks(step):
                self.album.keep_masks(camera, step, photographer.masks(data, view))
            if self.album.wants_depth(step):
                self.album.keep_depth(camera, step, photographer.depths(data, view))

    def act(self, policy: Any, count: int) -> tuple[bool, bool]:
        """Let the expert act for `count` control steps; return whether the task was solved at any of them, and after the last."""
        commands, rewards, solved = np.empty((count, 4)), np.empty(count), np.empty(count, bool)
        for i in range(count):
            commands[i] = np.clip(policy.get_action(self.observation), -1.0, 1.0)
            commands[i, :3] *= self.spec.pace
            self.observation, rewards[i], _, _, info = self.stage.env.step(commands[i])
            solved[i] = info["success"]
        self.actions.append(np.append(BASE_FROM_WORLD @ commands[:, :3].mean(0), commands[-1, 3]))
        self.rewards.append(float(rewards.mean()))
        return bool(solved.any()), bool(solved[-1])

    def segments(self) -> dict[str, str]:
        """Return the names behind the numbers in the masks."""
        if not self.spec.mask_every:
            return {}
        names, number = body_names(self.stage.env.model), str(self.stage.env.model.nbody + 1)
        return names | ({number: "distractor"} if "distractors" in self.variation.draws else {})

    def rollout(self, task: str, seed: int, success: bool, attributes: dict[str, Any]) -> Rollout:
        """Return the finished episode."""
        hands, objects = np.stack(self.hands), np.stack(self.objects)
        times = step_times(len(hands), self.spec.hz)
        goal = BASE_FROM_WORLD @ self.observation[GOAL]
        poses = [Samples(f"object_pose.{n}", times, to_base(objects[:, i])) for i, n in enumerate(self.stage.objects)]
        state = np.concatenate([to_base(hands[:, :7]), hands[:, 7:]], axis=1)
        streams = (*poses, Samples("goal_position", times[:1], goal[None]), *self.sights.samples(times, to_base))
        return Rollout(
            task, seed, instruction(task, META_WORLD), success, self.spec.hz,
            columns={"observation.state": as_f32(state), "action": as_f32(np.stack(self.actions))}, reward=as_f32(self.rewards),
            frames=self.album.frames(), masks=self.album.masks(), streams=streams,
            attributes=attributes | {"goal_position": goal.tolist(), "segments": self.segments()},
        )  # fmt: skip


def to_base(poses: F64) -> F64:
    """Turn world poses float64[n, 7] (xyz metres, quaternion wxyz) into the frame `base`; quaternions do not jump in sign."""
    position = poses[:, :3] @ BASE_FROM_WORLD.T
    rotation = _quat_product(np.array(BASE_FROM_WORLD_QUAT), poses[:, 3:])
    same = np.sum(rotation[1:] * rotation[:-1], axis=1) >= 0
    flips = np.cumprod(np.concatenate([[1.0 if rotation[0, 0] >= 0 else -1.0], np.where(same, 1.0, -1.0)]))
    return np.concatenate([position, rotation * flips[:, None]], axis=1)


def _quat_product(left: F64, right: F64) -> F64:
    """Return Hamilton's product of one quaternion wxyz [4] with many [n, 4]."""
    w, x, y, z = left
    matrix = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return right @ matrix.T


def head_view(hand: F64, t_s: float) -> FreeView:
    """Return the view of a head above the robot's shoulder at `t_s` seconds: it follows the hand half-way and is never quite still."""
    x, y, z = (TABLE + hand) / 2
    sway, nod = np.sin(2 * np.pi * 0.31 * t_s), np.sin(2 * np.pi * 0.47 * t_s + 1)
    return FreeView((float(x), float(y), float(z)), 0.9, 126.0 + 3.0 * float(sway), -39.0 + 2.0 * float(nod))


def _geometry(stage: Stage, camera: str, *, settle: bool = True) -> dict[str, Any]:
    """Return the intrinsics of a camera that the model names and, for the one that does not move, T_base_camera."""
    if camera not in VIEWS:
        return {}
    view, photographer = VIEWS[camera], stage.photographer
    known: dict[str, Any] = {"intrinsics": photographer.intrinsics(view)}
    if camera == "front":
        if settle:
            stage.settle()
        base = np.eye(4)
        base[:3, :3] = BASE_FROM_WORLD
        known["extrinsics"] = tuple(map(float, (base @ photographer.pose(stage.env.data, view)).reshape(-1)))
    return known
