"""Measure transfers that help and transfers that harm, for the early warning to be fitted to and judged by.

    python scripts/early_warning.py collect [--out runs/early_warning] [--environments NAME ..] [--part 1/2]
    python scripts/early_warning.py measure [--out runs/early_warning] [--cases docs/results/early_warning_cases.json]

`collect` trains source agents, transfer arms and control arms, ten seeds each, and keeps the agents at the marks; it continues
where it was stopped. `measure` labels every case by its verdict and writes what a warning could have known of its runs; it
looks at the agents of the handover again, so that new signals need no new training. `scripts/judge_early_warning.py` does
the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simreal.diagnostics import Curves, diagnose
from simreal.diagnostics.early_warning import MARKS, features
from simreal.evaluation import Evaluator
from simreal.learner import Learning, Target
from simreal.schedule import Schedule
from simreal.signals import Origin, look
from simreal.strategies import make_strategy
from simreal.strategies.base import Strategy
from simreal.training import train
from simreal_agents.bundle import Agent, load, save
from simreal_envs.tasks import TASKS, Task, find_task
from simreal_envs.variation import Domain

SEEDS = 10
POINTS = 6  # and the marks


# -- worlds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Environment:
    """A task with what is done to it.

    Attributes:
        task: its name.
        learning: how its agents learn; every rollout is at most a twentieth of `steps`.
        steps: the budget on the target: where scratch reaches about 90 % of its best.
        source_steps: of the source agents.
        episodes: per evaluation.
        mild, hard: domains that differ a little and much from the nominal one, as fields of a `Domain`.
        sensors: of the world whose sensors are mixed up: element i reads what element ``sensors[i]`` did; negative numbers
            count from -1 for element 0 and read it with the other sign.
        leave_out: names of cases that are not run here.
    """

    task: str
    learning: Learning
    steps: int
    source_steps: int
    episodes: int
    mild: dict[str, Any]
    hard: dict[str, Any]
    sensors: tuple[int, ...]
    leave_out: tuple[str, ...] = ()

    def world(self, name: str) -> Domain:
        """The domain called ``nominal``, ``mild``, ``hard``, ``reversed``, ``sensors`` or ``wrong``."""
        if name in ("mild", "hard"):
            return Domain(self.task, **getattr(self, name))
        return Domain(self.task if name == "nominal" else f"{self.task}~{name}")


def ppo(hidden: tuple[int, ...], activation: str, num_worlds: int, **hyperparameters: Any) -> Learning:
    return Learning(hidden, activation, num_worlds, hyperparameters)


ENVIRONMENTS = {
    "pendulum_v1": Environment(
        "gymnasium:Pendulum-v1",
        ppo((64, 64), "tanh", 8, learning_rate=1e-3, n_steps=128, batch_size=128, n_epochs=10, gamma=0.95),
        steps=24_000, source_steps=60_000, episodes=8,
        mild={"variation": {"kwargs/g": 11.0}},
        hard={"variation": {"kwargs/g": 14.0, "latency": 0.05}},
        sensors=(1, 0, 2),
        leave_out=("mild", "frozen", "critic head only", "random features"),
    ),
    "cartpole_v1": Environment(
        "gymnasium:CartPole-v1",
        ppo((64, 64), "tanh", 8, learning_rate=1e-3, n_steps=64, batch_size=128, n_epochs=10, gamma=0.98),
        steps=15_000, source_steps=30_000, episodes=8,
        mild={"variation": {"latency": 0.02}},
        hard={"variation": {"latency": 0.04, "observation/noise": 1.0}},
        sensors=(-1, -2, -3, -4),
        leave_out=("mild", "hard", "frozen", "critic head only"),
    ),
    "inverted_pendulum": Environment(
        "gymnasium:InvertedPendulum-v5",
        ppo((64, 64), "tanh", 16, learning_rate=7e-4, n_steps=60, batch_size=240, n_epochs=8, gamma=0.99),
        steps=20_000, source_steps=35_000, episodes=6,
        mild={"variation": {"pole/mass": 7.0}},
        hard={"variation": {"actuator/strength": 0.5, "latency": 0.04}},
        sensors=(-1, -2, -3, -4),
        leave_out=("mild", "hard", "wrong objective", "frozen, sensors", "nothing copied"),
    ),
    "pendulum_swingup": Environment(
        "pendulum_swingup",
        ppo((64, 64), "tanh", 32, learning_rate=7e-4, n_steps=64, batch_size=512, n_epochs=10, gamma=0.99, log_std_init=-0.5),
        steps=100_000, source_steps=160_000, episodes=8,
        mild={"variation": {"bob/mass": 0.65, "latency": 0.008}},
        hard={"variation": {"bob/mass": 0.8, "latency": 0.04}},
        sensors=(1, 0, -3),
        leave_out=("hard", "wrong objective", "frozen", "frozen, sensors", "nothing copied"),
    ),
    "cartpole_swingup": Environment(
        "cartpole_swingup",
        ppo(
            (64, 64), "tanh", 24, learning_rate=7e-4, n_steps=40, batch_size=240, n_epochs=10, gamma=0.98, target_kl=0.03
        ),
        steps=60_000, source_steps=120_000, episodes=8,
        mild={"variation": {"pole/mass": 1.3}},
        hard={"engine": "bullet", "variation": {"pole/mass": 1.8, "actuator/strength": 0.85, "latency": 0.02}},
        sensors=(0, 2, 1, -4, -5),
        leave_out=("mild", "frozen", "random features", "nothing copied"),
    ),
    "acrobot": Environment(
        "gymnasium:Acrobot-v1",
        ppo((64, 64), "tanh", 16, learning_rate=1e-3, n_steps=60, batch_size=240, n_epochs=6, gamma=0.99),
        steps=20_000, source_steps=40_000, episodes=8,
        mild={"variation": {"observation/noise": 0.5}},
        hard={"variation": {"latency": 0.2}},
        sensors=(1, 0, 3, 2, -5, -6),
        leave_out=("mild", "hard", "frozen, sensors", "critic head only", "random features"),
    ),
    "halfcheetah": Environment(
        "halfcheetah",
        ppo((64, 64), "elu", 32, learning_rate=1e-3, n_steps=32, batch_size=256, n_epochs=5, gamma=0.99, log_std_init=-1.0),
        steps=120_000, source_steps=200_000, episodes=5,
        mild={"variation": {"torso/mass": 8.0}},
        hard={"variation": {"latency": 0.02, "payload": 3.0}},
        sensors=(0, 1, 2, 3, 4, 8, 9, 10, 5, 6, 7, 14, 15, 16, 11, 12, 13, 17, 18, 19, 20, 21, 22),
        leave_out=("mild", "hard", "wrong objective", "frozen", "frozen, sensors", "random features", "nothing copied"),
    ),
}  # fmt: skip


def changed(task: Task, name: str, **methods: Callable[..., Any]) -> Task:
    """A task that differs from another one in some methods."""
    other = copy.copy(task)
    other.name = name
    for method, replacement in methods.items():
        setattr(other, method, replacement)
    return other


def register(environment: Environment) -> None:
    """Make the changed worlds of an environment known by name, as an installed package's tasks are."""
    task = find_task(environment.task)
    last = (task.schema.choices or 1) - 1
    columns = np.array([i if i >= 0 else -i - 1 for i in environment.sensors])
    signs = np.array([1.0 if i >= 0 else -1.0 for i in environment.sensors])
    methods: dict[str, dict[str, Callable[..., Any]]] = {
        # The motors are wired the wrong way round: a choice becomes the opposite one.
        "reversed": {"control": lambda action: task.control(last - action if task.schema.choices else -action)},
        "sensors": {"observe": lambda state: task.observe(state)[:, columns] * signs},
        "wrong": {"reward": lambda state: {name: -term for name, term in task.reward(state).items()}},
    }
    for name, replaced in methods.items():
        TASKS[f"{task.name}~{name}"] = changed(task, f"{task.name}~{name}", **replaced)


