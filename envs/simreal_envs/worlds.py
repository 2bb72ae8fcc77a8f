"""Worlds: N running copies of a domain as a Gymnasium VectorEnv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from simreal_envs.arguments import (
    checked_forces,
    checked_mask,
    checked_seed,
    checked_seeds,
    chosen,
    clipped,
    progress_of,
    require_snapshot,
    whole,
)
from simreal_envs.beginnings import Beginnings
from simreal_envs.bridges import Bridge
from simreal_envs.conditions import Conditions
from simreal_envs.engines.base import Engine, any_of, rows_of
from simreal_envs.errors import UserError, require_a, require_known
from simreal_envs.parameters import Draws
from simreal_envs.schema import Observation, row
from simreal_envs.senses import Senses
from simreal_envs.spread import Spread
from simreal_envs.tally import Tally
from simreal_envs.tasks import find_task
from simreal_envs.tasks.base import State, Task
from simreal_envs.tasks.contract import fault
from simreal_envs.variation import Domain, Observe
from simreal_envs.view import View, schema_of

RENDER_MODES = ["rgb_array"]
SPREADING = ("bullet",)  # engines whose worlds several processes step: MuJoCo gains nothing over threads


def make(
    domain: Domain,
    num_worlds: int = 1,
    seed: int = 0,
    *,
    autoreset: AutoresetMode | str = AutoresetMode.SAME_STEP,
    num_threads: int = 1,
    num_workers: int = 0,
    render_mode: str | None = None,
) -> Worlds | Spread:
    """Start `num_worlds` worlds of a domain.

    Args:
        seed: all draws (parameters, initial states, sensor noise) are functions of it.
        autoreset: when a finished world starts its next episode, as in Gymnasium.
        num_threads: physics threads of the MuJoCo engine in each process (0: all cores). Results do not depend on it.
        num_workers: processes that step worlds in Bullet, of which this is one, or environments of Gymnasium and Atari (0:
            this one alone); other worlds start none. Results do not depend on it. Processes are spawned: a script with tasks
            of its own needs the usual ``if __name__ == "__main__":``.
        render_mode: None or ``"rgb_array"``.
    """
    require_a(Domain, domain, "the domain", "sr.Domain(task, ..)")
    options = {"autoreset": autoreset, "num_threads": num_threads, "render_mode": render_mode}
    if num_workers and domain.engine in SPREADING:
        num_worlds, num_workers = whole("num_worlds", num_worlds, 1), whole("num_workers", num_workers, 0)
        return Spread(Worlds, domain, num_worlds, seed, num_workers=num_workers, **options)
    return Worlds(domain, num_worlds, seed, num_workers=num_workers, **options)


class Ended(NamedTuple):
    """Of a step of N worlds in which episodes ended.

    Attributes:
        over: which ones, bool ``(N,)``.
        facts: what is told of them, see `Tally.facts`.
        last: what was observed last in these alone, flat ``(over.sum(), d)``.
    """

    over: np.ndarray
    facts: np.ndarray
    last: np.ndarray


class Worlds(gymnasium.vector.VectorEnv):
    """N worlds of one domain. Parameters are drawn and applied, from nominal, at every reset.

    Besides Gymnasium's interface:

    Attributes:
        schema: names, units and bounds of observation and action.
        seed: what all draws are functions of; a tuple after a reset with one seed per world.
        final_observation: a batch of observations as `step` returns them; rows of worlds that finished in the last step
            hold the observation before their reset (autoreset mode SAME_STEP).
        diverged: number of episodes that ended because the physics diverged.

    `infos` hold ``final_obs``/``final_info`` as Gymnasium's own vector environments do, and ``outcome``: return ``r``,
    length ``l``, success ``s`` and the sum of every reward term as ``reward/NAME``, valid where ``_outcome`` is True
    (not ``episode``, which Gymnasium's RecordEpisodeStatistics claims for itself).
    """

    closed = True  # until it is made: before version 1.4 Gymnasium closes what is thrown away, half made or not

    def __init__(
        self,
        domain: Domain,
        num_worlds: int,
        seed: int = 0,
        *,
        autoreset: AutoresetMode | str = AutoresetMode.SAME_STEP,
        num_threads: int = 1,
        num_workers: int = 0,
        render_mode: str | None = None,
        first_world: int = 0,  # number of the first one among all that are drawn by this seed
    ):
        num_worlds, num_workers = whole("num_worlds", num_worlds, 1), whole("num_workers", num_workers, 0)
        if num_workers and domain.engine in SPREADING:
            raise UserError(
                f"Worlds steps all worlds in {domain.engine} in this process; make(.., num_workers={num_workers}) spreads them"
            )
        num_threads = whole("num_threads", num_threads, 0)
        if render_mode is not None:
            require_known(render_mode, RENDER_MODES, "render_mode")
        modes = [mode.value for mode in AutoresetMode]
        self.autoreset_mode = AutoresetMode(
            require_known(str(getattr(autoreset, "value", autoreset)), modes, "autoreset mode")
        )
        self.domain, self.task = domain, find_task(domain.task)
        self.seed: int | tuple[int, ...] = checked_seed(seed)
        self.varied, self.schema = domain.resolve(), schema_of(domain)
        self.num_envs, self.render_mode = num_worlds, render_mode
        self._declare_spaces()
        plain = (domain.observe, domain.bridge) == (Observe(), Bridge())
        self._view = None if plain else View(domain, num_worlds)
        self.engine = make_engine(domain, num_worlds, num_threads, num_workers)
        self._conditions = Conditions(self.task, self.varied, self.engine, num_worlds)
        self._imperfections = self._conditions.imperfections
        self._senses = Senses(self.task, self._imperfections, num_worlds)
        self._tally = Tally(self.task, num_worlds)
        self._choices = self.schema.choices
        self._intervals = [(v, v.steps(self.schema.control_period)) for v in self.varied if v.mode == "interval"]

        self.progress, self.diverged = 0.0, 0
        self._everyone, self._first_world = np.arange(num_worlds), first_world
        self._episodes = np.full(num_worlds, -1)
        self._key()
        self._steps, self._ended = np.zeros(num_worlds, dtype=np.int64), np.zeros(num_worlds, dtype=bool)
        self._command: np.ndarray | None = None
        self._disturbance: np.ndarray | None = None  # (N, 3) N from the first `disturb` on
        self.final = np.zeros((num_worlds, self.schema.observation_size), dtype=self.schema.dtype)
        self._observation = np.zeros_like(self.final)
        self.closed = False

    def _declare_spaces(self) -> None:
        """Tell Gymnasium what these worlds take and show."""
        self.metadata = {
            "autoreset_mode": self.autoreset_mode, "render_modes": RENDER_MODES, "render_fps": render_fps(self.task),
        }  # fmt: skip
        self.single_observation_space = self.schema.observation_space
        self.single_action_space = self.schema.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _key(self) -> None:
        """Key all draws by the seed; with one seed per world, each is the first world of its own."""
        alone = isinstance(self.seed, tuple)
        places = np.zeros_like(self._everyone) if alone else self._everyone + self._first_world
        self._draws = Draws(self.seed, places, self._episodes)
        # Where nothing comes between the initial state and what is observed of it, that is known ahead, too.
        ahead = getattr(self.engine, "starts_exactly", False) and not hasattr(self.engine, "readings")
        around, images = self._imperfections, any(field.grid for field in self.schema.observation)
        ahead = ahead and not (around.distorts or around.senses or images or self._conditions.down is not None)
        observe = self._senses.exactly if ahead else None
        self._beginnings = Beginnings(
            self.task, self.varied, self._draws, self.num_envs, prepare=self._conditions.prepare, observe=observe,
            trial=self.domain.observe.trial, lasting=around.lasting,
        )  # fmt: skip

    # -- episodes -----------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start new episodes: of all worlds, or of those in ``options["reset_mask"]``, a bool array ``(N,)``.

        With a seed, all worlds begin again at their first episode under that seed. With a list of one seed per world,
        each does what a single world does under its seed, whatever its place.
        """
        seed, mask = self.checked_reset(seed, options, self.num_envs)
        ids = self._everyone if mask is None else np.flatnonzero(mask)
        if seed is not None:
            self.seed = seed
            self._episodes[:] = -1
            self._key()
            if begin_anew := getattr(self.engine, "begin_anew", None):
                begin_anew()
        if len(ids):  # those of other processes or members may be meant
            try:
                self._observation[ids] = self._begin(ids)
            except Exception as error:
                self._tell("at the start of episodes", error)
                raise
            self._ended[ids] = False
        return self.schema.pack(self._observation.copy()), {}

    def checked_reset(
        self, seed: Any, options: Mapping[str, Any] | None, num_worlds: int
    ) -> tuple[int | tuple[int, ...] | None, np.ndarray | None]:
        """The seed, or seeds, of a reset of some worlds like these, and its mask, bool ``(num_worlds,)``; None: of all of them.

        Raises:
            UserError: one is none, both are given, or the mask leaves worlds out that have no episode yet.
        """
        seed = checked_seeds(seed, num_worlds)
        if (mask := checked_mask(options, num_worlds)) is None:
            return seed, None
        if seed is not None:
            raise UserError("reset takes a seed or a reset_mask, not both: a seed begins all worlds again")
        if self._command is None and not mask.all():
            raise UserError(
                f"the first reset must begin all worlds; reset_mask leaves world {int(np.argmin(mask))} out"
            )
        return None, mask

    def _begin(self, ids: np.ndarray) -> np.ndarray:
        """Draw and apply parameters, put the worlds into their initial state; what is observed of it, ``(len(ids), d)``."""
        rows = rows_of(ids)
        self._episodes[rows] = episodes = self._episodes[rows] + 1
        width = self.domain.variation.width(self.progress)
        keys, values, qpos, qvel, command, lasting, observation, prepared = self._beginnings.take(ids, episodes, width)
        self._draws.resume(rows, keys)
        self._conditions.begin(ids, rows, values, prepared)
        self.engine.reset(ids, qpos, qvel)
        self._imperfections.begin(rows, lasting)
        if self._command is None:
            self._command = np.zeros((self.num_envs, command.shape[1]))
        if command.shape[1]:
            self._command[rows] = command
        if self._disturbance is not None:
            self._disturbance[rows] = 0.0
        self._tally.begin(rows)
        lengths = self._steps[ids] if self._view else None
        self._steps[rows] = 0
        if observation is None:
            observation = self._senses.begin(self._state().take(rows), self._draws, self._steps, rows)
        return self._view.begin(ids, observation, values, episodes, lengths) if self._view else observation

    def _redraw(self) -> None:
        """Draw and apply anew, in the middle of episodes, what is varied at intervals that begin now."""
        for varied, every in self._intervals:
            ids = np.flatnonzero((self._steps % every == 0) & (self._steps > 0))
            if not len(ids):
                continue
            draws = self._draws.take(ids)
            quantiles = draws.uniform(varied.parameter.name, 1, self._steps[ids] // every)[:, 0]
            values = varied.values(quantiles, draws, self.domain.variation.width(self.progress))
            self._conditions.change(varied.parameter, ids, values)
            if self._view:
                self._view.vary(self.varied.index(varied), ids, values)

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every world by one control period.

        Args:
            actions: ``(N, a)``, or ``(N,)`` where a is 1; clipped to [-1, 1]. Choices of a discrete action: integers ``(N,)``.

        Returns:
            observations, a batch of `single_observation_space` (vectors: float32 ``(N, d)``), rewards float64 ``(N,)``,
            terminated and truncated bool ``(N,)``, infos.
        """
        observation, *rest, ended = self.advance(self.checked(actions, self.num_envs))
        return self.schema.pack(observation.copy()), *rest, self.report(*ended) if ended else {}

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Ended | None]:
        """`step`, for actions that were `checked`; observations are flat, ``(N, d)``, in memory that these worlds go on to use."""
        try:
            return self._advance(actions)
        except Exception as error:
            self._tell("in a step", error)
            raise

    def _tell(self, when: str, error: Exception) -> None:
        """Raise a sentence for an error in the code of somebody else's task."""
        if wrong := fault(self.task, f"{when} of {self.num_envs} worlds with seed {self.seed}", error):
            raise wrong from error

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Ended | None]:
        around, steps = self._imperfections, self._steps
        if self._intervals:
            self._redraw()
        control = around.command(self._view.acted(actions) if self._view else actions, self._draws, steps)
        if (force := around.force(self._draws, steps, self._disturbance)) is not None:
            self.engine.push(force)
            if self._disturbance is not None:
                self._disturbance = np.zeros_like(self._disturbance)
        if control.ndim == 2:
            self.engine.step(control, self.task.substeps)
        else:
            self.engine.play(control)
        steps += 1

        broken = self.engine.diverged()
        trouble = any_of(broken)
        state = self._state(broken if trouble else None)
        reward, terminated = self._tally.score(state, broken if trouble else None)
        # A world whose physics broke down is cut off, not failed: its last sane observation stands for the value that is lost.
        truncated, cut = steps >= self.task.episode_steps, self.task.truncated(state)
        if cut is not None:
            truncated |= cut
        if trouble:
            truncated |= broken
        done = terminated | truncated
        over = any_of(done)
        if over:
            truncated &= ~terminated
        observation = self._senses.observe(state, self._draws, steps)
        if trouble:
            # Outside of SAME_STEP a broken world is stepped once more before its reset; it counted when it broke.
            again = self._ended & (self.autoreset_mode != AutoresetMode.SAME_STEP)
            self.diverged += int((broken & ~again).sum())
            last = self._observation[broken]
            observation[broken] = self._view.sensed(last) if self._view else last
        if self._view:
            idle = self._ended if self.autoreset_mode == AutoresetMode.NEXT_STEP else None
            observation = self._view.step(self._observation, actions, reward, observation, idle)
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and self._ended.any():
            # This step was the reset; its action counted for nothing.
            for array in (reward, terminated, truncated, done):
                array[self._ended] = 0
            resumed, over = np.flatnonzero(self._ended), any_of(done)
            observation[resumed] = self._begin(resumed)
        ended = self._finish(done, terminated, observation) if over else None
        self._ended, self._observation = done, observation
        return observation, reward, terminated, truncated, ended

    def disturb(self, forces: np.ndarray) -> None:
        """Push the robots' bases at their centres of mass during the next control step, on top of the parameter ``push``.

        Args:
            forces: ``(N, 3)`` N, world frame. A world that begins an episode before that step is not pushed.

        Raises:
            UserError: another shape, or numbers that are not finite.
        """
        self._disturbance = checked_forces(forces, self.num_envs)

    def checked(self, actions: np.ndarray, num_worlds: int) -> np.ndarray:
        """Actions of some worlds like these as they are carried out: float64 ``(num_worlds, a)``, choices as numbers.

        Raises:
            ResetNeeded: before the first `reset`.
            UserError: another shape or type, numbers that are not finite, or a choice that there is not.
        """
        if self._command is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        if self._choices:
            return chosen(actions, num_worlds, self._choices)
        return clipped(actions, (num_worlds, self.schema.action_size))

    @property
    def terms(self) -> int:
        """How many terms the reward has."""
        state = self._state()
        if state.command is None:  # before the first reset
            state.command = self.task.command(self._draws, self.num_envs)
        return len(self.task.reward(state))

    def _finish(self, done: np.ndarray, terminated: np.ndarray, observation: np.ndarray) -> Ended:
        """What there is to tell of the episodes that are over; in mode SAME_STEP, begin the next ones in place."""
        (ids,) = done.nonzero()
        rows = rows_of(ids)
        last = observation[ids]
        ended = Ended(done.copy(), self._tally.facts(rows, self._steps[rows], terminated[rows]), last)
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            self.final[rows] = last
            observation[rows] = self._begin(ids)
        return ended

    def report(self, over: np.ndarray, facts: np.ndarray, last: np.ndarray) -> dict[str, Any]:
        """The infos of a step of worlds like these in which episodes `Ended`."""
        infos: dict[str, Any] = {"outcome": self._tally.outcome(facts), "_outcome": over}
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            final, last = np.empty(len(over), dtype=object), self.schema.pack(last)  # of None
            ids = np.flatnonzero(over).tolist()
            seen = (row(last, k) for k in range(len(ids))) if isinstance(last, dict) else last
            for i, observed in zip(ids, seen, strict=True):
                final[i] = observed
            infos |= {"final_obs": final, "_final_obs": over, "final_info": infos.copy(), "_final_info": over}
        return infos

    # -- what is seen -------------------------------------------------------------------------------------------------

    def _state(self, broken: np.ndarray | None = None) -> State:
        """The state of all worlds; those that are broken show the robot's default instead of numbers that are none."""
        qpos, qvel = self.engine.qpos, self.engine.qvel
        if broken is not None:
            rest = self.task.robot.rest
            qpos, qvel = (np.where(broken[:, None], *pair) for pair in zip(rest, (qpos, qvel), strict=True))
        delay = self._imperfections.delay
        return State(qpos, qvel, delay.latest, delay.previous, self._command, self._conditions.readings())

    @property
    def final_observation(self) -> Observation:
        return self.schema.pack(self.final.copy())

    def read(self, parameter: str) -> np.ndarray:
        """The value of a parameter in force in each world, SI, shape ``(N,)``, as the engine reports it."""
        return self._conditions.read(parameter)

    def parameters(self) -> dict[str, np.ndarray]:
        """The values in force of everything that varies, as the engine reports them: name -> ``(N,)``."""
        return {v.parameter.name: self.read(v.parameter.name) for v in self.varied}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One uint8 picture ``(480, 640, 3)`` per world in render mode ``rgb_array``."""
        if self.render_mode is None:
            return None
        return tuple(self.engine.render(world, 640, 480) for world in range(self.num_envs))

    def markers(self, world: int) -> dict[str, np.ndarray]:
        """Points that a picture of one world should show, each ``(3,)`` m."""
        return {name: points[world] for name, points in self.task.markers(self._state()).items()}

    @property
    def progress(self) -> float:
        """Share of the training done, in [0, 1]; curricula read it at every reset."""
        return self._progress

    @progress.setter
    def progress(self, progress: float) -> None:
        self._progress = progress_of(progress)

    # -- to stop and to go on -----------------------------------------------------------------------------------------

    _OWN_STATE = (
        "seed", "progress", "diverged", "_episodes", "_steps", "_command", "_ended", "_observation", "final", "_disturbance",
    )  # fmt: skip

    def _kept(self) -> dict[str, tuple[Any, str]]:
        """What a snapshot keeps of these worlds themselves: name there -> whose attribute it is."""
        parts = ((self._conditions, ("down",)), (self._tally, ("names", "sums", "streak")))
        own = {name: (self, name) for name in self._OWN_STATE}
        return own | {f"_{name}": (part, name) for part, names in parts for name in names}

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to continue to the same bits, as arrays and numbers."""
        own = {name: _copied(getattr(*place)) for name, place in self._kept().items()}
        view = {"view": self._view.snapshot()} if self._view else {}
        parts = {"imperfections": self._imperfections.snapshot(), "engine": self.engine.snapshot()}
        return {"of": self.described(self.num_envs), "worlds": own, **parts, **view}

    def described(self, num_worlds: int) -> str:
        """So many of these worlds, in words: what must be the same in worlds that continue from each other's snapshots."""
        domain, names = self.domain, ", ".join(v.parameter.name for v in self.varied)
        return (
            f"{num_worlds} worlds of {domain.task!r} on {domain.engine} ({domain.preset}) with "
            f"{self.schema.observation_size} observations in which {names or 'nothing'} varies"
        )

    def require_own(self, snapshot: Mapping[str, Any]) -> None:
        """Raise a UserError if this is no snapshot, or one of another domain or number of worlds."""
        mine = self.described(self.num_envs)
        # Snapshots of before do not say.
        if isinstance(snapshot, Mapping) and (theirs := snapshot.get("of", mine)) != mine:
            raise UserError(f"the snapshot is of {theirs}; these are {mine}")
        require_snapshot(snapshot)

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same domain and number of worlds; with any other, nothing changes.

        Raises:
            UserError: it is of others.
        """
        self.require_own(snapshot)
        for name, place in self._kept().items():
            if name in snapshot["worlds"]:  # not in one of before
                setattr(*place, _copied(snapshot["worlds"][name]))
        self._key()
        self._imperfections.restore(snapshot["imperfections"])
        self.engine.restore(snapshot["engine"])
        if self._view:
            self._view.restore(snapshot["view"])

    def close_extras(self, **kwargs: Any) -> None:
        self.engine.close()
        self.engine = self._conditions.engine = _Closed()  # type: ignore[assignment]


class _Closed:
    """In place of the engine of worlds that were closed: whoever asks it for something is told so."""

    def __getattr__(self, name: str) -> Any:
        raise UserError("these worlds were closed; make() starts new ones")


def _copied(value: Any) -> Any:
    return np.copy(value) if isinstance(value, np.ndarray) else value


def render_fps(task: Task) -> int:
    """Frames per second of pictures taken at every control step, when they are shown at real speed."""
    return max(1, round(1 / task.schema.control_period))


def make_engine(domain: Domain, num_worlds: int, num_threads: int = 1, num_workers: int = 0) -> Engine:
    """The engine of a domain, with every parameter at nominal."""
    task = find_task(domain.task)
    return task.make_engine(domain.engine, domain.preset, num_worlds, num_threads, num_workers)
