"""Simulators that can be put back into a stored state exactly: Meta-World, through MuJoCo's own state."""

import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.record.metaworld import Stage
from pipelines.record.render import activate, choose_backend
from schemas.errors import DependencyError

F64 = npt.NDArray[np.float64]


@dataclass
class MetaWorldAttempts:
    """One task and scene of Meta-World as a `Resettable`. Nothing is rendered.

    Attributes:
        task: a Meta-World task, for example `reach-v3`.
        scene: number of the scene.
    """

    task: str
    scene: int = 0
    _solved: bool = field(default=False, init=False)

    @cached_property
    def stage(self) -> Stage:
        """The environment, set up."""
        with suppress(DependencyError):  # nothing is drawn here, but who draws later in this process needs the platform
            activate(choose_backend())
        stage = Stage(self.task, 64)
        stage.choose(self.scene)
        stage.env.reset()
        return stage

    def get_state(self) -> F64:
        """Return MuJoCo's integration state and the observation before, float64[S + O]."""
        import mujoco

        env, kind = self.stage.env, mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(env.model, kind))
        mujoco.mj_getState(env.model, env.data, state, kind)
        return np.concatenate([state, np.asarray(env._prev_obs, np.float64)])  # observations hold the one before

    def set_state(self, state: F64) -> None:
        """Put the physics back."""
        import mujoco

        env, kind = self.stage.env, mujoco.mjtState.mjSTATE_INTEGRATION
        size = mujoco.mj_stateSize(env.model, kind)
        mujoco.mj_setState(env.model, env.data, state[:size], kind)
        mujoco.mj_forward(env.model, env.data)
        mujoco.mj_setState(env.model, env.data, state[:size], kind)  # forward moved the solver's warm start
        env._prev_obs, env.curr_path_length = state[size:].copy(), 0

    def observe(self) -> F64:
        """Return the observation the scripted experts act on, float64[39]."""
        env = self.stage.env
        before = np.asarray(env._prev_obs).copy()
        seen = np.asarray(env._get_obs(), np.float64)
        env._prev_obs = before  # looking twice is not acting twice
        return seen

    def step(self, action: F64) -> tuple[float, bool]:
        """Act for one control step."""
        _, reward, _, _, info = self.stage.env.step(np.clip(action, -1, 1))
        return float(reward), bool(info["success"])

    def expert(self) -> Any:
        """Return the scripted expert as a policy of `pipelines.attempts.simulate.grow`."""
        policy = self.stage.policy()

        def act(observation: F64, _draw: int) -> F64:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Constant")  # experts ask for more than 1 and are clipped
                return np.clip(policy.get_action(observation), -1, 1)

        return act
