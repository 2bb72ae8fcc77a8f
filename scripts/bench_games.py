"""Steps per second of games, beside other people's environments of the same games or of equal complexity.

    python scripts/bench_games.py [--suites grid minatar atari] [--games ale:pong] [--worlds 8 32] [--json FILE]

All play random actions, each world goes on with its next episode by itself, and what is seen of all worlds is one array.
``CONTENDERS`` says who takes part in which suite; whoever is not installed is left out, with a line that says why.

grid     our own games; ``rules`` is the engine alone: what is left is episodes, parameters, imperfections and outcomes.
         MinAtar's games of equal complexity, without sticky actions and ramping: one after the other in a plain loop, and in
         Gymnasium's vector environment.
minatar  ``minatar:GAME`` beside MinAtar in the same two ways, all as MinAtar is by default.
atari    ``ale:GAME`` beside others that do what Nature's DQN did (preset nature15): frames of 84 x 84 grey pixels, four of
         them stacked, actions for four frames, none of them sticky, episodes of a life, rewards of -1, 0 and 1, up to 30
         frames of nothing first. One thread each, except SubprocVecEnv, which has a process per environment; a step is an
         agent's, four frames. What differs: SB3 presses FIRE where an episode begins, and SB3 and ale-py stack the first frame
         on black ones.

About eight minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from bench_common import Contender, Row, race, rows_of, say, write_json
from bench_tables import show

from simreal_envs.tasks import GAMES, find_task
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

OURS = "simreal"
ALIKE = {"grid_breaker": "breakout", "grid_dodge": "asterix", "grid_invaders": "space_invaders"}
DRAWN = 64  # actions per world, played again and again


def actions(num_worlds: int, choices: int) -> np.ndarray:
    """Random choices, ``(DRAWN, num_worlds)``."""
    return np.random.default_rng(0).integers(choices, size=(DRAWN, num_worlds))


def again(step: Callable[[Any], Any], chosen: Any) -> Callable[[int], None]:
    """So many steps at a time with the chosen actions, again and again."""
    count = 0

    def advance(units: int) -> None:
        nonlocal count
        for _ in range(units):
            step(chosen[count % DRAWN])
            count += 1

    return advance


def ours(name: str, game: str, num_worlds: int) -> Contender:
    """Worlds of a game."""
    preset = "nature15" if game.startswith("ale:") else ""
    worlds = make(Domain(game, preset=preset), num_worlds)
    worlds.reset()
    return Contender(name, again(worlds.step, actions(num_worlds, worlds.schema.choices)), num_worlds, worlds.close)


def rules(name: str, game: str, num_worlds: int) -> Contender:
    """Its engine alone, whose episodes begin again together, every 100 steps."""
    engine = find_task(game).make_engine("grid", "matched", num_worlds, 1, 0)
    everyone, start = np.arange(num_worlds), np.random.default_rng(0).random((num_worlds, 1))
    count = 0

    def step(control: np.ndarray) -> None:
        nonlocal count
        if count % 100 == 0:
            engine.reset(everyone, start, engine.qvel)
        engine.step(control, 1)
        count += 1

    return Contender(name, again(step, actions(num_worlds, 4)[:, :, None] * 1.0), num_worlds, engine.close)


def minatar(name: str, game: str, num_worlds: int) -> Contender:
    """MinAtar's game, or the one that is like ours, in a plain loop."""
    from minatar import Environment

    native, options = alike(game)
    envs = [Environment(native, **options) for _ in range(num_worlds)]
    for seed, env in enumerate(envs):
        env.seed(seed)
        env.reset()

    def step(chosen: list[int]) -> None:
        seen, rewards, over = [], [], []
        for env, action in zip(envs, chosen, strict=True):
            reward, done = env.act(action)
            if done:
                env.reset()
            rewards.append(reward), over.append(done), seen.append(env.state())
        np.array(seen), np.array(rewards), np.array(over)

    return Contender(name, again(step, actions(num_worlds, envs[0].num_actions()).tolist()), num_worlds)


def minatar_gymnasium(name: str, game: str, num_worlds: int) -> Contender:
    """MinAtar's own Gymnasium environment, vectorized by Gymnasium in this process."""
    from minatar.gym import register_envs

    native, options = alike(game)
    name_there = f"MinAtar/{native.title().replace('_', '')}-v1"
    if name_there not in gymnasium.registry:
        register_envs()
    return vector(name, gymnasium.make_vec(name_there, num_worlds, vectorization_mode="sync", **options), num_worlds)


def alike(game: str) -> tuple[str, dict[str, Any]]:
    """MinAtar's name of a game, or of the one that is like ours, and what makes it like ours."""
    if game.startswith("minatar:"):
        return game.removeprefix("minatar:"), {}
    return ALIKE[game], {"sticky_action_prob": 0.0, "difficulty_ramping": False}


def ale(name: str, game: str, num_worlds: int) -> Contender:
    """The vector environment of ale-py."""
    from ale_py.vector_env import AtariVectorEnv

    options = {"num_threads": 1, "episodic_life": True, "use_fire_reset": False}
    return vector(name, AtariVectorEnv(game.removeprefix("ale:"), num_worlds, **options), num_worlds)


def envpool(name: str, game: str, num_worlds: int) -> Contender:
    """EnvPool's copy of the emulator."""
    import envpool

    options = {"num_threads": 1, "episodic_life": True, "reward_clip": True, "use_fire_reset": False}
    return vector(name, envpool.make_gymnasium(f"{camel(game)}-v5", num_envs=num_worlds, **options), num_worlds)


