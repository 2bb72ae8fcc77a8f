"""Worlds spread over processes: each steps, scores and observes its own share, with the bits of one process for all.

PyBullet never releases the interpreter lock, so threads would not help it. Processes meet once per control step, in shared
memory, and wait for each other busily at first: to wake one that sleeps takes up to 0.3 ms on a virtual machine.
(Worlds in MuJoCo gain nothing from it: at 64 and 1,024 worlds they are as fast as with physics threads.)
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

from simreal_envs.engines.base import any_of
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.fleets import Apart, shared_memory, views
from simreal_envs.schema import Observation
from simreal_envs.tasks import is_installed

if TYPE_CHECKING:
    from simreal_envs.variation import Domain
    from simreal_envs.worlds import Worlds

BUSY_SECONDS = 0.002  # so long a process waits without sleeping: longer than a policy takes to choose actions
_MOST_FACTS = 64  # numbers that are told of an episode that is over
_STEP, _LEAVE, _FAILED = range(3)  # what a process is to do, or did


class Spread(gymnasium.vector.VectorEnv):
    """N worlds of one domain in several processes, of which this is one; else as `Worlds`, to the bit.

    Closing it ends the other processes; so does the end of this one, whatever its cause.

    Args:
        kind: `Worlds`, or what behaves as it does.
        num_workers: processes, at most one per world.
        options: of `kind`.

    Attributes:
        here: the worlds of this process. Else those of `Worlds`, but for its engine and task.
    """

    def __init__(
        self, kind: type[Worlds], domain: Domain, num_worlds: int, seed: int = 0, *, num_workers: int, **options: Any
    ):
        self._kind, self.domain, self._options = kind, domain, options
        count = max(1, min(num_workers, num_worlds))
        bounds = np.linspace(0, num_worlds, count + 1).astype(int).tolist()
        self._others: list[Apart] = []
        self._start([high - low for low, high in itertools.pairwise(bounds)], seed)
        own = self.here
        self.num_envs, self.schema, self.varied = num_worlds, own.schema, own.varied
        self.autoreset_mode, self.metadata, self.render_mode = own.autoreset_mode, own.metadata, own.render_mode
        self.single_observation_space, self.single_action_space = (
            own.single_observation_space,
            own.single_action_space,
        )
        self.observation_space = batch_space(self.single_observation_space, num_worlds)
        self.action_space = batch_space(self.single_action_space, num_worlds)

    def _start(self, sizes: Sequence[int], seed: int) -> None:
        """Make so many worlds in each process, in place of those there are."""
        self._end()
        ends = list(itertools.accumulate(sizes))
        self._rows = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        parts = [
            (self._kind, self.domain, size, r.start, seed, self._options)
            for size, r in zip(sizes, self._rows, strict=True)
        ]
        self._part = Part(*parts[0])
        self.here = own = self._part.worlds
        seen = ((ends[-1], own.schema.observation_size), own.schema.dtype.name)
        shapes = {
            "actions": ((ends[-1], own.schema.action_size), "float64"),
            "observations": seen,
            "rewards": ((ends[-1],), "float64"),
            "terminated": ((ends[-1],), "bool"),
            "truncated": ((ends[-1],), "bool"),
            "over": ((ends[-1],), "bool"),  # whose episodes ended
            "final": seen,  # what was observed last in these
            "facts": ((_MOST_FACTS, ends[-1]), "float64"),  # and what is told of them
            "diverged": ((len(sizes),), "int64"),
            "orders": ((len(sizes),), "int64"),
            "progress": ((1,), "float64"),
        }
        context = multiprocessing.get_context("spawn")
        buffers = shared_memory(context, shapes)
        self._shared = views(buffers, shapes)
        self._part.share(0, self._rows[0], self._shared)
        self._signals = [(context.Semaphore(0), context.Semaphore(0)) for _ in sizes[1:]]
        self._stepping, self._owed = ([False] * len(self._signals) for _ in range(2))
        # A script without tasks of its own is not imported, and needs no `if __name__ == "__main__":`.
        alone = is_installed(self.domain.task)
        try:
            for i, signals in enumerate(self._signals, 1):
                arguments = (parts[i], i, self._rows[i], buffers, shapes, signals)
                self._others.append(Apart(_serving, arguments, alone))
            for other in self._others:
                other.receive()  # it has made its worlds
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        if self._others:
            with contextlib.suppress(Exception):  # one that has died cannot leave
                self._rest()
        while self._others:
            self._others.pop().close()
        if hasattr(self, "here"):
            self.here.close()

    # -- all processes at once ----------------------------------------------------------------------------------------

    def _call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """One call per process, each with its own arguments."""
        self._rest()
        answers = [getattr(self._part, method)(*arguments[0])]  # what is wrong with a call is found out here
        for other, given in zip(self._others, arguments[1:], strict=True):
            other.send(method, given)
        errors = []
        for other in self._others:
            try:
                answers.append(other.receive())
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return answers

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return self._call(method, [arguments] * len(self._rows))

    def _rest(self) -> None:
        """Bring the others back from stepping to where they can be called."""
        for i, other in enumerate(self._others):
            if self._owed[i]:  # a step that was interrupted
                self._await(i)
            if self._stepping[i]:
                self._shared["orders"][i + 1] = _LEAVE
                self._stepping[i] = False
                self._signals[i][0].release()
                other.receive()

    def _begin(self, i: int) -> None:
        """Let another process step."""
        if self._owed[i]:
            self._await(i)
        if not self._stepping[i]:
            self._others[i].send("steps", ())
            self._stepping[i] = True
        self._shared["orders"][i + 1] = _STEP
        self._owed[i] = True
        self._signals[i][0].release()

    def _await(self, i: int) -> None:
        """Wait until another process has stepped."""
        alive = _wait(self._signals[i][1], self._others[i].is_alive)
        self._owed[i] = False
        if not alive or self._shared["orders"][i + 1] == _FAILED:
            self._stepping[i] = False
            self._others[i].receive()  # raises what went wrong

    # -- as Worlds ----------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """See `Worlds.reset`."""
        mask = (options or {}).get("reset_mask")
        if mask is not None and (np.shape(mask) != (self.num_envs,) or np.asarray(mask).dtype != bool):
            raise UserError(f"reset_mask must be a bool array of shape ({self.num_envs},), not {mask!r}")
        masks = [None if mask is None else np.asarray(mask)[rows] for rows in self._rows]
        self._call("reset", [(seed, own) for own in masks])
        return self.schema.pack(self._shared["observations"].copy()), {}

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """See `Worlds.step`."""
        shared, others = self._shared, range(len(self._others))
        shared["actions"][:] = self.here.checked(actions, self.num_envs)
        for i in others:
            self._begin(i)
        try:
            self._part.step()
        finally:
            for i in others:
                self._await(i)
        observations, *rest = (shared[name].copy() for name in ("observations", "rewards", "terminated", "truncated"))
        return self.schema.pack(observations), *rest, self._report() if any_of(shared["over"]) else {}

    def _report(self) -> dict[str, Any]:
        over = self._shared["over"].copy()
        outcome = self.here.outcome(np.where(over, self._shared["facts"], 0.0))
        return self.here.report(over, outcome, self._shared["final"][over])

    @property
    def seed(self) -> int:
        return self.here.seed

    @property
    def progress(self) -> float:
        """Share of the training done, in [0, 1]; curricula read it at every reset."""
        return float(self._shared["progress"][0])

    @progress.setter
    def progress(self, progress: float) -> None:
        self._shared["progress"][0] = progress

    @property
    def diverged(self) -> int:
        """Number of episodes that ended because the physics diverged."""
        return int(self._shared["diverged"].sum())

    @property
    def final_observation(self) -> Observation:
        """As of `Worlds`."""
        return self.schema.pack(self._shared["final"])

    def disturb(self, forces: np.ndarray) -> None:
        """See `Worlds.disturb`."""
        if np.shape(forces) != (self.num_envs, 3) or not np.isfinite(forces).all():
            raise UserError(f"forces must be {self.num_envs} x 3 finite numbers, not of shape {np.shape(forces)}")
        self._call("disturb", [(np.asarray(forces)[rows],) for rows in self._rows])

    def read(self, parameter: str) -> np.ndarray:
        """See `Worlds.read`."""
        return np.concatenate(self._all("read", parameter))

    def parameters(self) -> dict[str, np.ndarray]:
        """See `Worlds.parameters`."""
        return {v.parameter.name: self.read(v.parameter.name) for v in self.varied}

    def markers(self, world: int) -> dict[str, np.ndarray]:
        """See `Worlds.markers`."""
        i = next(i for i, rows in enumerate(self._rows) if rows.start <= world < rows.stop)
        return self._all("markers", world - self._rows[i].start)[i]

    def render(self) -> tuple[np.ndarray, ...] | None:
        """See `Worlds.render`."""
        if self.render_mode is None:
            return None
        return tuple(itertools.chain.from_iterable(self._all("render")))

    # -- to stop and to go on -----------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to continue to the same bits, also in another number of processes."""
        parts = {str(i): part for i, part in enumerate(self._all("snapshot"))}
        return {"of": f"{self.here.described(self.num_envs)}, spread over {len(parts)} processes", "parts": parts}

    def require_own(self, snapshot: Mapping[str, Any]) -> None:
        """See `Worlds.require_own`; snapshots of `Worlds` are understood, too."""
        parts = _parts(snapshot)
        sizes = [_size(part) for part in parts]
        mine = [self.here.described(size) for size in sizes]
        if sum(sizes) != self.num_envs or [part.get("of", own) for part, own in zip(parts, mine, strict=True)] != mine:
            raise UserError(f"the snapshot is of {snapshot['of']}; these are {self.here.described(self.num_envs)}")

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same domain and number of worlds, spread as they were when it was taken.

        Raises:
            UserError: it is of others; nothing has changed then.
        """
        self.require_own(snapshot)
        parts = _parts(snapshot)
        sizes = [_size(part) for part in parts]
        if sizes != [rows.stop - rows.start for rows in self._rows]:
            self._start(sizes, self.seed)
        self._call("restore", [(part,) for part in parts])

    def close_extras(self, **kwargs: Any) -> None:
        self._end()


def _parts(snapshot: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A snapshot of `Spread` or `Worlds`, process by process."""
    parts = snapshot.get("parts")
    return [snapshot] if parts is None else [parts[str(i)] for i in range(len(parts))]


