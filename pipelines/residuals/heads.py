"""What caches keep that is no residual: the best logits, hidden states and embeddings, and a policy's errors."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.residuals.config import CacheConfig
from pipelines.residuals.drawing import Draws
from pipelines.residuals.reading import Part
from pipelines.residuals.teacher import Teacher
from schemas.errors import TeacherError
from transforms.flow import euler

type Columns = dict[str, npt.NDArray[Any]]
type Head = Callable[[Teacher, CacheConfig, Mapping[str, Any], Draws, Part], Columns]


def logits_rows(teacher: Teacher, config: CacheConfig, ready: Mapping[str, Any], _draws: Draws, part: Part) -> Columns:
    """Keep the k best log-probabilities of every position, and the logarithm of what all the others have together (DualVLA).

    Raises:
        TeacherError: logits are not [B, T, V] or not finite.
    """
    import torch

    found = _asked_once(teacher, ready, part)
    if found.ndim != 3 or not bool(torch.isfinite(found).all()):
        raise TeacherError(
            f"teacher {teacher.spec.teacher_id} gave no finite logits [B, T, V] but {tuple(found.shape)}",
            episode=part.ref.episode_id,
        )
    logp = torch.log_softmax(found.double(), -1)
    best, ids = logp.topk(min(config.top_k, found.shape[-1]), dim=-1)
    left = torch.log1p(-best.exp().sum(-1).clamp(max=1.0)).clamp(min=-6.0e4)  # log of 0 would not fit into float16
    count = len(part.frames)
    return {
        "token_ids": ids.cpu().numpy().reshape(count, -1), "token_logp": best.clamp(min=-6.0e4).cpu().numpy().astype(np.float16).reshape(count, -1),
        "rest_logp": left.cpu().numpy().astype(np.float16), "audit_fp32": best.float().cpu().numpy().reshape(count, -1),
        "_tokens": np.asarray([found.shape[1], best.shape[-1], found.shape[2]]),
    }  # fmt: skip


def hidden_rows(teacher: Teacher, _config: CacheConfig, ready: Mapping[str, Any], _draws: Draws, part: Part) -> Columns:
    """Keep hidden states (VITA-VLA) or embeddings (past-token prediction) as float16.

    Raises:
        TeacherError: they are not finite or too large.
    """
    found = _asked_once(teacher, ready, part).cpu().numpy()
    flat = found.reshape(len(part.frames), -1)
    with np.errstate(over="ignore"):
        kept = flat.astype(np.float16)
    if not np.isfinite(kept).all():
        raise TeacherError(
            f"hidden states of {teacher.spec.teacher_id} reach {np.abs(flat).max():.4g}, float16 ends at 65504; normalise them in the "
            "teacher", episode=part.ref.episode_id
        )  # fmt: skip
    return {"hidden": kept, "audit_fp32": flat, "_hidden": np.asarray(found.shape[1:])}


def error_rows(teacher: Teacher, config: CacheConfig, ready: Mapping[str, Any], draws: Draws, part: Part) -> Columns:
    """Keep what a frozen policy would do and by how much it is wrong, e = a' - a (minimum error entropy, KORR); a flow is sampled.

    Raises:
        TeacherError: the policy's actions are not finite.
    """
    import torch

    action, is_pad = ready["action"].float(), ready["action_is_pad"].cpu().numpy().astype(bool)
    if teacher.spec.kind == "regression":
        chunk = _asked_once(teacher, ready, part)
    else:
        noise = torch.from_numpy(draws.noise[:, 0]).to(action.device).float()
        chunk = _sampled(teacher, config, ready, noise, draws)
    base, wanted = chunk.float().cpu().numpy(), action.cpu().numpy()
    if not np.isfinite(base).all():
        raise TeacherError(f"teacher {teacher.spec.teacher_id} gave actions that are not finite", episode=part.ref.episode_id)
    error = base - wanted
    real = ~is_pad[..., None]
    mean = np.square(error, where=real, out=np.zeros_like(error)).sum((1, 2)) / np.maximum(real.sum((1, 2)) * error.shape[-1], 1)
    count = len(part.frames)
    return {
        "error": error.reshape(count, -1), "a_base": base.reshape(count, -1),
        "action_is_pad": np.packbits(is_pad, axis=1, bitorder="little"), "gt_err_base": mean.astype(np.float32),
    }  # fmt: skip


def _sampled(teacher: Teacher, config: CacheConfig, ready: Mapping[str, Any], noise: Any, draws: Draws) -> Any:
    import torch
    from torch.nn.functional import pad

    context, width = teacher.encode(ready, draws.aux_inputs(0, noise.device)), noise.shape[-1]

    def step(x: Any, t: float) -> Any:
        tau = torch.full((x.shape[0],), t, device=x.device)
        answer = teacher.velocity(context, x, tau, privileged=False)
        return pad(answer, (0, width - answer.shape[-1]))

    return euler(step, noise, config.steps)[..., : teacher.spec.action_dim]


def _asked_once(teacher: Teacher, ready: Mapping[str, Any], part: Part) -> Any:
    import torch

    nothing = torch.zeros(len(part.frames), teacher.spec.horizon, teacher.spec.width)
    return teacher.velocity(teacher.encode(ready, {}), nothing, torch.ones(len(part.frames)), privileged=True).detach().float()


HEADS: dict[str, Head] = {"logits": logits_rows, "hidden": hidden_rows, "error": error_rows}
