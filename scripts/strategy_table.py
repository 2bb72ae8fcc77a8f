"""Measure every strategy on three pairs of source and target, against scratch: the tables of docs/strategies_measured.md.

    python scripts/strategy_table.py [--pair mild hurts hard] [--only NAME ...] [--skip NAME ...] [--seeds 5]
        [--out runs/strategies] [--json docs/results/strategies.json] [--quick]

The strategies are those of configs/strategies/*.yaml, each of which `simreal run` runs as it is. Here they share source
agents, control arms and everything else that they have in common. What is done stays in --out and is not repeated, so the
command can be interrupted and given again, with more seeds, too; the table shows what is done, whoever was measured last.
A NAME is a strategy, the name it has in a config, or a config's. --quick shows in minutes that everything runs.

First come scratch, zero_shot and fine_tune on all pairs, then the families on the cart-pole, then those on the quadruped,
pretraining last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_common import say

from simreal import config_files
from simreal.arms import NO_SOURCE, Arm, arms, chains, check
from simreal.config import CONTROL_ARM, Experiment, domains
from simreal.execution import StageError, run_stages
from simreal.files import write_text
from simreal.finished import (
    Finished,
    Key,
    Levels,
    control_of,
    curves_of,
    ends,
    read_arms,
    scale_of,
    source_scale,
)
from simreal.judgement import judge
from simreal.manifest import manifest
from simreal.plan import finished_stages, plan
from simreal.progress import progress_to
from simreal.results import build_report, recipe
from simreal.stages import CARD, Stage, versions
from simreal.strategies import STRATEGIES, make_strategy
from simreal_envs.errors import UserError, require_known

CONFIGS = Path(__file__).parents[1] / "configs"
FAMILIES = CONFIGS / "strategies"
HARD = CONFIGS / "quadruped_engine_default.yaml"
PLAIN = "randomized"  # the source that all strategies of today's kind begin from, and that is pretrained in other ways
BASICS = (CONTROL_ARM, "zero_shot", "fine_tune")
PAIRS = {"mild": ("cartpole", "heavy_pole"), "hurts": ("cartpole", "reversed_drive"), "hard": ("quadruped", "loaded")}
"""A pair's place (a folder in --out, whose experiments share their sources) and its target."""

QUICK = ("agent.hidden=[8, 8]", "agent.num_worlds=4", "agent.hyperparameters.n_steps=16", "agent.hyperparameters.batch_size=32",
         "agent.hyperparameters.n_epochs=2", "evaluation={points: 2, episodes: 1}")  # fmt: skip


@dataclass(frozen=True)
class Family:
    """The strategies of one config in one place."""

    name: str
    place: str
    experiment: Experiment

    @property
    def pretrains(self) -> bool:
        """Whether it is about ways to pretrain."""
        return any(source.strategy for source in self.experiment.sources.values())


def families(seeds: int, quick: bool = False, folder: Path = FAMILIES) -> list[Family]:
    """Every config of `folder` on the cart-pole, as it is, and on the quadruped; the plainest first."""

    def read(path: Path) -> Experiment:
        names = config_files.load(path)
        short = [f"{kind}.{name}.steps=128" for kind in ("sources", "targets") for name in getattr(names, kind)]
        return config_files.load(path, [f"seeds={seeds}", *([*QUICK, *short] if quick else [])])

    own = {path.stem: read(path) for path in sorted(folder.glob("*.yaml"))}
    own = dict(sorted(own.items(), key=lambda item: (bool(item[1].sequence), len(item[1].sources))))
    hard = read(HARD)
    found = [Family(name, "cartpole", experiment) for name, experiment in own.items()]
    return found + [Family(name, "quadruped", moved(experiment, hard)) for name, experiment in own.items()]


def moved(experiment: Experiment, there: Experiment) -> Experiment:
    """The strategies of one experiment, and what it draws of them, with the agent, the domains and the budgets of another one.

    A source that only the first one has becomes the other one's plain source, pretrained in its way.
    """
    sources = {
        name: there.sources[name] if name in there.sources
        else there.sources[PLAIN].model_copy(update={"strategy": spec.strategy})
        for name, spec in experiment.sources.items()
    }  # fmt: skip
    taken = {name: getattr(experiment, name) for name in ("name", "strategies", "video", "robustness")}
    return there.model_copy(update={**taken, "sources": sources})


