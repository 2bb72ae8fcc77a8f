"""What every strategy gains and loses on its way along the sequence of targets."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from simreal.arms import Arm, chains
from simreal.diagnostics import Curves
from simreal.diagnostics.continual import Continual, continual
from simreal.diagnostics.curves import area, normalize, start
from simreal.finished import Folder, Seeds, curves_of, ends, key_of, read_result
from simreal.judgement import Judged, judge_in
from simreal.stage_functions import RETURNS

CONTINUAL = ("accuracy", "backward_transfer", "zero_shot_transfer", "forward_transfer", "forgetting")

# What a strategy did with the agents of a source: the arms of every seed that has gone all the way, one per target.
Way = list[list[Arm]]


def sequence(folder: Folder) -> tuple[dict[str, Any], list[Judged]]:
    """report.json's `sequence`, and all its steps as they are judged alone, in its order."""
    ways = _ways(folder)
    found = {"targets": list(folder.experiment.sequence), "ways": [_entry(folder, way) for way in ways]}
    return found, [judged for way in ways for judged in _verdicts(folder, way)]


def _ways(folder: Folder) -> list[Way]:
    found: dict[tuple[str, str], Way] = {}
    for chain in chains(folder.experiment):
        if {str(chain[0].returns), *(str(arm.path) for arm in chain)} <= folder.done:
            found.setdefault((chain[0].source, chain[0].strategy), []).append(chain)
    return list(found.values())


def _steps(folder: Folder, way: Way) -> list[Seeds]:
    """Curves and evidence of every step, of the seeds that have gone all the way."""
    finished = folder.arms | folder.further
    return [{chain[0].seed: finished[key_of(arm)][chain[0].seed] for chain in way} for arm in way[0]]


def _entry(folder: Folder, way: Way) -> dict[str, Any]:
    """A way's numbers over all targets, and of every step what it gained and has lost at the end."""
    numbers = _numbers(folder, way)
    steps = [
        {"step": place, "forward_transfer": forward.to_dict(), "lost_at_the_end": lost.to_dict()}
        for place, (forward, lost) in enumerate(zip(numbers.forward_transfer_of, numbers.forgetting_of, strict=True), 1)
    ]
    return {
        "source": way[0][0].source,
        "strategy": way[0][0].strategy,
        "seeds": [chain[0].seed for chain in way],
        **{name: getattr(numbers, name).to_dict() for name in CONTINUAL},
        "returns": numbers.matrix.tolist(),
        "steps": steps,
    }


def _numbers(folder: Folder, way: Way) -> Continual:
    """From what the agent of every step earns on all targets, and from its curves beside the control arms'."""
    targets = folder.experiment.sequence
    scales = [ends(folder.scales[name]) for name in targets]

    def normalized(arms: Iterable[Seeds]) -> list[Curves]:
        return [curves_of(seeds).normalized(**scale) for seeds, scale in zip(arms, scales, strict=True)]

    curves, controls = normalized(_steps(folder, way)), normalized(map(folder.control, targets))
    paths = [folder.out / chain[0].returns / RETURNS for chain in way]
    raw = np.array([read_result(path, list, "returns") for path in paths])  # (seeds, steps, targets)
    return continual(
        np.stack([normalize(raw[..., place], **scale) for place, scale in enumerate(scales)], axis=-1),
        np.stack([area(one) for one in curves], axis=1),
        _by_seed(start, controls),
        _by_seed(area, controls),
        np.random.default_rng(zlib.crc32(f"{way[0][0].source}/{way[0][0].strategy}".encode())),
        confidence=folder.experiment.verdict.confidence,
    )


def _verdicts(folder: Folder, way: Way) -> list[Judged]:
    """Of every step, which begins with the agent of the one before."""
    befores = ("", *folder.experiment.sequence[:-1])
    return [
        judge_in(folder, key_of(arm), seeds, before)
        for arm, seeds, before in zip(way[0], _steps(folder, way), befores, strict=True)
    ]


def _by_seed(statistic: Callable[[Curves], np.ndarray], controls: Sequence[Curves]) -> np.ndarray:
    """A number of the control arm of every target ``(seeds, T)``, of the seeds that all of them have."""
    common = [seed for seed in controls[0].seeds if all(seed in one.seeds for one in controls)]
    return np.stack([statistic(one)[[one.seeds.index(seed) for seed in common]] for one in controls], axis=1)
