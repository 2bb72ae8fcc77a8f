"""One arm from its handover to its end: the agent learns, is evaluated, warned of, written down, and continued."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger

from simreal.curve import Row
from simreal.diagnostics.early_warning import MARKS
from simreal.early import EarlyWarning
from simreal.evaluation import Evaluator, Trace
from simreal.learner import Target
from simreal.schedule import Schedule
from simreal.signals import Origin, experience_of, fingerprint, look
from simreal.signals_over_time import flat
from simreal.strategies import Combination, Scratch, Strategy, described
from simreal.tracking.base import Tracker
from simreal_agents.bundle import Agent
from simreal_agents.state import Checkpoints
from simreal_agents.transferable import Transferable
from simreal_envs.errors import Unsupported
from simreal_envs.variation import Domain
from simreal_envs.view import alike

log = logging.getLogger(__name__)

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Run:
    """One arm: what was done and what came of it.

    Attributes:
        agent: the agent at the end.
        curve: its evaluations, in order of steps.
        evidence: what was measured at the handover and at the end; see ``docs/verdict.md``.
        domain, strategy, seed: what was run.
        diverged: training episodes that ended because the physics diverged.
        seconds: wall time in physics, inference, update and other.
        note: what became of the checkpoints of an earlier start, in a few words; empty for a first start.
    """

    agent: Agent
    curve: tuple[Row, ...]
    evidence: dict[str, Any]
    domain: Domain
    strategy: Strategy
    seed: int
    diverged: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def __repr__(self) -> str:
        """In a line what was done and what came of it."""
        first, last = self.curve[0], self.curve[-1]
        return (
            f"Run({self.strategy}, task={self.domain.task!r}, seed={self.seed}, steps={last.env_steps}, "
            f"return_mean={first.return_mean:.2f} -> {last.return_mean:.2f})"
        )


class _Warned(Exception):
    """Leaves a transfer that is likely to turn out negative."""


class OneArm:
    """The verbs of one arm, in the order in which they happen."""

    def __init__(
        self, agent, target: Target, strategy: Strategy, schedule: Schedule, tracker: Tracker, report: Report,
        checkpoints: Checkpoints | None, early: EarlyWarning | None,
    ):  # fmt: skip
        self.source_agent, self.target, self.strategy = agent, replace(target, made=[]), strategy
        self.schedule, self.tracker, self.report, self.checkpoints = schedule, tracker, report, checkpoints
        self.early, self.way = early, strategy  # how it learns now: by its strategy, or from scratch after a warning
        self.left_at = 0  # environment steps before that
        self.diverged = 0  # episodes, before that
        self._begin()
        self.grid = schedule.grid(self.learner.rollout_size)
        self.marks = schedule.checkpoints(self.learner.rollout_size)
        self.rows: list[Row] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.evidence: dict[str, Any] = {}
        self.resumed_at: int | None = None
        self.origin = Origin.of(agent, target.source) if agent is not None else None
        self.trace: Trace | None = None  # of the last evaluation
        self.note = ""
        self.started = time.perf_counter()

    def _begin(self) -> None:
        try:
            self.learner: Transferable = self.way.begin(self.moved, self.target)
        except BaseException:
            for worlds in self.target.made:
                worlds.close()
            raise
        self.learner.set_logger(Logger(None, []))  # `configure` would leave a folder behind
        self.learner.progress_hooks.append(self._before_rollout)
        self.domain = self.learner.env.worlds.domain  # as the learner sees it
        self.evaluator = Evaluator(self.domain, self.schedule.episodes)

    def run(self, source: Domain | None) -> Run:
        self._resume()
        if self.resumed_at is None:
            self._evaluate()
        try:
            self._learn()
        except _Warned:
            if self.evidence["early_warning"]["on_negative"] == "fall_back":
                self._start_over(Scratch(), self.steps)
                self._learn()
        self._repeat()
        # After a fall-back another agent learns: the last point of the one that was handed over counts.
        own = [p for p in self.evidence["points"] if self.way is self.strategy or p["env_steps"] <= self.left_at]
        self.evidence["end"] = {k: v for k, v in own[-1].items() if k != "env_steps"}
        agent = self._agent()
        if self.moved is not None:
            self._measure_change(agent, source)
        diverged = self.diverged + self.learner.env.worlds.diverged
        if diverged:
            self.evidence["diverged_episodes"] = diverged
        facts = {name: value for name, value in self.evidence.items() if name not in ("points", "early_warning")}
        self.tracker.summary({**asdict(self.rows[-1]), "diverged": diverged, **_below("evidence", facts)})
        return Run(
            agent, tuple(self.rows), self.evidence, self.target.domain, self.strategy, self.target.seed,
            diverged, dict(self.learner.seconds), self.note,
        )  # fmt: skip

    def close(self) -> None:
        self.evaluator.close()
        self.learner.env.close()

    @property
    def moved(self) -> Agent | None:
        """The source agent, as long as what learns comes from it."""
        return self.source_agent if self.way is self.strategy else None

    @property
    def steps(self) -> int:
        """Environment steps in the target."""
        return self.left_at + self.learner.num_timesteps

    def _learn(self) -> None:
        left = self.schedule.steps - self.steps
        if not self.strategy.trains or left <= 0:
            return
        self._leave_if_warned()
        self.learner.learn(left, log_interval=None, reset_num_timesteps=self.steps != self.resumed_at)
        self.way.on_progress(self.learner, 1.0)
        self._evaluate()
        self._checkpoint()

    def _before_rollout(self, learner: Transferable, progress: float) -> None:
        if self.steps == self.resumed_at:  # all this was done when the checkpoint was taken
            return
        self.way.on_progress(learner, progress)
        if self.steps in self.grid[1:-1] and self.steps > self.rows[-1].env_steps:
            self._evaluate()
            self._leave_if_warned()
        else:
            self.report(self.steps / self.schedule.steps, self._words())
        if self.steps in self.marks:
            self._checkpoint()

    def _leave_if_warned(self) -> None:
        said = self.evidence.get("early_warning")
        if said and said["acted"] and said["on_negative"] != "warn" and self.way is self.strategy:
            raise _Warned

    def _start_over(self, way: Strategy, steps: int) -> None:
        """Go on with a fresh learner, after so many steps."""
        self.diverged += self.learner.env.worlds.diverged
        self.close()
        self.way, self.left_at = way, steps
        self._begin()

    def _checkpoint(self) -> None:
        # Also where there is no folder: it may change rounding errors of what follows, and equal runs have equal bits.
        try:
            state = self.learner.training_state()
        except Unsupported as error:
            if self.checkpoints:
                self._remark(f"cannot be continued when interrupted, since {error}")
            return
        if self.checkpoints is None:
            return
        logger = self.learner.logger
        tree = {
            "learner": state,
            "rows": [asdict(row) for row in self.rows],
            "logged": self.logged,
            "figures": _figures(logger.name_to_value),
            "counts": dict(logger.name_to_count),
            "evidence": self.evidence,
            "left_at": None if self.way is self.strategy else self.left_at,
            "diverged": self.diverged,
            "wall_s": time.perf_counter() - self.started,
        }
        self.checkpoints.save(self.steps, tree)

    def _resume(self) -> None:
        """Go back to the newest checkpoint, if there is one that can be used."""
        if self.checkpoints is None:
            return
        state = self.checkpoints.load()
        if self.checkpoints.note:
            self._remark(self.checkpoints.note)
        if state is None:
            return
        if state["left_at"] is not None:
            self._start_over(Scratch(), state["left_at"])
        try:
            self.learner.restore_training_state(state["learner"])
        except Unsupported as error:
            self._remark(f"starts afresh, since {error}")
            self._start_over(self.strategy, 0)
            return
        self.resumed_at, self.diverged = self.steps, state["diverged"]
        self.rows = [Row(**row) for row in state["rows"]]
        self.evidence = state["evidence"]
        self.started = time.perf_counter() - state["wall_s"]
        self.learner.logger.name_to_value.update(state["figures"])
        self.learner.logger.name_to_count.update(state["counts"])
        for step, figures in state["logged"]:
            self._log(step, figures)
        share = min(self.steps / self.schedule.steps, 1.0)
        self.note = self.note or f"continued at {100 * share:.0f} %"
        self.report(share, f"continues at {100 * share:.0f} %")

    def _remark(self, note: str) -> None:
        if note != self.note:
            log.warning("simreal: warning: %s on %s seed %d %s", *self._names(), note)
            self.note = note

    def _names(self) -> tuple[str, str, int]:
        return self.strategy.name, self.target.domain.task, self.target.seed

    def _log(self, step: int, figures: dict[str, float]) -> None:
        self.logged.append((step, figures))
        self.tracker.log(step, figures)

    def _evaluate(self) -> None:
        agent, steps = Agent.of(self.learner), self.steps
        deterministic = self.evaluator(agent)
        evaluation, trace = self.evaluator.trace(agent)
        stochastic = evaluation.to_dict()
        self.trace = trace
        origin = self.origin if self.moved is not None else None
        signals = look(agent, trace, self.learner.gamma, origin, thorough=not self.rows)
        if not self.rows:
            self.evidence = {**signals, "points": []}
        self.evidence["points"].append({"env_steps": steps, **signals})
        if deterministic.scores is not None:
            self.evidence["score"] = float(deterministic.scores.mean())
        row = Row(
            env_steps=steps,
            **deterministic.to_dict(),
            wall_s=time.perf_counter() - self.started,
            **{f"stochastic_{k}": stochastic[k] for k in ("return_mean", "return_std", "success_rate")},
        )
        self.rows.append(row)
        figures = {**_figures(self.learner.logger.name_to_value), **_below("signals", signals), **self._ask(steps)}
        self._log(steps, {**_evaluated(row), **figures})
        self.report(min(steps / self.schedule.steps, 1.0), self._words())

    def _ask(self, steps: int) -> dict[str, float]:
        """What the early warning says at one of its marks, for the tracker."""
        if self.early is None or self.moved is None:
            return {}
        own = replace(self.schedule, marks=MARKS)  # a schedule may have others beside them
        marks = own.marked(self.learner.rollout_size)
        if steps not in marks or steps >= self.schedule.steps:
            return {}
        said = self.evidence.get("early_warning")
        if said is None:
            earned = self.moved.lineage[-1].get("return_mean")
            said = self.early.begin(self.evaluator.random().to_dict()["return_mean"], earned)
        points = [point for point in self.evidence["points"] if point["env_steps"] in marks]
        now = self.early.ask(said, marks[steps], points, {row.env_steps: row.return_mean for row in self.rows})
        self.evidence["early_warning"] = now
        p = now["at"][-1]["p"]["value"]
        if now["acted"] != said["acted"]:
            self._remark(f"will probably turn out negative, says its early warning at {marks[steps]} % (p = {p:.2f})")
        return {"early_warning/p": p}

    def _repeat(self) -> None:
        """An agent that learns no more has the same return at every point of the grid that the other arms are on."""
        for steps in [steps for steps in self.grid if steps > self.rows[-1].env_steps]:
            row = Row(**{**asdict(self.rows[-1]), "env_steps": steps})
            self.rows.append(row)
            self._log(steps, _evaluated(row))

    def _measure_change(self, agent: Agent, source: Domain | None) -> None:
        if source is None or not alike(source, self.domain):  # an agent fitted to other fields cannot go back
            return
        seen = source.seen_by(self.source_agent.card.get("domain")), source.seen_by(self.domain)
        for name, who, domain in zip(("before", "after"), (self.source_agent, agent), seen, strict=True):
            with contextlib.closing(Evaluator(domain, self.schedule.episodes)) as evaluator:
                self.evidence[f"source_return_{name}"] = evaluator(who).to_dict()["return_mean"]

    def _agent(self) -> Agent:
        agent = Agent.of(self.learner, replay=self.target.learning.replay == "keep")
        # There is none where it was continued after its last evaluation.
        experience = experience_of(agent, self.trace or self.evaluator.trace(agent)[1])
        card = {
            "hyperparameters": {**agent.card["hyperparameters"], **self.target.learning.options},
            "domain": self.domain.to_dict(),
            "strategy": on_card(self.strategy),
            "seed": self.target.seed,
            "steps": self.steps if self.strategy.trains else self.rows[-1].env_steps,
            "returns": [{k: v for k, v in asdict(row).items() if k != "wall_s"} for row in self.rows],
        }
        if self.moved is not None:
            card["ancestors"] = self.moved.lineage
        if experience is not None:
            card["fingerprint"] = fingerprint(agent, experience["observations"])
        return replace(agent, card={**agent.card, **card}, experience=experience)

    def _words(self) -> str:
        words = [f"return {self.rows[-1].return_mean:.1f}"] if self.rows else []
        return ", ".join([*words, self.note] if self.note else words)


def on_card(strategy: Strategy) -> dict[str, Any]:
    """What a card says of a strategy: its name and its settings."""
    own = {"parts": described(strategy)} if isinstance(strategy, Combination) else asdict(strategy)
    return {"name": strategy.name, **own}


def _evaluated(row: Row) -> dict[str, float]:
    return {f"eval/{key}": value for key, value in asdict(row).items() if key not in ("env_steps", "wall_s")}


def _figures(recorded: dict[str, Any]) -> dict[str, float]:
    """What a learner has recorded about itself, as far as it is numbers."""
    return {name: float(value) for name, value in recorded.items() if isinstance(value, (int, float, np.number))}


def _below(kind: str, numbers: Mapping[str, Any]) -> dict[str, float]:
    return {f"{kind}/{name}": value for name, value in flat(numbers).items()}
