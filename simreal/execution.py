"""Stages on worker processes: each after those that it needs, the longest chain first.

stages = [
    Stage("source", out / "source", key_a, "my.module:pretrain", {"seed": 0}, weight=200),
    Stage("arm", out / "arm", key_b, "my.module:transfer", {"source": str(out / "source")}, needs=("source",)),
]
run_stages(stages, out=out, workers=2, progress=progress_to())

OUT/errors/NAME.txt  what a failed stage printed, ending with its traceback
"""

import contextlib
import graphlib
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from simreal.progress import Item, Progress
from simreal.stages import Stage, StageResult, is_done, output_lock, publish
from simreal.worker import Worker, close, stop
from simreal_envs.cores import cores
from simreal_envs.errors import UserError

_ATTEMPTS = 2
_LISTEN_S = 0.5
_PATIENCE_S = 60.0  # with what is called first


class StageError(RuntimeError):
    """Some stages failed although the user's input was right.

    Attributes:
        failed: one sentence per failed stage, by name.
        blocked: names of the stages that did not run because they need a failed one.
    """

    def __init__(self, failed: Mapping[str, str], blocked: Sequence[str], errors: Path) -> None:
        self.failed = dict(failed)
        self.blocked = tuple(blocked)
        waiting = f" and {len(blocked)} that need them did not run" if blocked else ""
        plural = "stages" if len(failed) > 1 else "stage"
        super().__init__(f"{len(failed)} {plural} failed{waiting}; see {errors}: {'; '.join(failed.values())}")


def run_stages(
    stages: Sequence[Stage],
    *,
    out: Path,
    workers: int,
    progress: Progress,
    locked: bool = False,
    first: tuple[str, Mapping[str, Any]] | None = None,
) -> dict[str, StageResult]:
    """Run all stages that are not done yet, each after those it needs, on worker processes.

    The longest chain of stages goes first. A failing stage does not stop those that do not need it. A stage whose process
    dies is tried once more.

    Args:
        out: the folder that holds every stage's folder.
        workers: processes at a time; 0 for one per core.
        locked: whether the caller already holds `output_lock(out)`.
        first: a function ("module:function") and its arguments, called on a worker before any stage begins: it may refuse what
            the stages are about to do. Nothing comes of its failing otherwise, or of its taking longer than a minute.

    Returns:
        The result of every stage, by name.

    Raises:
        UserError: another run is using `out`, or `first` or a stage found the user's input wrong (nothing more is started then).
        StageError: stages failed for any other reason; all that could be done without them is done.
        ValueError: the stages do not form a plan (names or folders used twice, unknown or circular needs).
    """
    plan = _Plan(stages, out)
    with contextlib.nullcontext() if locked else output_lock(out):
        run = _Run(plan, workers or cores(), progress)
        try:
            run.work(first)
        finally:
            run.close()
        return run.verdict()


class _Plan:
    """Stages in the order they should start, checked to be a plan."""

    def __init__(self, stages: Sequence[Stage], out: Path) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.errors = out / "errors"
        self._check(stages, out)
        self.chain = self._chains()
        position = {stage.name: index for index, stage in enumerate(stages)}
        self.order = sorted(self.stages, key=lambda name: (-self.chain[name], position[name]))

    def error_file(self, name: str) -> Path:
        """Return OUT/errors/NAME.txt."""
        return self.errors / f"{name}.txt"

    def _check(self, stages: Sequence[Stage], out: Path) -> None:
        for what, values in (("name", [s.name for s in stages]), ("folder", [s.folder for s in stages])):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise ValueError(f"two stages have the {what} {str(twice[0])!r}")
        for stage in stages:
            if Path(stage.name).is_absolute() or ".." in Path(stage.name).parts:
                raise ValueError(f"{stage.name!r} is not a name for a stage")
            if out.absolute() not in stage.folder.absolute().parents:
                raise ValueError(f"the folder {stage.folder} of stage {stage.name!r} is not inside {out}")
            unknown = set(stage.needs) - set(self.stages)
            if unknown:
                raise ValueError(f"stage {stage.name!r} needs {min(unknown)!r}, which is not a stage")

    def _chains(self) -> dict[str, float]:
        """Return for each stage the weight of the longest chain of stages that starts with it."""
        try:
            order = [*graphlib.TopologicalSorter({name: one.needs for name, one in self.stages.items()}).static_order()]
        except graphlib.CycleError as error:
            raise ValueError(f"stages need each other in a circle: {sorted(set(error.args[1]))}") from None
        chain = dict.fromkeys(self.stages, 0.0)  # until its turn comes, that of those that need it
        for name in reversed(order):
            chain[name] += self.stages[name].weight
            for need in self.stages[name].needs:
                chain[need] = max(chain[need], chain[name])
        return chain