# -- cases -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A transfer whose sign is measured: the worlds that it goes from and to, and how."""

    name: str
    source: str
    strategy: str
    target: str
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    harmless: bool = False  # a shift that nobody would want to be warned of

    @property
    def control(self) -> str:
        """The world whose control arm this case is compared with.

        With motors reversed or sensors permuted or negated, scratch learns as in the nominal world: the distribution of its
        first weights, and all that it computes, is the same under these changes. So one control arm serves all three.
        """
        return "nominal" if self.target in ("reversed", "sensors") else self.target


CASES = (
    Case("identity", "nominal", "fine_tune", "nominal", harmless=True),
    Case("mild", "nominal", "fine_tune", "mild", harmless=True),
    Case("hard", "nominal", "fine_tune", "hard"),
    Case("reversed", "nominal", "fine_tune", "reversed"),
    Case("sensors", "nominal", "fine_tune", "sensors"),
    Case("wrong objective", "wrong", "fine_tune", "nominal"),
    Case("frozen", "nominal", "frozen_encoder", "nominal", {"depth": "trunk"}, harmless=True),
    Case("frozen, sensors", "nominal", "frozen_encoder", "sensors", {"depth": "trunk", "new_heads": True}),
    Case("random features", "nominal", "random_encoder", "nominal"),
    Case("nothing copied", "nominal", "surgery", "nominal", {"keep": []}, harmless=True),
    Case("critic head only", "nominal", "surgery", "nominal", {"keep": ["heads.critic"]}, harmless=True),
)


