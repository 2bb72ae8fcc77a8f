"""What a long run says while it works, on stderr: how far, how long still, and what is running.

Progress (protocol)
├── LiveProgress     a terminal: bars that move, and a table of the arms (scoreboard.py) where there are some
├── PlainProgress    a file or a pipe: a line now and then, and one per finished stage
└── SilentProgress   nothing

    [ 34 %] 21/62 stages, 2 m 10 s left: fine_tune -> heavy seed 3 finished (return 71.2)
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Clock = Callable[[], float]


@dataclass(frozen=True)
class Item:
    """A stage as progress sees it.

    Attributes:
        title: what people read.
        weight: relative cost.
        chain: weight of the longest chain of stages that starts with this one (at least `weight`).
        cached: whether it is already done and will not run.
    """

    name: str
    title: str
    weight: float
    chain: float
    cached: bool = False


class Progress(Protocol):
    """Told what happens by `run_stages`, always from one thread."""

    def begin(self, items: Sequence[Item], workers: int) -> None:
        """The run starts; called once, first."""

    def start(self, name: str) -> None:
        """A stage starts (again, if its process died)."""

    def report(self, name: str, fraction: float, text: str) -> None:
        """A running stage is at `fraction` (0 to 1) and says `text`."""

    def finish(self, name: str, text: str) -> None:
        """A stage finished."""

    def fail(self, name: str, sentence: str) -> None:
        """A stage failed."""

    def tick(self) -> None:
        """Time passes; called about twice a second."""

    def close(self) -> None:
        """The run is over, for whatever reason; called once, last."""


class Board(Protocol):
    """A table of what the stages have come to."""

    def table(self, tally: "Tally", width: int, height: int) -> RenderableType:
        """Return what fits into `width` columns and `height` lines."""
        ...


def progress_to(stream: TextIO | None = None, board: Board | None = None) -> Progress:
    """Return the progress that fits `stream` (default: stderr): live on a Unicode terminal, with `board`, else plain lines."""
    to = stream or sys.stderr
    drawable = to.isatty() and (to.encoding or "utf-8").lower().startswith("utf")
    return LiveProgress(to, board=board) if drawable else PlainProgress(to)


@dataclass
class _Running:
    since: float
    fraction: float = 0.0
    text: str = ""


class Tally:
    """Counts what is done and estimates what remains, for one run on a given number of workers."""

    def __init__(self, items: Sequence[Item], workers: int, clock: Clock = time.monotonic) -> None:
        self.items = {item.name: item for item in items}
        self.waiting = {item.name for item in items if not item.cached}
        self.running: dict[str, _Running] = {}
        self.failed: set[str] = set()
        self.done = sum(item.cached for item in items)
        self._workers = workers
        self._clock = clock
        self._total = sum(item.weight for item in items)
        self._done_weight = sum(item.weight for item in items if item.cached)
        self._spent_weight = 0.0
        self._spent_s = 0.0

    def start(self, name: str) -> None:
        self.waiting.discard(name)
        self.running[name] = _Running(self._clock())

    def report(self, name: str, fraction: float, text: str) -> None:
        stage = self.running[name]
        stage.fraction, stage.text = min(max(fraction, 0.0), 1.0), text

    def stop(self, name: str, done: bool) -> None:
        """Take a stage out of those that run; its time tells the speed only if it finished."""
        stage = self.running.pop(name)
        if not done:
            self.failed.add(name)
        else:
            weight = self.items[name].weight
            self.done += 1
            self._done_weight += weight
            self._spent_weight += weight
            self._spent_s += self._clock() - stage.since

    def state(self, name: str) -> Literal["waiting", "running", "done", "failed"]:
        """Return what a stage is doing."""
        if name in self.waiting:
            return "waiting"
        return "running" if name in self.running else "failed" if name in self.failed else "done"

    def share(self) -> float:
        """Return how much of the work is done, 0 to 1."""
        running = sum(self.items[name].weight * stage.fraction for name, stage in self.running.items())
        return (self._done_weight + running) / self._total if self._total else 1.0

    def remaining_s(self, names: Sequence[str] | None = None) -> float | None:
        """Return the estimated seconds to the end, or None while nothing is known.

        Remaining weight, shared by all workers but never less than the longest chain of stages, times the worker-seconds
        that a unit of weight has cost so far.

        Args:
            names: of these stages alone, if they had all workers; default: of all.
        """
        now = self._clock()
        running = {name: self.items[name].weight * stage.fraction for name, stage in self.running.items()}
        weight = self._spent_weight + sum(running.values())
        if weight <= 0:
            return None
        seconds = self._spent_s + sum(now - stage.since for stage in self.running.values())
        wanted = [name for name in names or self.items if name in self.waiting or name in running]
        left = [self.items[name].weight - running.get(name, 0.0) for name in wanted]
        chains = left if names else [self.items[name].chain - running.get(name, 0.0) for name in wanted]
        return seconds / weight * max(sum(left) / self._workers, max(chains, default=0.0))

    def headline(self) -> str:
        """Return "21/62 stages, 2 m 10 s left"."""
        remaining = self.remaining_s()
        if self.done == len(self.items):
            left = "done"
        else:
            left = "estimating the time" if remaining is None else f"{duration(remaining)} left"
        return f"{self.done}/{len(self.items)} stage{'s' if len(self.items) > 1 else ''}, {left}"


class PlainProgress:
    """Writes one line for every finished stage, and one every `interval_s` seconds in between."""

    def __init__(self, stream: TextIO, interval_s: float = 10.0, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._clock = clock
        self._said = clock()

    def begin(self, items: Sequence[Item], workers: int) -> None:
        self._tally = Tally(items, workers, self._clock)
        cached = f", {self._tally.done} of them done before" if self._tally.done else ""
        stages = f"{len(items)} stage{'s' if len(items) > 1 else ''}"
        self._say(f"{stages}{cached}, {workers} worker{'s' if workers > 1 else ''}", headline=False)

    def start(self, name: str) -> None:
        self._tally.start(name)

    def report(self, name: str, fraction: float, text: str) -> None:
        self._tally.report(name, fraction, text)
        self.tick()

    def finish(self, name: str, text: str) -> None:
        self._tally.stop(name, done=True)
        self._say(f"{self._tally.items[name].title} finished{f' ({text})' if text else ''}")

    def fail(self, name: str, sentence: str) -> None:
        self._tally.stop(name, done=False)
        self._say(f"{self._tally.items[name].title} FAILED: {sentence}")

    def tick(self) -> None:
        if self._clock() - self._said >= self._interval_s:
            titles = [_titled(self._tally, name, stage) for name, stage in self._tally.running.items()]
            self._say(f"running {', '.join(titles)}" if titles else "preparing")

    def close(self) -> None:
        self._stream.flush()

    def _say(self, text: str, headline: bool = True) -> None:
        self._said = self._clock()
        before = f"{self._tally.headline()}: " if headline else ""
        # Rounded down: 100 % means finished.
        print(f"[{int(100 * self._tally.share()):3d} %] {before}{text}", file=self._stream, flush=True)


class LiveProgress:
    """Draws an overall bar, the board and a bar per running stage on a terminal, never more than fits, and removes them at the end."""

    def __init__(
        self, stream: TextIO, refresh_s: float = 0.25, clock: Clock = time.monotonic, board: Board | None = None
    ) -> None:
        self._console = Console(file=stream)
        self._refresh_s = refresh_s
        self._clock = clock
        self._board = board
        self._drawn = float("-inf")

    def begin(self, items: Sequence[Item], workers: int) -> None:
        self._tally = Tally(items, workers, self._clock)
        # Drawn by `tick`, in the thread that also counts, so that nothing changes while it is read.
        self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop")
        self._live.start()

    def start(self, name: str) -> None:
        self._tally.start(name)
        self.tick()

    def report(self, name: str, fraction: float, text: str) -> None:
        self._tally.report(name, fraction, text)
        self.tick()

    def finish(self, name: str, text: str) -> None:
        self._tally.stop(name, done=True)
        self.tick()

    def fail(self, name: str, sentence: str) -> None:
        self._tally.stop(name, done=False)
        self._live.console.print(Text(f"{self._tally.items[name].title} failed: {sentence}", style="red"))

    def tick(self) -> None:
        if self._clock() - self._drawn >= self._refresh_s:
            self._drawn = self._clock()
            self._live.update(self._picture(), refresh=True)

    def close(self) -> None:
        if hasattr(self, "_live"):
            self._live.stop()

    def _picture(self) -> Group:
        tally, (width, height) = self._tally, self._console.size
        room = height - 2  # besides the overall bar, and a line for the cursor
        most = max(room // 4, 1) if self._board else room
        shown = list(tally.running.items())[: most if len(tally.running) <= most else most - 1]
        rows: list[tuple[float | None, Text]] = [(stage.fraction, _words(tally, name, stage)) for name, stage in shown]
        if more := len(tally.running) - len(shown):
            rows.append((None, Text(f"and {more} more", style="dim")))
        board = [self._board.table(tally, width, room - len(rows))] if self._board else []
        return Group(_bars([(tally.share(), Text(tally.headline(), style="bold"))], width), *board, _bars(rows, width))


class SilentProgress(Progress):
    """Says nothing."""


def duration(seconds: float) -> str:
    """Return seconds as people say them: "45 s", "2 m 10 s", "1 h 05 m"."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} m"


def _titled(tally: Tally, name: str, stage: _Running) -> str:
    says = f", {stage.text}" if stage.text else ""
    return f"{tally.items[name].title} ({100 * stage.fraction:.0f} %{says})"


def _words(tally: Tally, name: str, stage: _Running) -> Text:
    return Text(f"{tally.items[name].title}  ").append(stage.text, style="dim")


def _bars(rows: Sequence[tuple[float | None, Text]], width: int) -> Table:
    """One line per row, cut at `width`: a bar, the share in percent, and what it is about."""
    bar = 24 if width >= 72 else 10 if width >= 40 else 4
    table = Table.grid(padding=(0, 1))
    for share, text in rows:
        text.truncate(max(width - bar - 8, 1), overflow="ellipsis")
        known = (
            () if share is None else (ProgressBar(total=1.0, completed=share, width=bar), f"{int(100 * share):3d} %")
        )
        table.add_row(*(known or ("", "")), text)
    return table