def dummy(name: str, game: str, num_worlds: int) -> Contender:
    from stable_baselines3.common.vec_env import DummyVecEnv

    return stable_baselines(name, game, num_worlds, DummyVecEnv)


def subproc(name: str, game: str, num_worlds: int) -> Contender:
    from stable_baselines3.common.vec_env import SubprocVecEnv

    return stable_baselines(name, game, num_worlds, SubprocVecEnv)


def stable_baselines(name: str, game: str, num_worlds: int, kind: type) -> Contender:
    """SB3's `make_atari_env` of a kind of vector environment, with frames stacked by its VecFrameStack."""
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    envs = VecFrameStack(make_atari_env(f"ale_py:{camel(game)}NoFrameskip-v4", num_worlds, 0, vec_env_cls=kind), 4)
    envs.reset()
    return Contender(name, again(envs.step, actions(num_worlds, envs.action_space.n)), num_worlds, envs.close)


def vector(name: str, envs: Any, num_worlds: int) -> Contender:
    """A Gymnasium vector environment; EnvPool's gives the space of one world as that of all."""
    envs.reset()
    space = getattr(envs, "single_action_space", envs.action_space)
    return Contender(name, again(envs.step, actions(num_worlds, int(space.n))), num_worlds, envs.close)


def camel(game: str) -> str:
    """``SpaceInvaders`` of ``ale:space_invaders``."""
    return game.partition(":")[2].title().replace("_", "")


@dataclass(frozen=True)
class Entry:
    """Who takes part in a suite.

    Attributes:
        make: from the name, a game and a number of worlds.
        needs: modules, and how to get them.
        games: in which it takes part; empty: in all of the suite.
        most: worlds at which it does; 0: any number.
    """

    suite: str
    name: str
    make: Callable[[str, str, int], Contender]
    needs: Mapping[str, str] = field(default_factory=dict)
    games: tuple[str, ...] = ()
    most: int = 0


MINATAR = {"minatar": "pip install --no-deps MinAtar"}
ALE = {"ale_py": "pip install 'simreal[atari]'"}
ENVPOOL = {"envpool": "pip install 'simreal[bench]'"}
SB3 = {**ALE, "cv2": "pip install 'simreal[bench]'"}
CONTENDERS = (
    Entry("grid", OURS, ours),
    Entry("grid", "simreal, rules", rules),
    Entry("grid", "MinAtar", minatar, MINATAR, games=tuple(ALIKE)),
    Entry("grid", "MinAtar, Gymnasium", minatar_gymnasium, MINATAR, games=tuple(ALIKE), most=256),
    Entry("minatar", OURS, ours, MINATAR),
    Entry("minatar", "MinAtar", minatar, MINATAR),
    Entry("minatar", "MinAtar, Gymnasium", minatar_gymnasium, MINATAR),
    Entry("atari", OURS, ours, ALE),
    Entry("atari", "AtariVectorEnv", ale, ALE),
    Entry("atari", "EnvPool", envpool, ENVPOOL),
    Entry("atari", "SB3, DummyVecEnv", dummy, SB3, most=8),
    Entry("atari", "SB3, SubprocVecEnv", subproc, SB3, most=8),
)
# Games and numbers of worlds.
SUITES: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "grid": (tuple(GAMES), (1, 32, 256, 1024)),
    "minatar": (("minatar:breakout", "minatar:space_invaders"), (32,)),
    "atari": (("ale:pong", "ale:space_invaders"), (8, 32)),
}


def present(suite: str) -> list[Entry]:
    """Who takes part in a suite; says why the others do not."""
    entries = [entry for entry in CONTENDERS if entry.suite == suite]
    for entry in entries:
        for module, command in entry.needs.items():
            if find_spec(module) is None:
                say(f"{suite}: without {entry.name}, which needs {module}: {command}")
    return [entry for entry in entries if all(map(find_spec, entry.needs))]


def measured(game: str, num_worlds: int, entries: Sequence[Entry], seconds: float, rounds: int) -> list[Row]:
    """The rows of a race in a game."""
    here = [one for one in entries if game in (one.games or (game,)) and num_worlds <= (one.most or num_worlds)]
    say(f"{game}, {num_worlds} worlds: {', '.join(one.name for one in here)}")
    speeds = race([one.make(one.name, game, num_worlds) for one in here], seconds, rounds)
    peers = tuple(one.name for one in here if one.make not in (ours, rules))
    return rows_of(f"{game}/{num_worlds} worlds", speeds, {OURS: peers})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", choices=list(SUITES), default=list(SUITES))
    parser.add_argument("--games", nargs="+", help="only these of the suites")
    parser.add_argument("--worlds", nargs="+", type=int, help="instead of each suite's own numbers")
    parser.add_argument("--seconds", type=float, default=1.0, help="per contender and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    rows: list[Row] = []
    for suite in options.suites:
        games, worlds = SUITES[suite]
        games = [game for game in games if game in (options.games or games)]
        entries = present(suite) if games else []
        if OURS not in [entry.name for entry in entries]:
            continue
        for game in games:
            for num_worlds in options.worlds or worlds:
                rows += measured(game, num_worlds, entries, options.seconds, options.rounds)
    show([asdict(row) for row in rows])
    if options.json:
        write_json(options.json, "python scripts/bench_games.py", rows)


if __name__ == "__main__":
    main()
