"""Offscreen rendering for the demo: install Mesa where we may, else say the one line to run and go on without MuJoCo."""

import os
import shutil
import subprocess
from collections.abc import Callable

from pipelines.record.render import INSTALL, choose_backend, failure
from schemas.errors import DependencyError


def pick_simulator(say: Callable[[str], None]) -> str:
    """Return `metaworld` where MuJoCo can render, after installing Debian's libraries if need be and allowed, else `pusht`."""
    try:
        choose_backend()
        return "metaworld"
    except DependencyError:
        if not _install(say):
            return "pusht"
    failure.cache_clear()
    try:
        choose_backend()
        return "metaworld"
    except DependencyError as error:
        say(f"{error}; continuing with PushT, which renders in software")
        return "pusht"


def _install(say: Callable[[str], None]) -> bool:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        say(f"MuJoCo cannot render here. As root, run: {INSTALL}. Continuing with PushT, which renders in software")
        return False
    say(f"installing the rendering libraries: {INSTALL}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    steps = ([apt, "update", "-qq"], [apt, *INSTALL.split()[1:], "-qq"])
    done = [subprocess.run(s, env=environment, capture_output=True, check=False).returncode == 0 for s in steps]  # noqa: S603
    if not done[-1]:
        say("they could not be installed; continuing with PushT, which renders in software")
    return done[-1]
