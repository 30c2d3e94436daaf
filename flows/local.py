"""A Prefect server and a worker on this machine, as background processes: `python -m flows.local up`, `down`, `status`.

Their pids, logs and database are in one folder, `$COTRAIN_STATE` or `.cotrain` in the checkout. For good, use the units in `deploy/systemd`.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
HEALTHY_WITHIN_S, STOPPED_WITHIN_S = 60.0, 30.0
ROLES = ("worker", "server")  # in the order in which they stop
LOG_LINES = 20


class LocalError(Exception):
    """Something did not start or stop; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class Local:
    """One server with one worker.

    Attributes:
        state: folder of pids, logs and Prefect's database.
        port: where the server listens, on the loopback interface only.
        workers: runs that the worker does at a time.
    """

    state: Path
    port: int = 4200
    workers: int = 2

    @property
    def environment(self) -> dict[str, str]:
        """What server, worker and client need to find each other and the checkout; what is set already stays."""
        own = {
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api", "PREFECT_HOME": str(self.state / "prefect"),
            "COTRAIN_HOME": str(HOME),
        }  # fmt: skip
        kept = {
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
            "COTRAIN_LAKE": str(HOME / "lake"),
        }  # fmt: skip
        return kept | os.environ | own

    def up(self) -> None:
        """Start what does not run, configure it, deploy every flow of `prefect.yaml`. Doing it again changes nothing.

        Raises:
            LocalError: the server is not healthy in time, or a step fails.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        self._start("server", ["server", "start", "--host", "127.0.0.1", "--port", str(self.port)])
        self._wait_until_healthy()
        os.environ |= self.environment  # before Prefect is imported
        from flows.provision import provision

        provision()
        self._prefect("--no-prompt", "deploy", "--all")
        self._start("worker", ["worker", "start", "--pool", "local", "--limit", str(self.workers)])
        print(f"up: http://127.0.0.1:{self.port}, logs in {self.state}")  # noqa: T201

    def down(self) -> None:
        """Stop worker and server; open units are finished or left to the next run."""
        for role in ROLES:
            if (pid := self.pid(role)) is not None:
                _stop(pid)
            self._pid_file(role).unlink(missing_ok=True)
        print("down")  # noqa: T201

    def pid(self, role: str) -> int | None:
        """Return the process id of a role if it runs; a number that another program has taken over does not count."""
        try:
            pid = int(self._pid_file(role).read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc/self").exists() else b"prefect"
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid if b"prefect" in command else None

    def _pid_file(self, role: str) -> Path:
        return self.state / f"{role}.pid"

    def _log(self, role: str) -> Path:
        return self.state / f"{role}.log"

    def _start(self, role: str, arguments: list[str]) -> None:
        if self.pid(role) is not None:
            return
        with self._log(role).open("ab") as log:
            started = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "prefect", *arguments], cwd=HOME, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._pid_file(role).write_text(str(started.pid))

    def _wait_until_healthy(self) -> None:
        end = time.monotonic() + HEALTHY_WITHIN_S
        while time.monotonic() < end:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            if self.pid("server") is None:
                break
            time.sleep(0.5)
        raise LocalError(
            f"the server is not healthy after {HEALTHY_WITHIN_S:.0f} s; {self._log('server')} ends with\n{self._tail('server')}"
        )

    def _prefect(self, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "prefect", *arguments],
            cwd=HOME,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        (self.state / "deploy.log").write_text(done.stdout + done.stderr)
        if done.returncode:
            raise LocalError(f"prefect {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def _tail(self, role: str) -> str:
        return "\n".join(self._log(role).read_text(errors="replace").splitlines()[-LOG_LINES:])


def _stop(pid: int) -> None:
    """End a process and what it started: first politely, then not."""
    for how, wait_s in ((signal.SIGTERM, STOPPED_WITHIN_S), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(pid, how)
        except ProcessLookupError:
            return
        end = time.monotonic() + wait_s
        while time.monotonic() < end:
            if not _runs(pid):
                return
            time.sleep(0.1)


def _runs(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of this process would stay as a zombie
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main() -> int:
    """Run a verb; errors are one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m flows.local", description=__doc__)
    parser.add_argument("verb", choices=("up", "down", "status"))
    parser.add_argument("--state", type=Path, default=Path(os.environ.get("COTRAIN_STATE", HOME / ".cotrain")))
    parser.add_argument("--port", type=int, default=int(os.environ.get("COTRAIN_PORT", "4200")))
    arguments = parser.parse_args()
    local = Local(arguments.state.resolve(), arguments.port)
    try:
        if arguments.verb == "status":
            print(*(f"{role}: {local.pid(role) or 'stopped'}" for role in ROLES[::-1]), sep="\n")  # noqa: T201
        else:
            local.up() if arguments.verb == "up" else local.down()
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
