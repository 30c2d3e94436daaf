"""What must be made before some annotators can run: they carry along a file that is fitted to a selection, as a tokenizer is."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from catalog.lake import Lake

_PREPARED = {
    "action_tokens": "pipelines.tokenizers:with_tokenizer",
    "segments": "pipelines.calibration:with_calibration",
    "text": "pipelines.calibration:with_constraints",
}


def prepared(lake: Lake, name: str, what: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of annotator `name` with the file it needs named in them; unchanged for those that need none.

    Args:
        lake: where such files are kept.
        name: of the annotator.
        what: the selection to fit one on, where settings name none.
        settings: what the user set.
    """
    where = _PREPARED.get(name)
    if where is None:
        return settings
    module, _, function = where.partition(":")
    prepare: Callable[[Lake, str, Mapping[str, Any]], Mapping[str, Any]] = getattr(import_module(module), function)
    return prepare(lake, what, settings)
