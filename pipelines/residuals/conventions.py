"""How each policy of the field names time, noise and velocity. Read from LeRobot 0.6.1 and from PFD's paper; see `transforms.flow`."""

from difflib import get_close_matches

from schemas.errors import UnknownNameError
from transforms.flow import Convention

_PI = Convention(sampler="beta(1.5,1,0.999,0.001)")
_WAN = Convention(timesteps=1000.0, sampler="shifted(5)")
_REVERSED = Convention(tau_is_noise=False, sign=-1)

CONVENTIONS: dict[str, Convention] = {
    "canonical": Convention(),
    "pi0": _PI,
    "pi05": _PI,
    "smolvla": _PI,
    "eo1": _PI,
    "fastwam": _WAN,
    "lingbot_va": _WAN,
    "vla_jepa": _REVERSED,
    "molmoact2": _REVERSED,
    "groot_n1_7": _REVERSED,
    "evo1": _REVERSED,
    "wall_x": _REVERSED,
    "multi_task_dit": Convention(tau_is_noise=False, sign=-1, sampler="flipped_beta(1.5,1,0.999)"),
    "pfd_paper": _REVERSED,
    "diffusion": Convention(kind="ddpm_eps", timesteps=100.0, sampler="steps(100)"),
    "act": Convention(kind="regression"),
}


def convention(policy: str) -> Convention:
    """Return how `policy` is to be read.

    Raises:
        UnknownNameError: its convention is not known here; guessing one would flip the residual's sign unseen.
    """
    found = CONVENTIONS.get(policy)
    if found is None:
        near = get_close_matches(policy, CONVENTIONS, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(CONVENTIONS)}"
        raise UnknownNameError(f"the flow convention of {policy!r} is not known: {hint}")
    return found