def chosen(family: Family, targets: Sequence[str], only: Sequence[str], skip: Sequence[str]) -> Iterator[list[Arm]]:
    """The arms of a family that are wanted, and those of its sequence, as lists of arms that belong together."""
    entries, sources = family.experiment.strategies, family.experiment.sources

    def wanted(arm: Arm, always: bool = False) -> bool:
        pretrained = [sources[name].strategy for name in arm.sources]
        names = {family.name, arm.strategy, arm.source, *entries[arm.strategy].names}
        names |= {name for strategy in pretrained if strategy for name in strategy.names}
        return always or ((not only or bool(names & set(only))) and not names & set(skip))

    for arm in arms(family.experiment):
        if arm.target in targets and wanted(arm, always=is_basic(arm)):
            yield [arm]
    for chain in chains(family.experiment):
        if {arm.target for arm in chain} <= set(targets) and wanted(chain[0]):
            yield chain


def stages_of(place: str, everyone: Iterable[Family], out: Path) -> dict[str, Stage]:
    """All stages of a place by name. Raises a UserError where two configs mean different things by one name."""
    found: dict[str, Stage] = {}
    for family in everyone:
        for stage in plan(family.experiment, check(family.experiment), out, versions()):
            if found.setdefault(stage.name, stage).key != stage.key:
                raise UserError(f"{family.name} on the {place}: {stage.name} is something else in another config")
    return found


def with_needs(stages: Mapping[str, Stage], names: Iterable[str]) -> list[Stage]:
    """These stages and all that they need, in the order of `stages`."""
    waiting, found = list(names), set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += stages[name].needs
    return [stage for name, stage in stages.items() if name in found]


def wave_of(family: Family, way: Sequence[Arm]) -> str:
    """In which part of the run these arms come."""
    if len(way) == 1 and is_basic(way[0]):
        return "first"
    return "pretraining" if family.pretrains and family.place == "quadruped" else "families"


def is_basic(arm: Arm) -> bool:
    """Whether it is one that all others are compared with."""
    return arm.strategy in BASICS and arm.source in (PLAIN, NO_SOURCE)


def run(
    everyone: Sequence[Family], out: Path, pairs: Sequence[str], only: Sequence[str], skip: Sequence[str], workers: int
) -> list[str]:
    """Run what is wanted and not done yet. Returns what failed, a sentence each."""
    targets = [PAIRS[pair][1] for pair in pairs]
    places = list(dict.fromkeys(PAIRS[pair][0] for pair in pairs))
    stages = {place: stages_of(place, [f for f in everyone if f.place == place], out / place) for place in places}
    wanted: dict[tuple[str, str], set[str]] = {}
    for family in everyone:
        for way in chosen(family, targets, only, skip) if family.place in places else ():
            names = wanted.setdefault((wave_of(family, way), family.place), set())
            names |= {str(arm.path) for arm in way} | ({str(way[0].returns)} if len(way) > 1 else set())
    order = [("first", place) for place in places]
    order += [(wave, place) for place in places for wave in ("families", "pretraining")]
    waves = [key for key in order if key in wanted]
    failed = []
    for number, (wave, place) in enumerate(waves, 1):
        todo = with_needs(stages[place], wanted[wave, place])
        say(f"part {number} of {len(waves)}: {wave}, {place}: {len(todo)} stages")
        try:
            run_stages(todo, out=out / place, workers=workers, progress=progress_to())
        except StageError as error:
            say(str(error))
            failed += error.failed.values()
    return failed


# ---- the table -------------------------------------------------------------------------------------------------------


def cpu_of(folder: Path) -> float:
    """Processor time that the stage of a folder took, in seconds."""
    return json.loads((folder / CARD).read_text(encoding="utf-8"))["cpu_s"]


