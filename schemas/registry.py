"""A plug-in kind's registry: one dict `name -> "module:Class"`, imported on first use, open to outsiders through entry points."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from schemas.errors import DependencyError, UnknownNameError, UsageError


@dataclass(frozen=True, slots=True)
class Registry:
    """The known plug-ins of one kind. `group` is the entry-point group through which other packages add theirs."""

    kind: str
    group: str
    known: dict[str, str]

    def names(self) -> list[str]:
        """Return every name, ours first, in the order they are tried."""
        return [*self.known, *(n for n in self._outside() if n not in self.known)]

    def load(self, name: str) -> Any:
        """Import and return the class called `name`.

        Raises:
            UnknownNameError: there is none; the message names the nearest ones.
            DependencyError: its module needs a package that is not installed.
        """
        target = self.known.get(name) or self._outside().get(name)
        if target is None:
            near = get_close_matches(name, self.names(), 3, 0.5)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise UnknownNameError(f"there is no {self.kind} called {name!r}: {hint}Known: {', '.join(self.names())}")
        module, _, attribute = target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise DependencyError(
                f"{self.kind} {name!r} needs the package {error.name!r}; install the extra that brings it"
            ) from error

    def _outside(self) -> dict[str, str]:
        return {e.name: e.value for e in entry_points(group=self.group)}


def load_function(target: str, setting: str) -> Callable[..., Any]:
    """Import a user's function, named `module:function` by a setting.

    Raises:
        UsageError: there is no such function, or it cannot be called.
    """
    module, _, name = target.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{setting}={target!r} names no function as module:function: {error}") from error
    if not callable(found):
        raise UsageError(f"{setting}={target!r} is a {type(found).__name__}, which cannot be called")
    return found
