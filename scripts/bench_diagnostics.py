"""What the signals cost: the share of an arm's wall time that goes into looking at the agent at its evaluations.

    python scripts/bench_diagnostics.py [--json docs/results/bench_diagnostics.json]

Arms of `fine_tune` in targets of two configs, with the evaluations that these ask for. An agent of the zoo
with experience from the config's source stands for the pretrained one. Arms with and without signals take turns; the share
is that of the time spent in signals within an arm, which an otherwise busy machine disturbs less than the difference of
two arms. Of the quadruped a part of the budget is run, and the share at the full one follows: as many evaluations, more
learning between them. Takes about five minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from bench_common import Row, one_thread_each, say, write_json
from bench_tables import show

from simreal import config_files, one_arm
from simreal.arms import check, strategy_of
from simreal.diagnostics.early_warning import MARKS
from simreal.evaluation import Evaluator
from simreal.learner import Learning, Target
from simreal.schedule import Schedule
from simreal.signals import experience_of
from simreal.training import train
from simreal_agents.bundle import Agent, load
from simreal_envs.variation import Domain

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Case:
    """An arm that is measured.

    Attributes:
        agent: of the zoo, with the config's network.
        part: how many arms of the measured length make one of the config's.
    """

    name: str
    config: str
    agent: str
    source: str
    target: str
    part: int = 1


CASES = (
    Case("cart-pole on Bullet, PPO", "quickstart.yaml", "cartpole_dr", "randomized", "heavy_pole"),
    Case("cart-pole on MuJoCo, PPO", "quickstart.yaml", "cartpole_dr", "randomized", "reversed_drive"),
    Case("quadruped on Bullet, PPO", "quadruped.yaml", "quadruped_dr", "randomized", "loaded", 4),
)


Seconds = dict[str, list[float]]  # of every call, by function


def clocked(name: str, spent: Seconds) -> Callable[..., Any]:
    """What `simreal.one_arm` calls `name`, by the clock."""
    function = getattr(one_arm, name)

    def timed(*args: Any, **settings: Any) -> Any:
        start = time.perf_counter()
        found = function(*args, **settings)
        spent[name].append(time.perf_counter() - start)
        return found

    return timed


@contextlib.contextmanager
def signals(spent: Seconds | None) -> Iterator[None]:
    """While it lasts, training runs are looked at by the clock; not at all where there is nothing to write it in."""
    if spent is not None:
        replaced = {name: clocked(name, spent) for name in spent}
    else:
        replaced = {"look": lambda *_, **__: {}, "experience_of": lambda *_: None}
    with mock.patch.multiple(one_arm, **replaced):
        yield


def with_experience(name: str, source: Domain) -> Agent:
    """An agent of the zoo as if it had been pretrained just now."""
    agent = load(f"zoo:{name}")
    with contextlib.closing(Evaluator(source.seen_by(agent.card.get("domain")), 20)) as evaluator:
        return replace(agent, experience=experience_of(agent, evaluator.trace(agent)[1]))


def measure(case: Case, rounds: int, shorter: int) -> list[Row]:
    """Time of an arm with and without signals, and of the signals in it."""
    experiment, where = config_files.resolve(CONFIGS / case.config, ())
    domains, evaluation = check(experiment, where), experiment.evaluation
    agent = with_experience(case.agent, domains["sources", case.source])
    target = Target(domains["targets", case.target], Learning.of(experiment.agent), 0)
    part, strategy = case.part * shorter, strategy_of(experiment, "fine_tune")
    marks = MARKS if experiment.early_warning.on_negative != "off" else ()
    schedule = Schedule(experiment.targets[case.target].steps // part, evaluation.points, evaluation.episodes, marks)
    walls: dict[bool, list[float]] = {True: [], False: []}
    shares, first, later, carried = [], [], [], []
    for looks in [True, False] * rounds:
        spent: Seconds = {name: [] for name in ("look", "experience_of", "fingerprint")}
        with signals(spent if looks else None):
            start = time.perf_counter()
            run = train(agent, target, strategy, schedule)
            wall = time.perf_counter() - start
        # The arm of the config learns longer, and is looked at as often.
        walls[looks].append(wall + (part - 1) * sum(run.seconds.values()))
        if looks:
            shares.append(100 * sum(map(sum, spent.values())) / walls[looks][-1])
            first.append(spent["look"][0])
            later += spent["look"][1:]
            carried.append(spent["experience_of"][0] + spent["fingerprint"][0])
    arms = {looks: 1e3 * statistics.median(seconds) for looks, seconds in walls.items()}
    say(f"{case.name}: {statistics.median(shares):.2f} % of an arm of {arms[True] / 1e3:.1f} s are signals")
    ratio = statistics.median(a / b for a, b in zip(walls[True], walls[False], strict=True))
    seconds = {
        "signals at the handover": first,
        "signals at another evaluation": later,
        "what the agent carries along": carried,
    }
    return [
        Row(f"signals/{case.name}/share of an arm", statistics.median(shares), "%"),
        *(Row(f"signals/{case.name}/{name}", 1e3 * statistics.median(all_), "ms") for name, all_ in seconds.items()),
        Row(f"signals/{case.name}/an arm with signals", arms[True], "ms", "an arm without", ratio),
        Row(f"signals/{case.name}/an arm without", arms[False], "ms"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--cases", nargs="+", choices=(names := [case.name for case in CASES]), default=names)
    parser.add_argument("--rounds", type=int, default=5, help="arms of every case, with signals and without")
    parser.add_argument("--shorter", type=int, default=1, help="run so much less of the budgets, for a try")
    arguments = parser.parse_args()
    one_thread_each()
    cases = [case for case in CASES if case.name in arguments.cases]
    rows = [row for case in cases for row in measure(case, arguments.rounds, arguments.shorter)]
    show([asdict(row) for row in rows])
    if arguments.json:
        write_json(arguments.json, "python scripts/bench_diagnostics.py", rows)


if __name__ == "__main__":
    main()