class _Run:
    """One pass over a plan."""

    def __init__(self, plan: _Plan, workers: int, progress: Progress) -> None:
        self._plan = plan
        self._limit = workers
        self._progress = progress
        self._idle: list[Worker] = []
        self._busy: dict[str, Worker] = {}
        self._attempts: Counter[str] = Counter()
        self._results: dict[str, StageResult] = {}
        self._failed: dict[str, str] = {}
        self._waiting: list[str] = []

    def work(self, first: tuple[str, Mapping[str, Any]] | None = None) -> None:
        """Do everything that can be done, after `first`. Raises the first UserError of a stage at once."""
        plan = self._plan
        for stage in plan.stages.values():
            for leftover in stage.leftovers():
                shutil.rmtree(leftover, ignore_errors=True)
        self._results = {name: StageResult("cached", 0.0) for name, s in plan.stages.items() if is_done(s)}
        for name in self._results:
            shutil.rmtree(plan.stages[name].state, ignore_errors=True)
        self._waiting = [name for name in plan.order if name not in self._results]
        items = [
            Item(name, stage.label, stage.weight, plan.chain[name], name in self._results)
            for name, stage in plan.stages.items()
        ]
        self._progress.begin(items, self._limit)
        if first and self._waiting:
            self._ask(*first)
        while True:
            self._dispatch()
            if not self._busy:
                return
            self._listen()
            self._progress.tick()

    def verdict(self) -> dict[str, StageResult]:
        """Return the results in the order the stages were given, or raise StageError."""
        if self._failed:
            raise StageError(self._failed, self._waiting, self._plan.errors)
        return {name: self._results[name] for name in self._plan.stages}

    def close(self) -> None:
        """Stop what still runs, remove what is unfinished."""
        try:
            if self._busy:
                stop([*self._busy.values(), *self._idle])
            else:
                close(self._idle)
            for name in self._busy:
                self._discard(name)
            _remove_empty(self._plan.errors)
        finally:
            self._progress.close()

    def _ask(self, run: str, kwargs: Mapping[str, Any]) -> None:
        """Call a function on a worker, which is idle afterwards. Raises the UserError that it raises."""
        log = self._plan.error_file("first")
        log.parent.mkdir(parents=True, exist_ok=True)
        # It warns of what is about to begin, if at all, in far fewer worlds: the stages will tell.
        worker, what, says, unfinished = Worker(), "report", "", ("report", "warned")
        until = time.monotonic() + _PATIENCE_S
        try:
            worker.send(run, kwargs, log)
            while what in unfinished and time.monotonic() < until:
                if worker.connection.poll(_LISTEN_S):
                    what, says, *_ = worker.connection.recv()
                self._progress.tick()
        except (EOFError, ConnectionError):  # it died
            pass
        finally:
            stop([worker]) if what in unfinished else self._idle.append(worker)
            log.unlink(missing_ok=True)
        if what == "wrong":
            raise UserError(says)

    def _dispatch(self) -> None:
        """Start waiting stages whose needs are done, as long as there are free workers."""
        for name in list(self._waiting):
            if len(self._busy) >= self._limit:
                return
            if all(need in self._results for need in self._plan.stages[name].needs):
                self._start(name)

    def _start(self, name: str) -> None:
        stage, log = self._plan.stages[name], self._plan.error_file(name)
        shutil.rmtree(stage.temporary(), ignore_errors=True)
        stage.temporary().mkdir(parents=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        if stage.fresh and self._idle:
            close([self._idle.pop()])
            worker = Worker()
        else:
            worker = self._idle.pop() if self._idle else Worker()
        self._waiting.remove(name)
        self._busy[name] = worker
        self._attempts[name] += 1
        self._progress.start(name)
        # A worker that died while idle is noticed by `_listen`.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.send(stage.run, stage.arguments(), log)

    def _listen(self) -> None:
        """Handle what the workers say, and those that died without a word."""
        connection.wait([worker.connection for worker in self._busy.values()], timeout=_LISTEN_S)
        for name, worker in list(self._busy.items()):
            # Asked before reading: what a process wrote before it died can still be read after.
            dead = worker.process.poll() is not None
            try:
                while name in self._busy and worker.connection.poll():
                    self._handle(name, *worker.connection.recv())
            except (EOFError, ConnectionResetError):
                dead = True
            if dead and name in self._busy:
                self._bury(name)

    def _handle(self, name: str, what: str, *details: Any) -> None:
        if what == "report":
            self._progress.report(name, *details)
        elif what == "warned":
            warnings.warn(details[0], stacklevel=1)  # of one line of code, so that Python shows each sentence once
        elif what == "done":
            self._finish(name, *details)
        elif what == "failed":
            self._idle.append(self._busy.pop(name))
            self._fail(name, details[0])
        else:
            raise UserError(f"{self._plan.stages[name].label}: {details[0]}")

    def _finish(self, name: str, wall_s: float, cpu_s: float, says: str) -> None:
        publish(self._plan.stages[name], wall_s, cpu_s)
        self._idle.append(self._busy.pop(name))
        self._plan.error_file(name).unlink(missing_ok=True)
        self._results[name] = StageResult("done", wall_s, says)
        self._progress.finish(name, says)

    def _bury(self, name: str) -> None:
        """Handle a dead worker: one more try for its stage, since it may have been killed by accident."""
        worker = self._busy.pop(name)
        epitaph = worker.epitaph()
        stop([worker])  # what it started may still live
        if self._attempts[name] < _ATTEMPTS:
            self._discard(name)
            self._waiting.insert(0, name)
            self._progress.report(name, 0.0, f"its process {epitaph}; trying again")
            return
        self._fail(name, f"its process {epitaph}, twice; memory that runs out is the most frequent cause")

    def _fail(self, name: str, sentence: str) -> None:
        label = self._plan.stages[name].label
        shutil.rmtree(self._plan.stages[name].temporary(), ignore_errors=True)
        self._failed[name] = f"{label}: {sentence}"
        self._progress.fail(name, f"{sentence} ({self._plan.error_file(name)})")

    def _discard(self, name: str) -> None:
        shutil.rmtree(self._plan.stages[name].temporary(), ignore_errors=True)
        self._plan.error_file(name).unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    """Remove `folder` and those inside it as far as they hold no files."""
    for inner in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            inner.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
