"""The tracker that keeps nothing, so that training code needs no `if tracker is not None`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Silent:
    """A tracker that does nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Ignore the scalars."""

    def summary(self, mapping: Mapping[str, Any]) -> None:
        """Ignore the facts."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Ignore the table."""

    def curves(self, name: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
        """Ignore the lines."""

    def file(self, name: str, path: Path) -> None:
        """Ignore the file."""

    def alert(self, title: str, text: str) -> None:
        """Ignore the alert."""

    def close(self) -> None:
        """There is nothing to close."""
