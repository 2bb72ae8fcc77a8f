"""Worlds spread over processes: each steps, scores and observes its own share, with the bits of one process for all.

PyBullet never releases the interpreter lock, so threads would not help it. (Worlds in MuJoCo gain nothing from it: at 64 and
1,024 worlds they are no faster than with physics threads.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

from simreal_envs.arguments import checked_forces, progress_of, require_snapshot
from simreal_envs.engines.base import any_of
from simreal_envs.errors import UserError
from simreal_envs.lockstep import Partner, shared_memory, views
from simreal_envs.schema import Observation
from simreal_envs.tasks import is_installed

if TYPE_CHECKING:
    from simreal_envs.variation import Domain, Varied
    from simreal_envs.worlds import Worlds


class Spread(gymnasium.vector.VectorEnv):
    """N worlds of one domain in several processes, of which this is one; else as `Worlds`, to the bit.

    Closing it ends the other processes; so does the end of this one, whatever its cause. After an interrupt in the middle of
    a call, which leaves some worlds a step ahead of others, reset or restore them.

    Args:
        kind: `Worlds`, or what behaves as it does.
        num_workers: processes, at most one per two worlds: numpy adds up the terms of a single reward in another order.
        options: of `kind`.

    Attributes:
        here: the worlds of this process. Else those of `Worlds`, but for its engine.
    """

    closed = True  # until it is made, as `Worlds`

    def __init__(
        self, kind: type[Worlds], domain: Domain, num_worlds: int, seed: int = 0, *, num_workers: int, **options: Any
    ):
        self._kind, self.domain, self._options = kind, domain, options
        count = max(1, min(num_workers, num_worlds // 2))
        bounds = np.linspace(0, num_worlds, count + 1).astype(int).tolist()
        self._others: list[Partner] = []
        self._start([high - low for low, high in itertools.pairwise(bounds)], seed)
        own = self.here
        self.seed: int | tuple[int, ...] = own.seed
        self.num_envs, self.task, self.schema = num_worlds, own.task, own.schema
        self.autoreset_mode, self.metadata, self.render_mode = own.autoreset_mode, own.metadata, own.render_mode
        self.single_observation_space = own.single_observation_space
        self.single_action_space = own.single_action_space
        self.observation_space = batch_space(self.single_observation_space, num_worlds)
        self.action_space = batch_space(self.single_action_space, num_worlds)
        self.closed = False

    def _start(self, sizes: Sequence[int], seed: int = 0) -> None:
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
            "facts": ((3 + own.terms, ends[-1]), "float64"),  # see `Tally.facts`
            "diverged": ((len(sizes),), "int64"),
            "progress": ((1,), "float64"),
        }
        buffers = shared_memory(shapes)
        self._shared = views(buffers, shapes)
        self._part.share(0, self._rows[0], self._shared)
        # A script without tasks of its own is not imported, and needs no `if __name__ == "__main__":`.
        alone = is_installed(self.domain.task)
        try:
            for i, rows in enumerate(self._rows[1:], 1):
                self._others.append(Partner(_elsewhere, (parts[i], i, rows, buffers, shapes), alone))
            for other in self._others:
                other.answer()  # it has made its worlds
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        for other in self._others:
            other.leave()
        if hasattr(self, "here"):
            self.here.close()
        while self._others:
            self._others.pop().close()

    # -- all processes at once ----------------------------------------------------------------------------------------

    def _call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What a method returns in each process, with arguments of its own there."""
        for other, given in zip(self._others, arguments[1:], strict=False):  # none are left after the end
            other.call(method, *given)
        return self._gathered(lambda: getattr(self._part, method)(*arguments[0]))

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return self._call(method, [arguments] * len(self._rows))

    def _gathered(self, own: Callable[[], Any]) -> list[Any]:
        """What this process has still to do, and what the others have begun; the first error when all of them are done."""
        answers: list[Any] = []
        errors: list[Exception] = []
        for answer in (own, *(other.answer for other in self._others)):
            try:
                answers.append(answer())
            except Exception as error:
                errors.append(error)
        try:
            if errors:
                raise errors[0]
        finally:
            errors.clear()  # an error knows this frame: in a circle they would keep these worlds
        return answers

    # -- as Worlds ----------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """See `Worlds.reset`."""
        seed, mask = self.here.checked_reset(seed, options, self.num_envs)
        self.seed = self.seed if seed is None else seed
        seeds = [seed[rows] if isinstance(seed, tuple) else seed for rows in self._rows]
        masks = [None if mask is None else mask[rows] for rows in self._rows]
        self._call("reset", list(zip(seeds, masks, strict=True)))
        return self.schema.pack(self._shared["observations"].copy()), {}

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """See `Worlds.step`."""
        shared = self._shared
        shared["actions"][:] = self.here.checked(actions, self.num_envs)
        for other in self._others:
            other.step()
        self._gathered(self._part.step)
        observations, *rest = (shared[name].copy() for name in ("observations", "rewards", "terminated", "truncated"))
        return self.schema.pack(observations), *rest, self._report() if any_of(shared["over"]) else {}

    def _report(self) -> dict[str, Any]:
        over = self._shared["over"].copy()
        return self.here.report(over, np.where(over, self._shared["facts"], 0.0), self._shared["final"][over])

    @property
    def progress(self) -> float:
        """Share of the training done, in [0, 1]; curricula read it at every reset."""
        return float(self._shared["progress"][0])

    @progress.setter
    def progress(self, progress: float) -> None:
        self._shared["progress"][0] = progress_of(progress)

    @property
    def varied(self) -> tuple[Varied, ...]:
        """What varies, in all processes; others that are set here count from the next reset with a seed on."""
        return self.here.varied

    @varied.setter
    def varied(self, varied: tuple[Varied, ...]) -> None:
        self._all("vary", varied)

    @property
    def diverged(self) -> int:
        """Number of episodes that ended because the physics diverged."""
        return int(self._shared["diverged"].sum())

    @property
    def final_observation(self) -> Observation:
        """As of `Worlds`."""
        return self.schema.pack(self._shared["final"].copy())

    def disturb(self, forces: np.ndarray) -> None:
        """See `Worlds.disturb`."""
        forces = checked_forces(forces, self.num_envs)
        self._call("disturb", [(forces[rows],) for rows in self._rows])

    def read(self, parameter: str) -> np.ndarray:
        """See `Worlds.read`."""
        return np.concatenate(self._all("read", parameter))

    def parameters(self) -> dict[str, np.ndarray]:
        """See `Worlds.parameters`."""
        return {v.parameter.name: self.read(v.parameter.name) for v in self.varied}

    def markers(self, world: int) -> dict[str, np.ndarray]:
        """See `Worlds.markers`."""
        member = next(i for i, rows in enumerate(self._rows) if rows.start <= world < rows.stop)
        if not member:
            return self.here.markers(world)
        other = self._others[member - 1]
        other.call("markers", world - self._rows[member].start)
        return other.answer()

    def render(self) -> tuple[np.ndarray, ...] | None:
        """See `Worlds.render`."""
        if self.render_mode is None:
            return None
        return tuple(itertools.chain.from_iterable(self._all("render")))

    # -- to stop and to go on -----------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to continue to the same bits, also in another number of processes."""
        parts = {str(i): part for i, part in enumerate(self._all("snapshot"))}
        if len(parts) == 1:
            return parts["0"]  # as of `Worlds`
        return {"of": f"{self.here.described(self.num_envs)}, spread over {len(parts)} processes", "parts": parts}

    def require_own(self, snapshot: Mapping[str, Any]) -> None:
        """See `Worlds.require_own`; snapshots of `Worlds` are understood, too."""
        parts = _parts(snapshot)
        sizes = [_size(part) for part in parts]
        mine = [self.here.described(size) for size in sizes]
        if sum(sizes) != self.num_envs or [part.get("of", own) for part, own in zip(parts, mine, strict=True)] != mine:
            theirs = snapshot.get("of", f"{sum(sizes)} worlds")
            raise UserError(f"the snapshot is of {theirs}; these are {self.here.described(self.num_envs)}")

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same domain and number of worlds, spread as they were when it was taken.

        Raises:
            UserError: it is of others; nothing has changed then.
        """
        self.require_own(snapshot)
        parts = _parts(snapshot)
        sizes = [_size(part) for part in parts]
        if sizes != [rows.stop - rows.start for rows in self._rows]:
            varied = self.varied
            self._start(sizes)
            self.varied = varied
        self._call("restore", [(part,) for part in parts])
        seeds = [part["worlds"]["seed"] for part in parts]
        self.seed = tuple(itertools.chain(*seeds)) if isinstance(seeds[0], tuple) else seeds[0]

    def close_extras(self, **kwargs: Any) -> None:
        self._end()


def _parts(snapshot: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A snapshot of `Spread` or `Worlds`, process by process."""
    if not isinstance(snapshot, Mapping) or "parts" not in snapshot:
        require_snapshot(snapshot)
        return [snapshot]
    require_snapshot(parts := snapshot["parts"], ("0",))
    parts = [parts[str(i)] for i in range(len(parts))]
    for part in parts:
        require_snapshot(part)
    return parts


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

    def share(self, number: int, rows: slice, shared: Mapping[str, np.ndarray]) -> None:
        """Say which part of the shared memory is this one's."""
        of_worlds = ("actions", "observations", "rewards", "terminated", "truncated", "over", "final")
        self._own = {name: shared[name][rows] for name in of_worlds} | {"facts": shared["facts"][:, rows]}
        self._own["diverged"], self._progress = shared["diverged"][number : number + 1], shared["progress"]

    def step(self) -> None:
        """One step of all its worlds."""
        worlds, own = self.worlds, self._own
        worlds.progress = self._progress.item()
        seen, own["rewards"][:], own["terminated"][:], own["truncated"][:], ended = worlds.advance(
            own["actions"].copy()
        )
        own["observations"][:], own["diverged"][:] = seen, worlds.diverged
        if ended is None:
            own["over"][:] = False
        else:
            own["over"][:], own["facts"][:], own["final"][:] = ended.over, ended.facts, worlds.final

    def reset(self, seed: int | tuple[int, ...] | None, mask: np.ndarray | None) -> None:
        self.worlds.progress = self._progress.item()
        seen, _ = self.worlds.reset(seed=seed, options=None if mask is None else {"reset_mask": mask})
        self._own["observations"][:] = self.worlds.schema.unpack(seen)

    def vary(self, varied: tuple[Varied, ...]) -> None:
        self.worlds.varied = varied

    def snapshot(self) -> dict[str, Any]:
        self.worlds.progress = self._progress.item()
        return self.worlds.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        self.worlds.restore(snapshot)
        self._progress[:], self._own["diverged"][:] = self.worlds.progress, self.worlds.diverged
        self._own["final"][:] = self.worlds.final

    def __getattr__(self, name: str) -> Any:
        return getattr(self.worlds, name)


def _elsewhere(part: tuple[Any, ...], number: int, rows: slice, buffers: Any, shapes: Any) -> Part:
    """A part in a process of its own."""
    made = Part(*part)
    made.share(number, rows, views(buffers, shapes))
    return made
