"""Steps per second of our grid games, beside MinAtar's games of equal complexity where that is installed.

    python scripts/bench_games.py [--worlds 32 256 1024] [--json docs/results/bench_games.json]

All play random actions, each world goes on with its next episode by itself, and what is seen of all worlds is one array.
``rules`` is the engine alone: what is left is episodes, parameters, imperfections and outcomes. MinAtar (GPL-3) is no
dependency: ``pip install --no-deps MinAtar`` makes it take part, one environment after the other in a plain loop, without
Gymnasium around it. One thread, about three minutes.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from bench_common import Contender, Row, race, rows_of, say, write_json
from bench_tables import show

from simreal_envs.tasks import GAMES, find_task
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

OURS, RULES, MINATAR = "simreal", "simreal, rules", "MinAtar"
ALIKE = {"grid_breaker": "breakout", "grid_dodge": "asterix", "grid_invaders": "space_invaders"}
DRAWN = 64  # actions per world, played again and again


def actions(num_worlds: int, choices: int) -> np.ndarray:
    """Random choices, ``(DRAWN, num_worlds)``."""
    return np.random.default_rng(0).integers(choices, size=(DRAWN, num_worlds))


def ours(game: str, num_worlds: int) -> Contender:
    """Worlds of a game."""
    worlds, chosen = make(Domain(game), num_worlds), actions(num_worlds, find_task(game).schema.choices)
    worlds.reset()
    count = 0

    def advance(units: int) -> None:
        nonlocal count
        for _ in range(units):
            worlds.step(chosen[count % DRAWN])
            count += 1

    return Contender(OURS, advance, num_worlds, worlds.close)


def rules(game: str, num_worlds: int) -> Contender:
    """Its engine alone, whose episodes begin again together, every 100 steps."""
    task = find_task(game)
    engine, chosen = task.make_engine("grid", "matched", num_worlds, 1, 0), actions(num_worlds, 4)[:, :, None] * 1.0
    everyone, start = np.arange(num_worlds), np.random.default_rng(0).random((num_worlds, 1))
    count = 0

    def advance(units: int) -> None:
        nonlocal count
        for _ in range(units):
            if count % 100 == 0:
                engine.reset(everyone, start, engine.qvel)
            engine.step(chosen[count % DRAWN], 1)
            count += 1

    return Contender(RULES, advance, num_worlds, engine.close)


def minatar(game: str, num_worlds: int) -> Contender | None:
    """MinAtar's game of equal complexity; None where there is none or it is not installed."""
    try:
        from minatar import Environment  # type: ignore[import-not-found]
    except ImportError:
        return None
    if game not in ALIKE:
        return None
    envs = [Environment(ALIKE[game], sticky_action_prob=0.0, difficulty_ramping=False) for _ in range(num_worlds)]
    for seed, env in enumerate(envs):
        env.seed(seed)
        env.reset()
    chosen, count = actions(num_worlds, envs[0].num_actions()).tolist(), 0

    def advance(units: int) -> None:
        nonlocal count
        for _ in range(units):
            seen, rewards, over = [], [], []
            for env, action in zip(envs, chosen[count % DRAWN], strict=True):
                reward, done = env.act(action)
                if done:
                    env.reset()
                rewards.append(reward), over.append(done), seen.append(env.state())
            np.array(seen), np.array(rewards), np.array(over)
            count += 1

    return Contender(MINATAR, advance, num_worlds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=list(GAMES), default=list(GAMES))
    parser.add_argument("--worlds", nargs="+", type=int, default=[32, 256, 1024])
    parser.add_argument("--seconds", type=float, default=1.0, help="per contender and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    rows: list[Row] = []
    for game in options.games:
        for num_worlds in options.worlds:
            say(f"{game}, {num_worlds} worlds")
            made = [ours(game, num_worlds), rules(game, num_worlds), minatar(game, num_worlds)]
            speeds = race([one for one in made if one], options.seconds, options.rounds)
            rows += rows_of(f"{game}/{num_worlds} worlds", speeds, {OURS: (MINATAR,)})
    show([asdict(row) for row in rows])
    if options.json:
        write_json(options.json, "python scripts/bench_games.py", rows)


if __name__ == "__main__":
    main()
