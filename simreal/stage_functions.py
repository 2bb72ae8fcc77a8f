"""The functions that stages run, each in a worker process: they read what is done before and fill one folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simreal.arms import NO_SOURCE, Arm
from simreal.config import CONTROL_ARM
from simreal.files import write_text
from simreal_envs.variation import Domain

Report = Callable[[float, str], None]

RETURNS, VIDEO, GRID = "returns.json", "video.mp4", "grid.json"


def stage_reference(*, folder: Path, report: Report, domain: dict[str, Any], episodes: int) -> str:
    """Measure what uniformly random actions earn in a domain."""
    from simreal.evaluation import Evaluator

    with contextlib.closing(Evaluator(Domain.from_dict(domain), episodes)) as evaluator:
        evaluation = evaluator.random().to_dict()
    write_text(folder / "random.json", json.dumps(evaluation, indent=1) + "\n")
    return f"return {evaluation['return_mean']:.1f}"


def stage_pretrain(
    *, folder: Path, strategy: str | list[Any] = CONTROL_ARM, settings: dict[str, Any] | None = None, **given: Any
) -> str:
    """Pretrain one source agent: an arm without sources. The folder becomes its bundle, with its curve and ledger beside."""
    said = stage_arm(folder=folder, strategy=strategy, settings=settings or {}, **given)
    for file in (folder / "agent").iterdir():
        os.replace(file, folder / file.name)
    (folder / "agent").rmdir()
    return said


def stage_arm(
    *, folder: Path, state: Path, report: Report, domain: dict[str, Any], learning: dict[str, Any], steps: int,
    evaluation: dict[str, int], seed: int, strategy: str | list[Any], settings: dict[str, Any],
    sources: Sequence[dict[str, Any]] = (), teacher: str | None = None, domains: Sequence[dict[str, Any]] = (),
    early_warning: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    """Run one arm; the folder gets curve, ledger, evidence and the agent.

    Args:
        sources: name, bundle and domain of every source agent; without a domain, that of the agent's card.
        teacher: a bundle.
        early_warning: what to do when it will probably turn out negative; its marks are among those of `evaluation`.
    """
    from simreal.curve import write_curve
    from simreal.early import EarlyWarning
    from simreal.learner import Learning, Source, Target
    from simreal.schedule import Schedule
    from simreal.strategies import make_strategy
    from simreal.tracking.ledger import Ledger
    from simreal.training import known_sources, train
    from simreal_agents.bundle import load, save

    agents = [load(one["agent"]) for one in sources]
    given = [one["domain"] for one in sources if "domain" in one]
    known = tuple(
        Source(one["name"], agent, Domain.from_dict(domain))
        for one, agent, domain in zip(sources, agents, given, strict=False)
    )
    target = Target(
        Domain.from_dict(domain), Learning.of(learning), seed, known or known_sources(agents), load(teacher) if teacher else None,
        read_domains(domains),
    )  # fmt: skip
    ledger = Ledger(folder / "metrics.jsonl")
    result = train(
        agents[0] if agents else None, target, make_strategy(strategy, settings), Schedule(steps, **evaluation),
        source=known[0].domain if known else None, tracker=ledger, report=report, checkpoints=state,
        early=EarlyWarning(**early_warning) if early_warning else None,
    )  # fmt: skip
    ledger.close()
    write_curve(result.curve, folder / "curve.csv")
    write_text(folder / "evidence.json", json.dumps(result.evidence, indent=1) + "\n")
    save(result.agent, folder / "agent")
    trouble = [f"{result.diverged} episodes diverged"] if result.diverged else []
    return ", ".join([f"return {result.curve[-1].return_mean:.1f}", *trouble, *([result.note] if result.note else [])])


def stage_returns(
    *, folder: Path, report: Report, domains: list[dict[str, Any]], episodes: int, agents: list[str]
) -> str:
    """Evaluate the agents of all steps of a sequence in all its targets: R of the continual metrics, in raw returns."""
    from simreal.evaluation import evaluate
    from simreal_agents.bundle import load

    rows = []
    for place, bundle in enumerate(agents):
        agent = load(bundle)
        found = [evaluate(agent, Domain.from_dict(domain), episodes=episodes).to_dict() for domain in domains]
        rows.append([one["return_mean"] for one in found])
        report((place + 1) / len(agents), f"{place + 1} of {len(agents)} agents")
    write_text(folder / RETURNS, json.dumps({"returns": rows}, indent=1) + "\n")
    return f"return {sum(rows[-1]) / len(rows):.1f} at the end"


def read_domains(domains: Sequence[Mapping[str, Any]]) -> dict[str, Domain]:
    """The domains that a strategy learns in, by name and in their order."""
    return {one["name"]: Domain.from_dict(one["domain"]) for one in domains}


def stage_video(
    *, folder: Path, report: Report, domain: dict[str, Any], seconds: float, seeds: list[int], sources: dict[str, Any],
    zero_shot: list[str], out: str, arms: list[list[str]],
) -> str:  # fmt: skip
    """Film one target: the source agent at home and moved, and what the best arm and the control arm have learned."""
    from simreal.video import film
    from simreal_envs.errors import Unsupported

    panels = _panels(Path(out), domain, seeds, sources, zero_shot, [(s, strategy, t) for s, strategy, t in arms])
    try:
        film(panels, folder / VIDEO, seconds=seconds, size=(360, 270), report=report)
    except Unsupported as reason:  # a machine without OpenGL still gets its report
        write_text(folder / "skipped.txt", f"{reason}\n")
        return f"no video: {reason}"
    return f"{len(panels)} views"


def stage_robustness(
    *, folder: Path, report: Report, domain: dict[str, Any], axes: list[dict[str, Any]], episodes: int, seeds: list[int],
    out: str, arms: list[list[str]],
) -> str:  # fmt: skip
    """Evaluate what every kind of arm has learned on a grid of parameter values around a target."""
    from simreal.robustness import Axis, Grid
    from simreal_agents.bundle import load

    given, found = [Axis.from_dict(axis) for axis in axes], []
    made: dict[Domain, Grid] = {}
    with contextlib.ExitStack() as opened:
        for place, (source, strategy, target) in enumerate(arms, start=1):
            seed = median_seed(Path(out), (source, strategy, target), seeds)
            agent = load(Path(out) / Arm(source, strategy, target, seed).path / "agent")
            seen = Domain.from_dict(domain).seen_by(agent.card.get("domain"))
            if seen not in made:
                made[seen] = opened.enter_context(contextlib.closing(Grid(seen, given, episodes)))
            found.append({"source": source, "strategy": strategy, "seed": seed, **made[seen].sweep(agent).means()})
            report(place / len(arms), f"{place} of {len(arms)} agents")
    x, y = (*axes, None)[:2]
    write_text(folder / GRID, json.dumps({"x": x, "y": y, "episodes": episodes, "arms": found}, indent=1) + "\n")
    return f"{len(found)} agent{'s' if len(found) > 1 else ''} over {' and '.join(axis['parameter'] for axis in axes)}"


def _finals(out: Path, arm: tuple[str, str, str], seeds: Sequence[int]) -> list[float]:
    """The final returns of an arm (source, strategy, target), by seed."""
    from simreal.curve import read_curve

    return [read_curve(out / Arm(*arm, seed).path / "curve.csv")[-1].return_mean for seed in seeds]


def median_seed(out: Path, arm: tuple[str, str, str], seeds: Sequence[int]) -> int:
    """The seed of an arm (source, strategy, target) whose final return is the median one; the lower of two in the middle."""
    ranked = sorted(zip(_finals(out, arm, seeds), seeds, strict=True))
    return ranked[(len(ranked) - 1) // 2][1]


def _panels(out: Path, domain, seeds, sources, zero_shot, arms) -> list[Any]:
    """Who is filmed: of every kind of arm the seed whose final return is the median one."""
    from simreal.video import Panel
    from simreal_agents.bundle import load
    from simreal_envs.view import alike

    target = Domain.from_dict(domain)

    def agent(arm: tuple[str, str, str]) -> Any:
        return load(out / Arm(*arm, median_seed(out, arm, seeds)).path / "agent")

    def seen(who: Any, domain: Domain) -> Domain:
        return domain.seen_by(who.card.get("domain"))

    control = [arm for arm in arms if arm[1] == CONTROL_ARM]
    moved = [arm for arm in arms if arm[1] != CONTROL_ARM]
    learned = [arm for arm in moved if arm[1] not in zero_shot]
    best = max(learned or moved, key=lambda arm: sum(_finals(out, arm, seeds)), default=None)
    panels = []
    if best and best[0] != NO_SOURCE:
        source, seed = best[0].split("+")[0], median_seed(out, best, seeds)
        pretrained, home = load(out / "agents" / source / f"seed-{seed}"), Domain.from_dict(sources[source])
        panels += [Panel(f"source {source}: where it learned", pretrained, seen(pretrained, home))]
        there = seen(pretrained, target)
        if alike(there, home):
            panels += [Panel(f"target {best[2]}: the same agent", pretrained, there)]
    if best and learned:
        from_ = "" if best[0] == NO_SOURCE else f" from {best[0].replace('+', ' and ')}"
        panels += [Panel(f"{best[1]}{from_}, at the end", agent(best), seen(agent(best), target))]
    return panels + [Panel("scratch, at the end", agent(arm), target) for arm in control]
