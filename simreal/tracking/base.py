"""What every tracker offers, and one that passes everything on to several."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


class TrackingError(RuntimeError):
    """A tracking service could not be reached or refused. The ledger on disk is complete all the same."""


@runtime_checkable
class Tracker(Protocol):
    """A sink for the numbers of one run. Closing twice is allowed, writing after closing is not."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record scalars at `step`, counted in environment steps of the domain being learned."""
        ...

    def summary(self, mapping: Mapping[str, Any]) -> None:
        """Record facts about the whole run; a later value replaces an earlier one of the same name."""
        ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table; every row has one cell per column."""
        ...

    def curves(self, name: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
        """Record lines for one picture, each with one value per entry of `steps` (environment steps)."""
        ...

    def file(self, name: str, path: Path) -> None:
        """Record a film (.mp4) or a page (.html), where the sink can show it."""
        ...

    def alert(self, title: str, text: str) -> None:
        """Record something that somebody should look at."""
        ...

    def close(self) -> None:
        """Finish; everything recorded is on disk (or sent) afterwards."""
        ...


class Fanout:
    """A tracker that passes every call on to `trackers`, in the order given."""

    def __init__(self, *trackers: Tracker) -> None:
        self.trackers = trackers

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record scalars at `step` (environment steps) in each tracker."""
        for tracker in self.trackers:
            tracker.log(step, metrics)

    def summary(self, mapping: Mapping[str, Any]) -> None:
        """Record facts about the whole run in each tracker."""
        for tracker in self.trackers:
            tracker.summary(mapping)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table in each tracker."""
        for tracker in self.trackers:
            tracker.table(name, columns, rows)

    def curves(self, name: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
        """Record lines for one picture in each tracker."""
        for tracker in self.trackers:
            tracker.curves(name, steps, lines)

    def file(self, name: str, path: Path) -> None:
        """Record a film or a page in each tracker."""
        for tracker in self.trackers:
            tracker.file(name, path)

    def alert(self, title: str, text: str) -> None:
        """Record an alert in each tracker."""
        for tracker in self.trackers:
            tracker.alert(title, text)

    def close(self) -> None:
        """Close every tracker, also when one of them raises; its exception is raised afterwards."""
        with ExitStack() as stack:
            for tracker in reversed(self.trackers):
                stack.callback(tracker.close)