@dataclass(frozen=True)
class Kept(Strategy):
    """Another strategy, which also saves the agent on its way.

    Attributes:
        inner: what is done.
        folder: gets a bundle per mark.
        steps: the budget.
    """

    inner: Strategy
    folder: str
    steps: int

    name = "kept"
    says = "another strategy, with the agent saved on its way"
    family = "measuring"

    def begin(self, agent: Agent | None, target: Target) -> Any:
        return self.inner.begin(agent, target)

    def on_progress(self, learner: Any, progress: float) -> None:
        self.inner.on_progress(learner, progress)
        at = marks(learner.rollout_size, self.steps)
        if learner.num_timesteps in at:
            save(learner, Path(self.folder) / str(at[learner.num_timesteps]))


def marks(rollout: int, steps: int) -> dict[int, int]:
    """Environment steps of the evaluations at the marks, and which mark each is, in percent."""
    return {-(-mark * steps // (100 * rollout)) * rollout: mark for mark in MARKS}


# -- collect -----------------------------------------------------------------------------------------------------------

Job = tuple[Path, Callable[[Path], None]]


def jobs(out: Path, name: str) -> Iterator[Job]:
    """Folders to fill, and what fills each, in the order in which they need each other; all of a seed before the next."""
    environment = ENVIRONMENTS[name]
    root, cases = out / name, cases_of(environment)
    for world in sorted({case.target for case in cases} | {case.source for case in cases if case.source != "wrong"}):
        yield root / "random" / world, lambda folder, world=world: measure_random(folder, environment.world(world))
    for seed in range(SEEDS):
        for source in sorted({case.source for case in cases}):
            yield (
                root / "sources" / source / f"seed-{seed}",
                lambda folder, source=source, seed=seed: pretrain(folder, environment, source, seed),
            )
        for world in sorted({case.control for case in cases}):
            yield (
                root / "scratch" / world / f"seed-{seed}",
                lambda folder, world=world, seed=seed: run(folder, environment, None, world, None, seed),
            )
        for case in cases:
            agent = root / "sources" / case.source / f"seed-{seed}" / "agent"
            yield (
                root / "arms" / case.name / f"seed-{seed}",
                lambda folder, case=case, seed=seed, agent=agent: run(
                    folder, environment, case, case.target, agent, seed
                ),
            )


def cases_of(environment: Environment) -> list[Case]:
    return [case for case in CASES if case.name not in environment.leave_out]


def measure_random(folder: Path, domain: Domain) -> None:
    evaluator = Evaluator(domain, 64)
    write(folder / "random.json", evaluator.random().to_dict())
    evaluator.close()


def pretrain(folder: Path, environment: Environment, world: str, seed: int) -> None:
    target = Target(environment.world(world), environment.learning, 1000 + seed)
    result = train(
        None, target, make_strategy("scratch"), Schedule(environment.source_steps, 3, max(environment.episodes, 16))
    )
    save(result.agent, folder / "agent")
    write(folder / "result.json", {"rows": [asdict(row) for row in result.curve]})


def run(folder: Path, environment: Environment, case: Case | None, world: str, bundle: Path | None, seed: int) -> None:
    """One arm, or the control arm where there is no case."""
    target = Target(environment.world(world), environment.learning, seed)
    schedule = Schedule(environment.steps, POINTS, environment.episodes, MARKS)
    if case is None or bundle is None:
        result = train(None, target, make_strategy("scratch"), schedule)
    else:
        kept = Kept(make_strategy(case.strategy, case.settings), str(folder / "marks"), environment.steps)
        result = train(load(bundle), target, kept, schedule)
    rows = [asdict(row) for row in result.curve]
    write(folder / "result.json", {"rows": rows, "evidence": result.evidence, "seconds": result.seconds})


def collect(arguments: argparse.Namespace) -> None:
    part, parts = map(int, arguments.part.split("/"))
    for name in arguments.environments or ENVIRONMENTS:
        register(ENVIRONMENTS[name])
        for place, (folder, fill) in enumerate(jobs(arguments.out, name)):
            if folder.exists() or (parts > 1 and seed_of(folder) % parts != part - 1):
                continue
            begun, temporary = time.process_time(), folder.with_name(f".{folder.name}.{os.getpid()}")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            fill(temporary)
            os.replace(temporary, folder)
            print(f"{name} {place} {folder.relative_to(arguments.out)} {time.process_time() - begun:.1f} s", flush=True)


def seed_of(folder: Path) -> int:
    """Of a job's folder; 0 for what serves all seeds."""
    return int(folder.name.removeprefix("seed-")) if folder.name.startswith("seed-") else 0


# -- measure -----------------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> None:
    """Write all cases of which every seed is there: label, returns, and what a warning could have known."""
    cases, controls = [], {}
    for name, environment in ENVIRONMENTS.items():
        register(environment)
        root, here = arguments.out / name, []
        for case in cases_of(environment):
            places = [root / "arms" / case.name / f"seed-{seed}" for seed in range(SEEDS)]
            control = [root / "scratch" / case.control / f"seed-{seed}" for seed in range(SEEDS)]
            if all((place / "result.json").is_file() for place in [*places, *control]):
                here.append((case, places))
        worlds = {case.control for case, _ in here}
        scratch = {
            world: [read(root / "scratch" / world / f"seed-{s}" / "result.json") for s in range(SEEDS)]
            for world in worlds
        }
        random = {world: read(root / "random" / world / "random.json")["return_mean"] for world in worlds}
        moved = {case.name: [read(place / "result.json") for place in places] for case, places in here}
        best = {
            world: max(
                float(returns_of(runs).mean(axis=0).max())
                for runs in [scratch[world], *(moved[case.name] for case, _ in here if case.control == world)]
            )
            for world in worlds
        }
        for world in worlds:
            steps = [row["env_steps"] for row in scratch[world][0]["rows"]]
            controls[f"{name}/{world}"] = {
                "env_steps": steps, "returns": short(returns_of(scratch[world])), "random": random[world],
                "reference": best[world],
            }  # fmt: skip
        for case, places in here:
            cases.append(
                entry(
                    name,
                    environment,
                    case,
                    places,
                    moved[case.name],
                    scratch[case.control],
                    random[case.control],
                    best[case.control],
                )
            )
            print(f"{name:<18} {case.name:<18} {cases[-1]['label']:<13} {cases[-1]['area']}", flush=True)
    arguments.cases.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n  ".join(json.dumps(case, sort_keys=True) for case in cases)
    text = json.dumps({"seeds": SEEDS, "marks": MARKS, "controls": controls}, sort_keys=True)
    arguments.cases.write_text(f'{text[:-1]}, "cases": [\n  {lines}\n]}}\n', encoding="utf-8")


def entry(
    name: str, environment: Environment, case: Case, places: list[Path], moved: list[Any], scratch: list[Any],
    random: float, reference: float,
) -> dict[str, Any]:  # fmt: skip
    """A case as it is committed."""
    steps = np.array([row["env_steps"] for row in scratch[0]["rows"]], dtype=float)
    verdict = diagnose(
        Curves(steps, returns_of(moved), tuple(range(SEEDS))), Curves(steps, returns_of(scratch), tuple(range(SEEDS))),
        random_return=random, reference_return=reference, rng=np.random.default_rng(zlib.crc32(f"{name}/{case.name}".encode())),
    )  # fmt: skip
    runs = []
    for seed, place in enumerate(places):
        sources = places[0].parents[2] / "sources" / case.source
        earned = read(sources / f"seed-{seed}" / "result.json")["rows"][-1]["return_mean"]
        others = [scratch[(seed + k) % SEEDS] for k in (1, 2)]  # control arms of other seeds
        source = sources / f"seed-{seed}" / "agent"
        runs.append(known(environment, case.target, place, source, moved[seed], earned, others, random))
    return {
        "environment": name, "case": case.name, "source": case.source, "target": case.target, "control": f"{name}/{case.control}",
        "strategy": case.strategy, "settings": case.settings, "algorithm": environment.learning.algorithm,
        "harmless": case.harmless, "label": verdict.label,
        "area": verdict.area.to_dict(), "jumpstart": verdict.jumpstart.to_dict(), "asymptotic": verdict.asymptotic.to_dict(),
        "returns": short(returns_of(moved)), "known": runs,
    }  # fmt: skip


def known(
    environment: Environment, world: str, place: Path, source: Path, result: Any, earned: float, probes: list[Any],
    random: float,
) -> dict[str, Any]:  # fmt: skip
    """What is known of a run at every mark, as the warning sees it; at later marks what differs from the handover."""
    at = marks(rollout_of(environment.learning), environment.steps)
    rows = {row["env_steps"]: row["return_mean"] for row in result["rows"]}
    signals = [
        handover(environment, world, place, source),
        *(p for p in result["evidence"]["points"][1:] if p["env_steps"] in at),
    ]
    steps = [point["env_steps"] for point in signals]
    early = [{row["env_steps"]: row["return_mean"] for row in probe["rows"]} for probe in probes]
    found = {}
    for n in range(1, len(steps) + 1):
        others = [[probe[step] for step in steps[:n]] for probe in early]
        numbers = features(signals[:n], [rows[step] for step in steps[:n]], random, earned, others)
        found[str(at[steps[n - 1]])] = {name: float(f"{value:.4g}") for name, value in numbers.items()}
    first = found["0"]
    return {
        mark: {name: value for name, value in here.items() if mark == "0" or first.get(name) != value}
        for mark, here in found.items()
    }


def handover(environment: Environment, world: str, place: Path, source: Path) -> dict[str, Any]:
    """The signals of a run's first evaluation, looked at again: they may have changed since it was trained."""
    kept = place / "signals.json"
    if not kept.is_file():
        agent, gamma = load(place / "marks" / "0"), environment.learning.hyperparameters["gamma"]
        with contextlib.closing(Evaluator(environment.world(world), environment.episodes)) as evaluator:
            _, trace = evaluator.trace(agent)
        write(kept, look(agent, trace, gamma, Origin.of(load(source))))
    return {"env_steps": 0, **read(kept)}


def rollout_of(learning: Learning) -> int:
    return learning.num_worlds * learning.hyperparameters["n_steps"]


def returns_of(results: list[Any]) -> np.ndarray:
    """Deterministic returns of all evaluations, ``(seeds, T)``."""
    return np.array([[row["return_mean"] for row in result["rows"]] for result in results])


def short(values: np.ndarray) -> list[Any]:
    return np.round(values, 3).tolist()


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, data: Any, indent: int | None = None) -> None:
    path.write_text(json.dumps(data, allow_nan=False, sort_keys=indent is None, indent=indent) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("collect")
    sub.add_argument("--environments", nargs="*", choices=ENVIRONMENTS)
    sub.add_argument("--part", default="1/1", help="which share of the seeds, for several processes")
    sub.set_defaults(do=collect)
    commands.add_parser("measure").set_defaults(do=measure)
    for command in commands.choices.values():
        command.add_argument("--out", type=Path, default=Path("runs/early_warning"))
        command.add_argument("--cases", type=Path, default=Path("docs/results/early_warning_cases.json"))
    arguments = parser.parse_args()
    arguments.do(arguments)


if __name__ == "__main__":
    main()
