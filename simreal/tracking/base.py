"""What every tracker offers, and the one that does nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


class TrackingError(RuntimeError):
    """A tracking service could not be reached or refused. The ledger on disk is complete all the same."""


@runtime_checkable
class Tracker(Protocol):
    """A sink for the numbers of one run. Closing twice is allowed, writing after closing is not."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record scalars at `step`, counted in environment steps of the domain being learned."""

    def summary(self, mapping: Mapping[str, Any]) -> None:
        """Record facts about the whole run; a later value replaces an earlier one of the same name."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table; every row has one cell per column."""

    def curves(self, name: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
        """Record lines for one picture, each with one value per entry of `steps` (environment steps)."""

    def file(self, name: str, path: Path) -> None:
        """Record a film (.mp4) or a page (.html), where the sink can show it."""

    def alert(self, title: str, text: str) -> None:
        """Record something that somebody should look at."""

    def close(self) -> None:
        """Finish; everything recorded is on disk (or sent) afterwards."""


class Silent(Tracker):
    """The tracker that keeps nothing, so that training code needs no `if tracker is not None`."""
