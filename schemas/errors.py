"""The one error tree. A message says what, where, and what to do next.

`DataError` and its children describe bad input: the unit loop turns them into quarantine rows. Everything else stops the run.
"""


class CotrainError(Exception):
    """Root of every error cotrain raises on purpose."""


class UsageError(CotrainError):
    """The caller asked for something impossible; the command line exits with 2."""


class UnknownNameError(UsageError):
    """A registry was asked for a name it does not hold; the message lists the nearest ones."""


class DependencyError(UsageError):
    """An optional package or system library is missing; the message names the extra or the package to install."""


class DataError(CotrainError):
    """Bad input data. `uri` names the file, `episode` the episode inside it where one is known."""

    def __init__(self, message: str, *, uri: str = "", episode: str = "") -> None:
        super().__init__(message)
        self.uri = uri
        self.episode = episode


class MissingFileError(DataError):
    """A file that the source's own metadata names does not exist."""


class MalformedSourceError(DataError):
    """A source's metadata contradicts its format or itself."""


class CorruptMediaError(DataError):
    """A media file cannot be opened, demuxed or decoded."""


class LengthMismatchError(DataError):
    """Two views of one episode disagree about its length (video against table, table against metadata)."""


class ContractError(DataError):
    """Data contradicts the dataset's declared contract."""


class UnsafePathError(DataError):
    """A path taken from data would leave its root."""


class AnnotatorError(DataError):
    """An annotator broke its contract: ids changed, rows lost, non-finite values without a reason."""


class TeacherError(DataError):
    """A teacher's answer cannot be stored: not finite, too large for float16, or of another shape than it promised."""


class WorkerCrashError(DataError):
    """A worker process died or ran out of time on a unit."""


class LakeError(CotrainError):
    """The lake or its catalog is not in the state the operation needs."""


class ConflictError(LakeError):
    """Another writer committed the same unit first, or commits kept colliding."""


class TransportError(CotrainError):
    """A network or storage hiccup: the input is not at fault, and trying again may help."""


class RejectLimitError(CotrainError):
    """Too large a share of the input was rejected; the run stopped before finishing."""


class InfeasibleMixtureError(UsageError):
    """The mixture's weights, caps and floors cannot all hold."""


class CoverageError(UsageError):
    """A curation or split would leave too little of a task, scene or embodiment."""


class LicenceError(UsageError):
    """An export would contain episodes whose licence forbids common uses, and nobody accepted it by name."""


class LeakageError(UsageError):
    """The splits of an export are not independent of each other."""


class VerificationError(CotrainError):
    """An export differs from the lake."""
