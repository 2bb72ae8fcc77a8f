"""A saved agent acts: `evaluate` it in numbers, `video` and `view` show it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from simreal.cli.arguments import Bundle, Config, Json, Overrides, domain_of, opened
from simreal.cli.output import print_json, shown, tell
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    from simreal.evaluation import Evaluation


def evaluate(
    bundle: Bundle, config: Config, overrides: Overrides = (), /, *, episodes: int = 50, target: str = "", stochastic: bool = False,
    sweep: tuple[str, ...] = (), json: Json = False,
) -> None:  # fmt: skip
    """Evaluate a saved agent: return and success with 95 % intervals, or where it breaks.

    Args:
        episodes: how many whole episodes.
        target: a target or source of the config (default: the first target).
        stochastic: draw actions from the policy instead of taking its mean.
        sweep: one or two parameters as NAME=low:high:values, to evaluate at all their values, with `episodes` at each.
    """
    from simreal.arms import require_bridge
    from simreal.evaluation import evaluate as run_episodes
    from simreal_agents.bundle import load

    if episodes < 1:
        raise UserError(f"--episodes must be at least 1, not {episodes}")
    _, _, domains = opened(config, overrides)
    name, domain = domain_of(domains, target, "targets", "sources")
    agent = load(bundle)
    require_bridge(agent, domain, str(bundle))
    if sweep:
        from simreal.report.terminal import print_grid
        from simreal.robustness import sweep as run_grid

        found = run_grid(agent, domain, _swept(sweep), episodes=episodes, deterministic=not stochastic).to_dict()
        return print_json({"domain": name, **found}) if json else print_grid(found)
    result = run_episodes(agent, domain, episodes=episodes, deterministic=not stochastic)
    policy = "stochastic" if stochastic else "deterministic"
    tell({"domain": name, "episodes": episodes, "policy": policy, **_intervals(result)}, json)


def _intervals(result: Evaluation) -> dict[str, dict[str, float | None]]:
    """Means over episodes with their 95 % intervals; of the share of successes Wilson's (1927).

    Episodes that all fail say of a share what no resampling of them says: that it may be above 0.
    """
    import numpy as np
    from scipy import stats

    from simreal.diagnostics.statistics import bootstrap_interval, mean

    rng = np.random.default_rng(0)
    succeeded, episodes = int(result.success.sum()), len(result.success)
    low, high = stats.binomtest(succeeded, episodes).proportion_ci(method="wilson")
    return {
        "return": bootstrap_interval(mean, (result.returns,), rng).to_dict(),
        "success_rate": {"value": succeeded / episodes, "low": float(low), "high": float(high)},
        "length": bootstrap_interval(mean, (result.lengths.astype(float),), rng).to_dict(),
    }


def _swept(texts: Sequence[str]) -> dict[str, list[float]]:
    """Parameters and their values, each from NAME=low:high:values."""
    import numpy as np

    from simreal.robustness import MOST_VALUES
    from simreal_envs.arguments import whole

    found: dict[str, list[float]] = {}
    for text in texts:
        name, _, span = text.partition("=")
        try:
            low, high, count = span.split(":")
            values = np.linspace(float(low), float(high), whole("the values of a sweep", int(count), 1, MOST_VALUES))
            if not np.isfinite(values).all():
                raise ValueError
        except ValueError as error:
            why = f"{error}; " if isinstance(error, UserError) else ""
            raise UserError(f"--sweep {text}: {why}expected NAME=low:high:values, as in pole/mass=0.5:2.5:5") from None
        found[name] = [float(f"{value:.6g}") for value in values]
    if len(found) < len(texts):
        raise UserError("--sweep names a parameter twice")
    return found


def video(
    bundle: Bundle, config: Config, overrides: Overrides = (), /, *, out: Path, source: str = "", target: str = "", seconds: float = 8.0,
    seed: int = 0, renderer: Literal["mujoco", "engine"] = "mujoco", json: Json = False,
) -> None:  # fmt: skip
    """Film a saved agent in a source and in a target of a config, side by side, without a display.

    Args:
        out: the mp4 file.
        source: name of the source in the config (default: the first).
        target: name of the target in the config (default: the first).
        seconds: simulated time that is shown.
        seed: of initial states and drawn parameters.
        renderer: who draws: MuJoCo all states alike, or each engine its own world.
    """
    from simreal.video import Panel, film
    from simreal_agents.bundle import load

    _, _, domains = opened(config, overrides)
    home, here = domain_of(domains, source, "sources")
    away, there = domain_of(domains, target, "targets")
    if out.suffix != ".mp4":
        raise UserError(f"--out must name an .mp4 file, not {str(out)!r}")
    agent = load(bundle)
    scenes = {f"source {home}": here, f"target {away}": there}
    panels = [Panel(title, agent, domain.seen_by(agent.card.get("domain"))) for title, domain in scenes.items()]
    with shown(f"video of {home} and {away}") as report:
        film(panels, out, seconds=seconds, seed=seed, renderer=renderer, report=report)
    tell({"video": str(out), "sources": home, "targets": away, "seconds": seconds, "seed": seed}, json)


def view(bundle: Bundle, config: Config, overrides: Overrides = (), /, *, domain: str = "", seed: int = 0) -> None:
    """Watch a saved agent in MuJoCo's interactive viewer, in real time; needs a display.

    Args:
        domain: a target or source of the config (default: the first target).
        seed: of initial states and drawn parameters.
    """
    from simreal_agents.bundle import load
    from simreal_envs.viewer import watch
    from simreal_envs.worlds import make

    _, _, domains = opened(config, overrides)
    name, there = domain_of(domains, domain, "targets", "sources")
    agent = load(bundle)
    worlds = make(there.seen_by(agent.card.get("domain")), 1, seed)
    agent.schema.require_same(worlds.schema, "the agent", f"the domain {name!r}")
    worlds.progress = 1.0
    watch(worlds, lambda observations: agent.act(observations, deterministic=True))
