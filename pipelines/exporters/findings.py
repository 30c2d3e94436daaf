"""What the verification of an export found: its differences from the lake, the first of them in words."""

from dataclasses import dataclass, field

SHOWN = 100  # differences kept; the rest are counted


@dataclass(slots=True)
class Findings:
    """Differences so far, and how many steps and frames were compared."""

    differences: list[str] = field(default_factory=list[str])
    found: int = 0
    steps: int = 0
    frames: int = 0

    def say(self, difference: str) -> None:
        """Record one difference."""
        self.found += 1
        if self.found <= SHOWN:
            self.differences.append(difference)

    def all(self) -> tuple[str, ...]:
        """Return the differences, and how many more there were."""
        more = self.found - len(self.differences)
        return (*self.differences, *([f"and {more} more"] if more else []))