def finished_arms(experiment: Experiment, out: Path, seeds: int) -> Finished:
    """The arms of an experiment all of whose seeds are done."""
    done = finished_stages(experiment, domains(experiment), out)
    return {key: one for key, one in read_arms(arms(experiment), done, out).items() if len(one) == seeds}


def rows_of(place: str, everyone: Sequence[Family], out: Path, seeds: int) -> list[dict[str, Any]]:
    """The rows of a place, in the order of the registry and of the configs; the control arm's has no verdict."""
    measured: Finished = {}
    family_of: dict[Key, Family] = {}
    done: set[str] = set()
    for family in everyone:
        done |= finished_stages(family.experiment, domains(family.experiment), out)
        for key, one in finished_arms(family.experiment, out, seeds).items():
            measured[key] = one
            family_of.setdefault(key, family)
    rows = []
    for pair, (_, target) in (item for item in PAIRS.items() if item[1][0] == place):
        if control_of(target) not in measured:
            continue
        ours = {key: one for key, one in measured.items() if key[2] == target}
        scale = scale_of(target, ours, out)
        cpu = {
            key: statistics.median(cpu_of(out / Arm(*key[:3], seed).path) for seed in one) for key, one in ours.items()
        }
        usual = cpu.get((PLAIN, "fine_tune", target, 0))
        for key, one in ours.items():
            family, curves = family_of[key], curves_of(one)
            row = _described(key, family, pair, out) | {
                "seeds": len(one), "env_steps": int(curves.env_steps[-1]), "minutes": cpu[key] / 60,
                "overhead": cpu[key] / usual if usual else None, **ends(scale),
                "final_return_raw": float(curves.returns[:, -1].mean()),
            }  # fmt: skip
            rows.append(row | ({} if key[1] == CONTROL_ARM else _judged(key, ours, scale, family, out, done)))
    known = list(STRATEGIES)
    return sorted(rows, key=lambda row: (list(PAIRS).index(row["pair"]), known.index(row["subject"][0])))


def _described(key: Key, family: Family, pair: str, out: Path) -> dict[str, Any]:
    """What a row is about: where an agent that was pretrained in some way is moved as usual, the way to pretrain."""
    source, name, target, _ = key
    entry, spec = family.experiment.strategies[name], family.experiment.sources.get(source.split("+")[0])
    pretraining = spec.strategy if spec else None
    subject = pretraining if pretraining and name in BASICS else entry
    before = f"{recipe(pretraining)}, then " if pretraining else ""
    alone = spec and not pretraining and "+" not in source and source != PLAIN
    row = {
        "says": before + recipe(entry) + (f" from {source}" if alone else ""),
        "strategy": name,
        "family": make_strategy(subject.type, subject.settings).family,
        "subject": list(subject.names),
        "pretraining": recipe(pretraining) if pretraining else None,
        "source": source,
        "target": target,
        "pair": pair,
        "config": f"configs/strategies/{family.name}.yaml",
        "source_steps": sum(family.experiment.sources[one].steps for one in source.split("+")) if spec else 0,
    }
    if pretraining:
        plain, ours = (_pretraining_s(name, family, out) for name in (PLAIN, source))
        row |= {"pretraining_minutes": ours / 60, "pretraining_overhead": ours / plain if plain else None}
    return row


def _pretraining_s(source: str, family: Family, out: Path) -> float:
    folders = [out / "agents" / source / f"seed-{seed}" for seed in family.experiment.seeds]
    return statistics.median(cpu_of(folder) if (folder / CARD).is_file() else 0.0 for folder in folders)


def _judged(key: Key, ours: Finished, scale: Levels, family: Family, out: Path, done: set[str]) -> dict[str, Any]:
    """The verdict of a row, which stands for itself, and its numbers."""
    first, experiment = key[0].split("+")[0], family.experiment
    home = source_scale(first, experiment, out, done) if first != NO_SOURCE else None
    found = judge(key, ours[key], ours[control_of(key[2])], experiment, scale, home)[1].to_dict()
    wanted = ("verdict", "jumpstart", "area", "asymptotic", "final_return", "forgetting", "probability_of_improvement")
    return {name: found.get(name) for name in wanted}


