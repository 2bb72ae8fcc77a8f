"""What exact resume costs: kilobytes and milliseconds per checkpoint, and its share of the training time.

    python scripts/bench_checkpoint.py [--json docs/results/bench_checkpoint.json]

Learns and takes checkpoints in turns, so that whatever else slows the machine down slows down both. The share is that of
a whole run of the stated length, with as many checkpoints as it has by default; evaluations are not counted as training.
Takes about two minutes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common import Row, say, write_json
from bench_tables import show

from simreal import config_files
from simreal.arms import check
from simreal.learner import Learning, Target
from simreal.schedule import Schedule
from simreal_agents.state import Checkpoints
from simreal_agents.transferable import Transferable
from simreal_envs.variation import Domain

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Case:
    """A training run whose checkpoints are measured.

    Attributes:
        steps: environment steps of the whole run.
        replay: transitions that are in the replay buffer before the first step.
    """

    name: str
    target: Callable[[], Target]
    steps: int
    replay: int = 0


def of_config(file: str, *domain: str) -> Callable[[], Target]:
    """Learning from scratch in a source or target of a config."""

    def target() -> Target:
        experiment, where = config_files.resolve(CONFIGS / file, ())
        return Target(check(experiment, where)[domain], Learning.of(experiment.agent), 0)

    return target


def sac() -> Target:
    """SAC on the half-cheetah with defaults, in a few worlds."""
    return Target(Domain("halfcheetah"), Learning((256, 256), "relu", 8, {"learning_starts": 0}, "sac"), 0)


CASES = (
    Case("cart-pole, PPO", of_config("quickstart.yaml", "sources", "randomized"), 300_000),
    Case("cart-pole on Bullet, PPO", of_config("quickstart.yaml", "targets", "heavy_pole"), 140_000),
    Case("quadruped, PPO", of_config("quadruped.yaml", "sources", "randomized"), 500_000),
    Case("half-cheetah, SAC, empty replay", sac, 100_000),
    Case("half-cheetah, SAC, 100,000 in the replay", sac, 100_000, 100_000),
)


class Enough(Exception):
    """The measurement is complete."""


@dataclass
class Probe:
    """A progress hook that takes a checkpoint after every `pause` seconds of learning, `rounds` times.

    Attributes:
        fill: puts that many transitions into the replay buffer; stands for those of the steps that are not taken here.
        between: environment steps from one checkpoint to the next in the whole run.
    """

    checkpoints: Checkpoints
    pause: float
    rounds: int
    between: int
    fill: Callable[[int], None]
    learned_s: float = 0.0
    learned_steps: int = 0
    checkpoint_s: list[float] = field(default_factory=list)
    kilobytes: list[float] = field(default_factory=list)
    since: float | None = None
    start: tuple[float, int] | None = None

    def __call__(self, learner: Transferable, progress: float) -> None:
        now, steps = time.perf_counter(), learner.num_timesteps
        if self.start is None:
            self.take(learner)  # the first one writes all that is in the replay buffer
            self.checkpoint_s.clear(), self.kilobytes.clear()
        elif now - self.start[0] < self.pause:
            return
        else:
            self.learned_s += now - self.start[0]
            self.learned_steps += steps - self.start[1]
            self.fill(max(0, self.between - (steps - self.start[1])))
            self.take(learner)
        if len(self.checkpoint_s) == self.rounds:
            raise Enough
        self.start = (time.perf_counter(), steps)

    def take(self, learner: Transferable) -> None:
        """A checkpoint, as a training run takes it."""
        before = sizes(self.checkpoints.folder)
        tick = time.perf_counter()
        self.checkpoints.save(learner.num_timesteps, {"learner": learner.training_state()})
        self.checkpoint_s.append(time.perf_counter() - tick)
        new = {name: size for name, size in sizes(self.checkpoints.folder).items() if name not in before}
        self.kilobytes.append(sum(new.values()) / 1000)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file in a folder."""
    return {str(path): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def filler(learner: Any) -> Callable[[int], None]:
    """Puts random transitions into the replay buffer of a learner, if it has one."""
    rng, space = np.random.default_rng(0), learner.observation_space

    def fill(count: int) -> None:
        if count and hasattr(learner, "replay_buffer"):
            rows = rng.standard_normal((2, count, space.shape[0]), dtype=np.float32)
            actions = rng.uniform(-1, 1, (count, *learner.action_space.shape)).astype(np.float32)
            learner.replay_buffer.add(*rows, actions, rng.random(count, np.float32), np.zeros(count, bool))

    return fill


def measure(case: Case, seconds: float, rounds: int) -> list[Row]:
    """Size and time of a checkpoint, the median over rounds, and the share of all checkpoints in the training time."""
    learner = case.target().learner()
    count = len(Schedule(case.steps).checkpoints(learner.rollout_size))
    fill = filler(learner)
    fill(case.replay)
    with tempfile.TemporaryDirectory() as folder:
        probe = Probe(Checkpoints(folder, {}), seconds / rounds, rounds, case.steps // count, fill)
        learner.progress_hooks.append(probe)
        try:
            learner.learn(10**9, log_interval=None)
        except Enough:
            pass
        finally:
            learner.env.close()
    checkpoint_s = statistics.median(probe.checkpoint_s)
    training_s = probe.learned_s / probe.learned_steps * case.steps
    say(
        f"{case.name}: {case.steps:,} steps are {training_s:.0f} s and {count} checkpoints of {1e3 * checkpoint_s:.2f} ms"
    )
    share = 100 * count * checkpoint_s / training_s
    figures = {
        ("size", "kB"): statistics.median(probe.kilobytes),
        ("time", "ms"): 1e3 * checkpoint_s,
        ("share of the training time", "%"): share,
    }
    return [Row(f"a checkpoint/{case.name}/{what}", value, unit) for (what, unit), value in figures.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--seconds", type=float, default=20.0, help="learning per case")
    parser.add_argument("--rounds", type=int, default=20, help="checkpoints per case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for case in CASES for row in measure(case, arguments.seconds, arguments.rounds)]
    show([asdict(row) for row in rows])
    if arguments.json:
        write_json(arguments.json, "python scripts/bench_checkpoint.py", rows)


if __name__ == "__main__":
    main()
