"""Where units run: in this process, in worker processes, or on a Dask cluster. One call for all three, nothing hand-made in between."""

from pipelines.executors.execution import Execution
from pipelines.executors.run import run_all

__all__ = ["Execution", "run_all"]
