"""What is finished of an experiment, read from its folder: curves and evidence of its arms, and the scales of their returns."""

from __future__ import annotations

import functools
import logging
import operator
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from simreal.arms import NO_SOURCE, Arm, arms, chains, check, needed
from simreal.config import CONTROL_ARM, Experiment
from simreal.curve import Row, read_curve
from simreal.diagnostics import Curves
from simreal.diagnostics.curves import scale_end
from simreal.files import read_json
from simreal.plan import finished_stages
from simreal.stages import read_card
from simreal_envs.errors import UserError
from simreal_envs.variation import Domain

log = logging.getLogger(__name__)

T = TypeVar("T")

Key = tuple[str, str, str, int]  # source, strategy, target, step of the sequence (0: an arm by itself)
Seeds = dict[int, tuple[tuple[Row, ...], dict[str, Any]]]  # curve and evidence
Finished = dict[Key, Seeds]
Levels = dict[str, float]


@dataclass(frozen=True)
class Folder:
    """An experiment and what its folder holds of it by now.

    Attributes:
        domains: by ("sources" or "targets", name).
        done: names of the stages that are finished.
        arms, further: those that are finished: arms, and the later steps of the sequence.
        scales: of every target with a control arm; `source_scales` of every source that is used, None before its agents.
    """

    experiment: Experiment
    out: Path
    domains: dict[tuple[str, str], Domain]
    done: set[str]
    arms: Finished
    further: Finished
    scales: dict[str, Levels]
    source_scales: dict[str, Levels | None]

    @property
    def compared(self) -> list[Key]:
        """The arms that have a control arm to compare with."""
        return _compared(self.arms)

    def control(self, target: str) -> Seeds:
        """The control arm of a target."""
        return self.arms[control_of(target)]


def read(experiment: Experiment, out: Path) -> Folder:
    """Read what is finished; a warning says how much is not.

    Raises:
        UserError: there is no finished arm with a finished control arm.
    """
    domains = check(experiment)
    done = finished_stages(experiment, domains, out)
    finished = read_arms(arms(experiment), done, out)
    further = read_arms((arm for chain in chains(experiment) for arm in chain[1:]), done, out)
    if not _compared(finished):
        stale = not finished and any(out.glob("arms/**/stage.json"))
        why = "; its arms are damaged, or of another config or another simreal: `simreal run` makes them anew"
        raise UserError(
            f"{out} has no finished arm with a finished control arm to compare with"
            + (why if stale else "; finish it with `simreal run`")
        )
    wanted = {str(arm.path) for arm in arms(experiment)}
    wanted |= {str(path) for chain in chains(experiment) for path in (chain[0].returns, *(arm.path for arm in chain))}
    if missing := len(wanted - done):
        stages = "1 stage" if missing == 1 else f"{missing} stages"
        log.warning("simreal: warning: %s of %s not finished, or damaged; `simreal run` continues", stages, out)
    with_control = [name for name in experiment.targets if control_of(name) in finished]
    scales = {name: scale_of(name, finished | further, out) for name in with_control}
    source_scales = {name: source_scale(name, experiment, out, done) for name in needed(experiment)}
    return Folder(experiment, out, domains, done, finished, further, scales, source_scales)


def _compared(finished: Finished) -> list[Key]:
    return [key for key in finished if key[1] != CONTROL_ARM and control_of(key[2]) in finished]


def read_arms(wanted: Iterable[Arm], done: set[str], out: Path) -> Finished:
    """Curve and evidence of those arms whose stages are among `done`."""
    found: Finished = {}
    for arm in wanted:
        folder = out / arm.path
        if str(arm.path) in done:
            evidence = read_result(folder / "evidence.json", dict)
            found.setdefault(key_of(arm), {})[arm.seed] = (read_curve(folder / "curve.csv"), evidence)
    return found


def key_of(arm: Arm) -> Key:
    """What an arm of all seeds is called."""
    return arm.source, arm.strategy, arm.target, arm.step


def control_of(target: str) -> Key:
    """The control arm of a target."""
    return NO_SOURCE, CONTROL_ARM, target, 0


def curves_of(seeds: Seeds, column: str = "return_mean") -> Curves:
    """The learning curves of the seeds of an arm, of its deterministic policies or by another column."""
    rows = [rows for rows, _ in seeds.values()]
    steps = [row.env_steps for row in rows[0]]
    returns = np.array([[getattr(row, column) for row in one] for one in rows])
    return Curves(np.array(steps, dtype=float), returns, tuple(seeds))


def random_return(kind: str, name: str, out: Path) -> float:
    """What a random policy earns in one of the "sources" or "targets"."""
    path = out / "references" / kind / name / "random.json"
    if not read_card(path.parent):
        raise _damaged(path, "not what it was when it was measured")
    return read_result(path, float, "return_mean")


def read_result(path: Path, kind: type[T], *key: str) -> T:
    """What a stage has written in a JSON file, or what is there under a key.

    Raises:
        UserError: it is not there, or it is nothing of the kind.
    """
    try:
        found = functools.reduce(operator.getitem, key, read_json(path))
        if not isinstance(found, (float, int) if kind is float else kind):
            raise ValueError(f"{reprlib.repr(found)} where something else belongs")
        return kind(found)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"{path} is missing or damaged ({why}); finish the experiment with `simreal run`")


def scale_of(target: str, finished: Finished, out: Path) -> Levels:
    """0 is a random policy; 1 is the best mean return over seeds that any arm showed at any evaluation."""
    random = random_return("targets", target, out)
    best = max(
        float(curves_of(seeds).returns.mean(axis=0).max()) for key, seeds in finished.items() if key[2] == target
    )
    return {"random": random, "reference": scale_end(best, random)}


def source_scale(source: str, experiment: Experiment, out: Path, done: set[str]) -> Levels | None:
    """0 is a random policy; 1 is what the source agents earned at the end of pretraining."""
    random = random_return("sources", source, out)
    finals = source_finals(source, experiment, out, done)
    return {"random": random, "reference": scale_end(float(np.mean(finals)), random)} if finals else None


def source_finals(source: str, experiment: Experiment, out: Path, done: set[str]) -> list[float]:
    """What the agents of a source earned at the end of pretraining, of those seeds whose stages are among `done`."""
    stages = [f"agents/{source}/seed-{seed}" for seed in experiment.seeds]
    return [read_curve(out / stage / "curve.csv")[-1].return_mean for stage in stages if stage in done]


def ends(scale: Levels) -> dict[str, float]:
    """A scale as the diagnostics take it."""
    return {"random_return": scale["random"], "reference_return": scale["reference"]}
