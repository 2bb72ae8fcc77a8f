"""A live table of the arms of an experiment, for a terminal: what is done, how it goes, and how it compares so far.

    target, strategy   seeds   return  trend     against scratch    left
    heavy_pole
      scratch          ●●●◐○     41.2  ▁▁▂▃▅▅                     1 m 10 s
      fine_tune        ●●●●●      112  ▅▆▇▇██    ▲ positive +0.31

It reads what the arms write while they run (their ledgers) and when they are done (their curves). The verdict so far is the
report's, but of the seeds that are finished, with the best return that is known so far.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from simreal.curve import read_curve
from simreal.diagnostics import Curves, Verdict, diagnose, together
from simreal.diagnostics.curves import scale_end
from simreal.progress import Tally, duration
from simreal.report.terminal import STYLES
from simreal.report.words import CONTROL, NO_SOURCE, SYMBOLS, number, signed
from simreal.tracking.ledger import read
from simreal_envs.errors import UserError

BARS = "▁▂▃▄▅▆▇█"
STATES = {"done": "●", "running": "◐", "waiting": "○", "failed": "✗"}
ARM = re.compile(r"arms/([^/]+)/([^/]+)/((?:sequence/\d+-)?[^/]+)/seed-\d+")
AGENT = re.compile(r"agents/([^/]+)/seed-\d+")
PRETRAINING = "pretraining"
REREAD_S = 1.0  # how often the ledger of a running arm is read
WIDEST = 100  # characters: names and numbers must not drift apart
GLYPHS = 10  # with more seeds they are counted
JUDGED = 2  # verdicts taken per picture: each costs some 10 ms

Curve = list[tuple[int, float]]  # (environment steps, mean return)
Arm = tuple[str, str, str]  # source, strategy, target


@dataclass(frozen=True)
class Line:
    """A line of the table: the stages of one arm, or of several where there is no room for each.

    Attributes:
        group: the target, or "pretraining".
        name: what stands in the first column.
        stages: their names.
        arms: those that it stands for; none for source agents.
    """

    group: str
    name: str
    stages: tuple[str, ...]
    arms: tuple[Arm, ...] = ()


class Scoreboard:
    """Looks into the folder of an experiment that runs.

    Args:
        out: the folder.
        rule: margin, min_seeds, confidence and threshold of the verdict.
    """

    def __init__(self, out: Path, rule: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._rule, self._clock = out, dict(rule), clock
        self._whole: dict[str, Curve] = {}
        self._part: dict[str, tuple[float, Curve]] = {}
        self._verdicts: dict[Arm, tuple[Any, Verdict]] = {}

    def table(self, tally: Tally, width: int, height: int) -> Table:
        """Return the table in the most detailed form that fits `width` columns and `height` lines.

        Every arm has a line; else every strategy on every target, whatever the source; else every target; else as many
        targets as there is room for, those with running stages first.
        """
        self._look(tally)
        arms = self._lines(tally)
        verdicts = self._so_far(tally, arms)
        for lines in (arms, _merged(arms, lambda line: (line.group, line.arms[0][1] if line.arms else "sources"))):
            groups = len({line.group for line in lines})
            if len(lines) + groups + 1 <= height:
                return self._drawn(lines, tally, verdicts, width, headed=True)
        lines = _merged(arms, lambda line: (line.group, line.group))
        room = max(height - 1, 1)
        if len(lines) <= room:
            return self._drawn(lines, tally, verdicts, width, headed=False)
        busy = sorted(lines, key=lambda line: not any(stage in tally.running for stage in line.stages))[: room - 1]
        kept = [line for line in lines if line in busy]
        return self._drawn(kept, tally, verdicts, width, headed=False, more=len(lines) - len(kept))

    # ---- what is there ------------------------------------------------------------------------------------------

    def _look(self, tally: Tally) -> None:
        """Read what has changed on disk."""
        for name in tally.items:
            if not (ARM.fullmatch(name) or AGENT.fullmatch(name)) or name in self._whole:
                continue
            state = tally.state(name)
            try:
                if state == "done":
                    self._whole[name] = [
                        (row.env_steps, row.return_mean) for row in read_curve(self._out / name / "curve.csv")
                    ]
                elif state == "running" and self._clock() - self._part.get(name, (-REREAD_S, []))[0] >= REREAD_S:
                    self._part[name] = self._clock(), self._running(name)
            except (OSError, UserError):  # renamed in this moment
                continue

    def _running(self, name: str) -> Curve:
        folder = self._out / name
        ledgers = [path for path in folder.parent.glob(f".{folder.name}.tmp-*/metrics.jsonl") if path.is_file()]
        newest = max(ledgers, key=lambda path: path.stat().st_mtime, default=None)
        lines = read(newest) if newest else ()
        return [
            (line["env_steps"], line["eval/return_mean"]) for line in lines if line.get("eval/return_mean") is not None
        ]

    def _lines(self, tally: Tally) -> list[Line]:
        stages: dict[Arm, list[str]] = {}
        for name in tally.items:
            if found := AGENT.fullmatch(name):
                stages.setdefault((found[1], "", PRETRAINING), []).append(name)
            elif found := ARM.fullmatch(name):
                stages.setdefault((found[1], found[2], found[3]), []).append(name)
        several = len({source for source, strategy, _ in stages if strategy and source != NO_SOURCE}) > 1
        lines = []
        for (source, strategy, target), names in sorted(stages.items(), key=lambda item: item[0][2] != PRETRAINING):
            named = [source] if not strategy or (several and source != NO_SOURCE) else []
            named += [strategy] if strategy else []
            arms = ((source, strategy, target),) if strategy else ()
            lines.append(Line(target, " ".join(named), tuple(names), arms))
        order = list(dict.fromkeys(line.group for line in lines))
        return sorted(lines, key=lambda line: order.index(line.group))

    def _mean(self, line: Line) -> list[float]:
        """Mean return over the seeds that have come that far, at every evaluation."""
        curves = [self._whole.get(name) or self._part.get(name, (0.0, []))[1] for name in line.stages]
        longest = max(map(len, curves), default=0)
        return [float(np.mean([curve[i][1] for curve in curves if i < len(curve)])) for i in range(longest)]

    def _so_far(self, tally: Tally, lines: Sequence[Line]) -> dict[Arm, Verdict]:
        """The verdicts on the finished seeds; a few new ones each time, so that drawing stays quick."""
        finished = {line.arms[0]: [n for n in line.stages if n in self._whole] for line in lines if line.arms}
        new = 0
        for arm, seeds in finished.items():
            base = re.sub(r"sequence/\d+-", "", arm[2])
            control = finished.get((NO_SOURCE, CONTROL, base)) or []
            if arm[1] == CONTROL or not seeds or not control:
                continue
            # There is no random policy yet, or the report will say why there is no verdict.
            with contextlib.suppress(UserError, OSError):
                known = (tuple(seeds), tuple(control), *self._scale(base, finished))
                if new < JUDGED and self._verdicts.get(arm, (None,))[0] != known:
                    new += 1
                    self._verdicts[arm] = known, self._verdict(*known)
        arms, alone = list(self._verdicts), [verdict for _, verdict in self._verdicts.values()]
        return dict(zip(arms, together(alone).verdicts, strict=True))

    def _verdict(self, transfer: Iterable[str], control: Iterable[str], random: float, reference: float) -> Verdict:
        sides = [self._curves(names) for names in (transfer, control)]
        ends = {"random_return": random, "reference_return": reference}
        return diagnose(*sides, **ends, rng=np.random.default_rng(0), **self._rule)

    def _scale(self, target: str, finished: Mapping[Arm, Iterable[str]]) -> tuple[float, float]:
        """Random return and the best mean return of the finished seeds of any arm, as the report has it at the end."""
        arms = [names for arm, names in finished.items() if arm[2] == target and names]
        best = max(self._curves(names).returns.mean(axis=0).max() for names in arms)
        path = self._out / "references/targets" / target / "random.json"
        random = json.loads(path.read_text(encoding="utf-8"))["return_mean"]
        return random, scale_end(float(best), random)

    def _curves(self, names: Iterable[str]) -> Curves:
        """Those of finished stages of one arm, each with its seed."""
        curves = {int(name.rpartition("-")[2]): self._whole[name] for name in names}
        steps = np.array([step for step, _ in next(iter(curves.values()))], dtype=float)
        return Curves(steps, np.array([[value for _, value in curve] for curve in curves.values()]), tuple(curves))

    # ---- how it is drawn ----------------------------------------------------------------------------------------

    def _drawn(
        self,
        lines: Sequence[Line],
        tally: Tally,
        verdicts: Mapping[Arm, Verdict],
        width: int,
        *,
        headed: bool,
        more: int = 0,
    ) -> Table:
        means = [self._mean(line) for line in lines]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", width=min(width, WIDEST))
        table.add_column("target, strategy" if headed else "target", no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column("seeds", no_wrap=True)
        wide = {
            "return": headed and width >= 45,
            "trend": headed and width >= 72,
            f"against {CONTROL}": width >= 56,
            "left": width >= 64,
        }
        for name, shown in wide.items():
            if shown:
                table.add_column(name, no_wrap=True, justify="right" if name in ("return", "left") else "left")
        for position, (line, mean) in enumerate(zip(lines, means, strict=True)):
            if headed and (position == 0 or lines[position - 1].group != line.group):
                table.add_row(Text(line.group, style="bold"))
            alike = [
                value
                for other, values in zip(lines, means, strict=True)
                if other.group == line.group
                for value in values
            ]
            cells = {
                "return": Text(number(mean[-1]) if mean else "", style="dim"),
                "trend": Text(sparkline(mean, alike), style="cyan"),
                f"against {CONTROL}": _against(line, verdicts),
                "left": Text(_left(tally, line.stages), style="dim"),
            }
            name = f"  {line.name}" if headed else line.group
            table.add_row(name, _seeds(tally, line.stages), *(cell for key, cell in cells.items() if wide[key]))
        if more:
            table.add_row(Text(f"and {more} more", style="dim"))
        return table


def sparkline(values: Sequence[float], alike: Sequence[float] = ()) -> str:
    """Values as at most 8 bars between the smallest and the largest of `alike` (default: of the values themselves)."""
    low, high = min([*alike, *values], default=0.0), max([*alike, *values], default=0.0)
    shown = [values[round(i)] for i in np.linspace(0, len(values) - 1, min(len(values), 8))] if values else []
    return "".join(BARS[int((value - low) / ((high - low) or 1.0) * (len(BARS) - 1) + 0.5)] for value in shown)


def _merged(lines: Sequence[Line], key: Callable[[Line], tuple[str, str]]) -> list[Line]:
    """One line per (group, name) that `key` gives."""
    found: dict[tuple[str, str], Line] = {}
    for line in lines:
        group, name = key(line)
        old = found.get((group, name), Line(group, name, ()))
        found[group, name] = replace(old, stages=old.stages + line.stages, arms=old.arms + line.arms)
    return list(found.values())


def _seeds(tally: Tally, stages: Sequence[str]) -> Text:
    states = [tally.state(name) for name in stages]
    if len(states) <= GLYPHS:
        return Text("").join(Text(STATES[state], style=_style(state)) for state in states)
    running = f"+{states.count('running')}" if "running" in states else ""
    return Text(
        f"{states.count('done')}{running}/{len(states)}", style=_style("failed" if "failed" in states else "done")
    )


def _style(state: str) -> str:
    return {"done": "default", "running": "bold cyan", "waiting": "dim", "failed": "red"}[state]


def _against(line: Line, verdicts: Mapping[Arm, Verdict]) -> Text:
    """The verdict of one arm, with its area; the verdicts of several, counted."""
    found = [verdicts[arm] for arm in line.arms if arm in verdicts]
    if len(line.arms) == 1 and found:
        (one,) = found
        label = f"{SYMBOLS[one.label]} {one.label} " if one.enough else ""
        return Text(f"{label}{signed(one.area.value)}", style=STYLES[one.label])
    labels = [one.label for one in found if one.enough]
    counted = [
        Text(f"{symbol}{labels.count(name)}", style=STYLES[name]) for name, symbol in SYMBOLS.items() if name in labels
    ]
    return Text(" ").join(counted)


def _left(tally: Tally, stages: Sequence[str]) -> str:
    seconds = tally.remaining_s(stages)
    return "" if not seconds else duration(seconds)
