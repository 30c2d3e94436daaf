"""One part of an episode becomes rows: draws, the student's and the teacher's answers, their difference in float32, and the errors.

The residual is subtracted in float32 and only then rounded to float16: stored answers of 16 bits would cost up to 2 % of it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.residuals.config import DRAWN, CacheConfig
from pipelines.residuals.drawing import Draws, draw
from pipelines.residuals.heads import HEADS, Columns
from pipelines.residuals.pair import TeacherPair
from pipelines.residuals.reading import Part
from pipelines.residuals.teacher import Teacher
from schemas.errors import TeacherError, UsageError
from schemas.residuals import CHUNKED
from transforms.flow import ddpm_noisy, noisy, target

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answers:
    """What student and teacher said, float32[B, K, H, A] each (None: not asked), and what a perfect one would have said."""

    base: F32 | None
    teacher: F32 | None
    target: F32


def compute(teacher: Teacher, config: CacheConfig, part: Part) -> tuple[Columns, Columns]:
    """Return the rows of one part, and what the draws of a frame share, as arrays [B * K, ...] and [B, ...].

    Raises:
        TeacherError: an answer cannot be stored.
        UsageError: the teacher's batch lacks what it promised.
    """
    import torch

    with torch.no_grad():
        ready = prepare(teacher, config, part)
        draws = draw(teacher.spec, config, part.ref.dataset, part.ref.episode_id, part.frames)
        if config.mode in CHUNKED:
            rows = _residual_rows(teacher, config, ready, draws, part)
        else:
            rows = HEADS[config.mode](teacher, config, ready, draws, part)
    head = {"seed": draws.seeds.reshape(-1), "frame_index": np.repeat(np.asarray(part.frames, np.int64), config.draws),
            "draw": np.tile(np.arange(config.draws, dtype=np.int16), len(part.frames))}  # fmt: skip
    nothing = np.full(len(head["draw"]), np.nan, np.float32)
    flowing = config.mode in DRAWN
    head |= {
        "tau_a": draws.tau.reshape(-1) if flowing else nothing,
        "tau_v": draws.rows_tau_aux.reshape(-1) if flowing else nothing,
    }
    if config.store_noise:
        rows["noise"] = draws.noise[..., : teacher.spec.action_dim].reshape(len(nothing), -1)
    return head | rows, _frames(teacher, config, ready, part)


def prepare(teacher: Teacher, config: CacheConfig, part: Part) -> dict[str, Any]:
    """Return the teacher's batch of a part, with its privileged inputs swapped where the control asks for it.

    Raises:
        UsageError: it lacks an action of the promised shape or a privileged input.
    """
    spec = teacher.spec
    ready = teacher.prepare(part.batch)
    if config.mode not in ("logits", "hidden"):
        shape = (len(part.frames), spec.horizon, spec.action_dim)
        found = tuple(ready["action"].shape) if "action" in ready else None
        if found != shape:
            raise UsageError(
                f"teacher {spec.teacher_id}: its actions are {found}, promised were {shape}; the mixture's action chunk must have "
                f"{spec.horizon} steps of {spec.action_dim} (windows.action_horizon_s, or the teacher's own deltas)"
            )
    if missing := [name for name in spec.privileged if name not in ready]:
        raise UsageError(f"teacher {spec.teacher_id} calls {missing} privileged, but its batch holds {sorted(ready)}")
    return {**ready, **swapped(ready, spec.privileged)} if config.shuffle_future else ready


def swapped(ready: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return privileged inputs with every row's taken from half a part away; of a part of one row nothing can be taken."""
    import torch

    return {name: torch.roll(ready[name], max(len(ready[name]) // 2, 1), 0) for name in names}


def ask(teacher: Teacher, config: CacheConfig, ready: Mapping[str, Any], draws: Draws, *, precise: bool = False) -> Answers:
    """Let student and teacher answer every draw; the student only where there is one."""
    import torch

    action = ready["action"].float()
    both = bool(teacher.spec.privileged) or isinstance(teacher, TeacherPair)
    said: dict[bool, list[Any]] = {True: [], False: []}
    wanted: list[Any] = []
    with teacher.precise() if precise else nullcontext(), _autocast(config, action.device, precise=precise):
        for j, group in draws.groups():
            context = teacher.encode(ready, draws.aux_inputs(j, action.device))
            for k in group:
                noise, tau = (torch.from_numpy(x[:, k]).to(action.device).float() for x in (draws.noise, draws.tau))
                point = noised(teacher, action, noise, tau)
                for privileged in (False, True) if both else (True,):
                    answer = teacher.velocity(context, point, tau, privileged=privileged)
                    said[privileged].append(answer.detach().float()[..., : teacher.spec.action_dim])
                wanted.append(target(teacher.spec.kind, action, noise[..., : action.shape[-1]]))
    base, wise = (torch.stack(said[p], 1).cpu().numpy() if said[p] else None for p in (False, True))
    return Answers(base, wise, torch.stack(wanted, 1).cpu().numpy())


def noised(teacher: Teacher, action: Any, noise: Any, tau: Any) -> Any:
    """Return the point of the path that a draw means, padded to the network's width (padding carries noise, as in training)."""
    from torch.nn.functional import pad

    padded = pad(action, (0, noise.shape[-1] - action.shape[-1]))
    t = tau.reshape(-1, 1, 1)
    if teacher.spec.kind not in ("ddpm_eps", "ddpm_sample"):
        return noisy(padded, noise, t)
    alpha_bar = getattr(teacher, "alpha_bar", None)
    if alpha_bar is None:
        raise UsageError(
            f"teacher {teacher.spec.teacher_id} is a DDPM but has no alpha_bar(tau), so nothing can be noised for it"
        )
    return ddpm_noisy(padded, noise, alpha_bar(tau).reshape(-1, 1, 1))


def _autocast(config: CacheConfig, device: Any, *, precise: bool) -> AbstractContextManager[Any]:
    import torch

    wanted = config.compute == "bfloat16" and not precise
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


def _residual_rows(teacher: Teacher, config: CacheConfig, ready: Mapping[str, Any], draws: Draws, part: Part) -> Columns:
    is_pad = ready["action_is_pad"].cpu().numpy().astype(bool)
    packed = np.repeat(np.packbits(is_pad, axis=1, bitorder="little"), config.draws, axis=0)
    if config.mode == "online":
        return {"action_is_pad": packed}
    found = ask(teacher, config, ready, draws)
    wise = _asked(teacher, config, found.teacher)
    base = found.base
    if base is None and config.needs_both():
        raise UsageError(
            f"teacher {teacher.spec.teacher_id} sees nothing that the student does not, and there is no student beside it; mode "
            f"{config.mode} needs a mask teacher or --student"
        )
    residual = None if base is None else wise - base
    columns = _named(config, base, wise, residual, part)
    columns |= {"action_is_pad": packed, **_scores(base, wise, residual, found.target, is_pad)}
    both = np.concatenate(
        [_flat(np.full_like(wise, np.nan) if base is None else base), _flat(wise if residual is None else residual)], 1
    )
    return columns | {"audit_fp32": both}


def _asked(teacher: Teacher, config: CacheConfig, answer: F32 | None) -> F32:
    if answer is None or answer.shape[2:] != (teacher.spec.horizon, teacher.spec.action_dim):
        shape = None if answer is None else answer.shape[2:]
        raise TeacherError(f"teacher {teacher.spec.teacher_id} answered {shape} in mode {config.mode}, promised was "
                           f"{(teacher.spec.horizon, teacher.spec.action_dim)}")  # fmt: skip
    return answer


def _named(config: CacheConfig, base: F32 | None, wise: F32, residual: F32 | None, part: Part) -> Columns:
    """Return the float16 columns of a mode."""
    if config.mode == "frozen_teacher_live_student":
        return {"v_teacher": half(wise, "the teacher's answer", part)}
    assert base is not None
    assert residual is not None
    name = "a_base" if config.mode == "regression" else "v_base"
    return {"residual": half(residual, "the residual", part), name: half(base, "the student's answer", part)}


def half(values: F32, what: str, part: Part) -> npt.NDArray[np.float16]:
    """Round answers [B, K, ...] to float16 and flatten each row.

    Raises:
        TeacherError: one is not finite, or too large; the message names its frame.
    """
    with np.errstate(over="ignore"):
        rounded = _flat(values).astype(np.float16)
    fine = np.isfinite(rounded).all(1)
    if not fine.all():
        row = int(np.argmin(fine))
        frame, size = part.frames[row // values.shape[1]], np.abs(_flat(values)[row]).max()
        raise TeacherError(
            f"{what} at frame {frame} cannot be stored as float16: its largest value is {size:.4g}", episode=part.ref.episode_id
        )
    return rounded


def _scores(base: F32 | None, wise: F32, residual: F32 | None, wanted: F32, is_pad: npt.NDArray[np.bool_]) -> Columns:
    """Return norms and squared errors over what is not padding; NaN where all of it is, or where nobody answered."""
    real = (~is_pad)[:, None, :, None]
    count = np.maximum(real.sum((2, 3)) * wanted.shape[-1], 1)
    empty = ~real.any((2, 3)) & np.ones(wanted.shape[:2], bool)
    nothing = np.full(wanted.shape[:2], np.nan, np.float32)

    def norm(x: F32 | None) -> F32:
        return (
            nothing
            if x is None
            else np.sqrt(np.square(x, dtype=np.float64, where=real, out=np.zeros_like(x, np.float64)).sum((2, 3)))
        )

    def error(x: F32 | None) -> F32:
        return nothing if x is None else np.where(empty, np.nan, norm(x - wanted) ** 2 / count)

    found = {
        "r_norm": norm(residual),
        "v_norm": norm(wise if base is None else base),
        "gt_err_base": error(base),
        "gt_err_teacher": error(wise),
    }
    return {name: values.astype(np.float32).reshape(-1) for name, values in found.items()}


def _flat(values: F32) -> F32:
    return values.reshape(values.shape[0] * values.shape[1], -1)


def _frames(teacher: Teacher, config: CacheConfig, ready: Mapping[str, Any], part: Part) -> Columns:
    found: Columns = {}
    if config.mode in CHUNKED:
        found["action"] = ready["action"].float().cpu().numpy().reshape(len(part.frames), -1)
        if config.context:
            if missing := [k for k in config.context if k not in ready]:
                raise UsageError(f"context={missing} is not in the batch of {teacher.spec.teacher_id}; it holds {sorted(ready)}")
            vectors = [ready[k].float().cpu().numpy().reshape(len(part.frames), -1) for k in config.context]
            found["context"] = np.concatenate(vectors, axis=1)
    return found
