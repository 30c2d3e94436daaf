"""Telling the failures that pass by themselves (network, storage, lost commit races) from those that do not."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from catalog.lake import Lake
from catalog.outage import is_outage
from pipelines.unit import Output, Stage, Unit, gpus_of
from schemas.errors import ConflictError, CotrainError, DataError, TransportError

HICCUPS = {
    errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.EREMOTEIO,
}  # fmt: skip
CLIENTS = {"aiohttp", "botocore", "urllib3", "requests", "httpx", "httpcore", "gcsfs"}  # whose errors concern the network


@dataclass(frozen=True, slots=True)
class Guarded:
    """A stage whose hiccups are raised instead of quarantined: the input is not at fault."""

    stage: Stage

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.stage.name

    @property
    def lake(self) -> Lake:
        """Where results go."""
        return self.stage.lake

    @property
    def gpus(self) -> int:
        """GPUs that one unit needs."""
        return gpus_of(self.stage)

    def plan(self) -> Sequence[Unit]:
        """Plan as the stage does."""
        return self.stage.plan()

    def work(self, unit: Unit) -> Output:
        """Work as the stage does.

        Raises:
            TransportError: storage or network failed; the unit is left undone.
        """
        try:
            return self.stage.work(unit)
        except Exception as error:
            if is_transport(error):
                raise TransportError(f"{unit.label}: {type(error).__name__}: {error}") from error
            raise


def is_transport(error: BaseException) -> bool:
    """Tell whether trying again may help: errors of the network, of storage, and lost commit races; never bad data."""
    if isinstance(error, (TransportError, ConflictError)):
        return True
    if isinstance(error, DataError):
        return False
    if is_outage(error):
        return True
    if isinstance(error, (ConnectionError, TimeoutError)) or (isinstance(error, OSError) and error.errno in HICCUPS):
        return True
    if any(kind.__module__.partition(".")[0] in CLIENTS for kind in type(error).__mro__):
        return True
    return error.__cause__ is not None and not isinstance(error, CotrainError) and is_transport(error.__cause__)