def _size(part: Mapping[str, Any]) -> int:
    """Of how many worlds a snapshot of `Worlds` is."""
    return len(part["worlds"]["_steps"])


class Part:
    """The worlds of one process, which reads actions from shared memory and writes there what came of them.

    Args:
        kind, domain, num_worlds, first_world, seed, options: of its worlds.
    """

    def __init__(
        self, kind: type[Worlds], domain: Domain, num_worlds: int, first_world: int, seed: int, options: dict[str, Any]
    ):
        self.worlds = kind(domain, num_worlds, seed, first_world=first_world, **options)

    def share(self, number: int, rows: slice, shared: Mapping[str, np.ndarray], signals: Any = None) -> None:
        """Say which part of the shared memory is this one's."""
        of_worlds = ("actions", "observations", "rewards", "terminated", "truncated", "over", "final")
        self._own = {name: shared[name][rows] for name in of_worlds} | {"facts": shared["facts"][:, rows]}
        self._own |= {name: shared[name][number : number + 1] for name in ("diverged", "orders")}
        self._progress, self._signals = shared["progress"], signals

    def steps(self) -> None:
        """Step whenever that is the order, until it is to leave."""
        go, done = self._signals
        while True:
            if not _wait(go, multiprocessing.parent_process().is_alive):
                raise EOFError
            if self._own["orders"][0] == _LEAVE:
                return
            try:
                self.step()
            except BaseException:
                self._own["orders"][0] = _FAILED
                raise
            finally:
                done.release()

    def step(self) -> None:
        """One step of all its worlds."""
        worlds, own = self.worlds, self._own
        worlds.progress = self._progress.item()
        seen, own["rewards"][:], own["terminated"][:], own["truncated"][:], infos = worlds.advance(
            own["actions"].copy()
        )
        own["observations"][:], own["diverged"][:] = seen, worlds.diverged
        if not infos:
            own["over"][:] = False
            return
        own["over"][:], own["final"][:], facts = infos["_outcome"], worlds.final, list(infos["outcome"].values())
        if len(facts) > _MOST_FACTS:
            raise Unsupported(f"worlds of {worlds.task.name} have too many terms of the reward for several processes")
        own["facts"][: len(facts)] = facts

    def reset(self, seed: int | None, mask: np.ndarray | None) -> None:
        self.worlds.progress = self._progress.item()
        seen, _ = self.worlds.reset(seed=seed, options=None if mask is None else {"reset_mask": mask})
        self._own["observations"][:] = self.worlds.schema.unpack(seen)

    def snapshot(self) -> dict[str, Any]:
        self.worlds.progress = self._progress.item()
        return self.worlds.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self.worlds.restore(snapshot)
        self._progress[:], self._own["diverged"][:] = self.worlds.progress, self.worlds.diverged
        self._own["final"][:] = self.worlds.final

    def __getattr__(self, name: str) -> Any:
        return getattr(self.worlds, name)


def _serving(part: tuple[Any, ...], number: int, rows: slice, buffers: Any, shapes: Any, signals: Any) -> Part:
    """A part in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides what an interrupt means
    made = Part(*part)
    made.share(number, rows, views(buffers, shapes), signals)
    return made


def _wait(semaphore: Any, alive: Callable[[], bool]) -> bool:
    """Acquire a semaphore, at first without sleeping; False if nobody is alive who could release it."""
    end = time.perf_counter() + BUSY_SECONDS
    while not semaphore.acquire(False):
        if time.perf_counter() > end:
            while not semaphore.acquire(timeout=1.0):
                if not alive():
                    return False
            return True
    return True