def sequences(everyone: Sequence[Family], out: Path) -> list[dict[str, Any]]:
    """What is gained and forgotten along the sequences of a place."""
    found = []
    for family in everyone:
        if any((out / way[0].returns / CARD).is_file() for way in chains(family.experiment)):
            report = build_report(out, family.experiment).get("sequence")  # none while a control arm is missing
            for way in report["ways"] if report else ():
                rest = {name: value for name, value in way.items() if name != "steps"}
                found.append({"config": family.name, "targets": report["targets"], **rest})
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text: one line per way to pretrain and to move, one column per pair."""
    lines = []
    for row in rows:
        if "verdict" in row:
            area = row["area"]
            bounds = f"[{area['low']:+.2f}, {area['high']:+.2f}]" if area["low"] is not None else ""
            lines.append(
                f"{row['pair']:6}{row['says'][:52]:54}{row['verdict']:13} area {area['value']:+.2f} {bounds:16} "
                f"jumpstart {row['jumpstart']['value']:+.2f}  {row['minutes'] * 60:6.1f} CPU s"
                + (f"  x{row['overhead']:.2f}" if row["overhead"] else "")
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the table, write the JSON file. Exit code 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="only these; scratch and fine_tune come along"
    )
    parser.add_argument("--skip", nargs="+", default=[], metavar="NAME", help="not these")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="stages at a time")
    parser.add_argument("--out", type=Path, default=None, help="what is done (default: runs/strategies)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument(
        "--quick", action="store_true", help="tiny budgets: shows that everything runs, measures nothing"
    )
    parser.add_argument("--report", action="store_true", help="run nothing, only show what is done")
    options = parser.parse_args(arguments)
    out = options.out or Path("runs/strategies-quick" if options.quick else "runs/strategies")
    try:
        everyone = families(options.seeds, options.quick)
        names = _names(everyone)
        for name in (*options.only, *options.skip):
            require_known(name, names, "strategy", "--only")
        failed = [] if options.report else run(everyone, out, options.pair, options.only, options.skip, options.workers)
    except UserError as error:
        parser.error(str(error))
    rows: list[dict[str, Any]] = []
    ways: list[dict[str, Any]] = []
    for place in dict.fromkeys(place for place, _ in PAIRS.values()):
        here = [family for family in everyone if family.place == place]
        rows += rows_of(place, here, out / place, options.seeds)
        ways += sequences(here, out / place)
    print(table(rows))
    if options.json:
        write(options.json, rows, ways, options.seeds, everyone)
    for sentence in failed:
        say(f"failed: {sentence}")
    return 1 if failed else 0


def _names(everyone: Sequence[Family]) -> list[str]:
    """Whatever --only and --skip may say."""
    found: dict[str, None] = {}
    for family in everyone:
        found |= dict.fromkeys([family.name, *family.experiment.strategies, *family.experiment.sources])
        for entry in family.experiment.strategies.values():
            found |= dict.fromkeys(entry.names)
        for source in family.experiment.sources.values():
            found |= dict.fromkeys(source.strategy.names if source.strategy else ())
    return list(found)


def write(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    ways: Sequence[Mapping[str, Any]],
    seeds: int,
    everyone: Sequence[Family],
) -> None:
    """Write the JSON file; it appears complete or not at all."""
    made = manifest("python scripts/strategy_table.py")
    machine = {**made["machine"], **{key: made[key] for key in ("command", "started", "versions", "git")}}
    budgets = {}
    for pair, (place, target) in PAIRS.items():
        experiment = next(f.experiment for f in everyone if f.place == place and PLAIN in f.experiment.sources)
        spec = experiment.targets[target]
        budgets[pair] = {
            "task": spec.task, "source": experiment.sources[PLAIN].model_dump(mode="json"), "target": spec.model_dump(mode="json"),
            "evaluation": experiment.evaluation.model_dump(),
        }  # fmt: skip
    data = {"machine": machine, "seeds": seeds, "pairs": budgets, "rows": list(rows), "sequences": list(ways)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
