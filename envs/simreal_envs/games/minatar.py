"""MinAtar's games (Young & Tian 2019, arXiv 1903.03176) as worlds: ``Domain("minatar:space_invaders")``.

The rules are MinAtar's own, of the package MinAtar (GPL-3, the extra ``games``), of which nothing is copied here. It plays
one game at a time; what surrounds the games is numpy over all worlds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from simreal_envs.engines.base import Player
from simreal_envs.errors import Unsupported, at, require_known
from simreal_envs.games.common import Game, GameEngine, keys, parameter, seen, shared_parameters, signed, swapped
from simreal_envs.games.drawing import picture
from simreal_envs.games.minatar_rules import COLOURS, FACTS, LABELS, ROUND, SIDE, Length, Rate, class_of, module_of
from simreal_envs.parameters import Parameter
from simreal_envs.schema import Field, Schema

PERIOD = 0.1  # s
EPISODE_STEPS = 2501  # Freeway's own limit, taken for all: MinAtar's other games have none
STICKY, RAMPING = "sticky", "difficulty_ramping"
ACTIONS = {"n": "stay", "l": "left", "u": "up", "r": "right", "d": "down", "f": "fire"}


def minatar_task(name: str, where: str = "") -> MinatarTask:
    """The task behind the name of a game such as ``breakout``.

    Args:
        where: file and key the name came from, to begin an error sentence with.

    Raises:
        UserError: there is no such game.
        Unsupported: MinAtar is not installed.
    """
    require_known(name, LABELS, "game of MinAtar", where)
    if find_spec("minatar") is None:
        raise Unsupported(
            f"{at(where)}minatar:{name} needs MinAtar, which is not installed: pip install 'simreal[games]'"
        )
    return _task(name)


@cache
def _task(name: str) -> MinatarTask:
    return MinatarTask(name)


class MinatarTask(Game):
    """One of MinAtar's games with its own channels and the actions that make a difference in it.

    Attributes:
        game: MinAtar's name.
        facts: what we say about it.
        nominal: MinAtar's constants that may vary.
    """

    engines, packages = ("minatar",), ("MinAtar",)
    episode_steps = EPISODE_STEPS

    def __init__(self, game: str) -> None:
        self.game, self.facts, self.name = game, FACTS[game], f"minatar:{game}"
        self.says = f"MinAtar's {game.replace('_', ' ').title()}: {self.facts.says}"
        self.solved = self.facts.solved
        self.goal = f"a return of at least {self.solved:g}"
        self.random_return, self.reference_return = self.facts.random_return, self.facts.reference_return
        self.robot = Player(self.name, ("action",), PERIOD)
        module = module_of(game)
        played: Any = module["Env"]()
        self.nominal = {found.constant: int(module[found.constant]) for found in self.facts.constants}
        self.labels = tuple(LABELS[game][channel] for channel in played.channels)
        self.actions = np.array(played.minimal_action_set())
        words = tuple(ACTIONS[played.action_map[i]] for i in self.actions)
        self.mirrored = np.array([words.index(swapped(word)) for word in words])
        self.schema = Schema(
            (Field("grid", "1", self.labels, 0.0, 1.0, grid=(SIDE, SIDE), dtype="uint8"),),
            (Field("action", "1", words, 0.0, len(words) - 1.0, discrete=True),),
            PERIOD,
        )
        ramps = hasattr(played, "ramping")
        self.own = tuple(self._own(ramps, turns=bool((self.mirrored != np.arange(len(words))).any())))

    def _own(self, ramps: bool, turns: bool) -> list[Parameter]:
        """Parameters that the engine knows.

        Args:
            ramps: whether the game gets harder by itself.
            turns: whether there is a left and a right to be swapped.
        """
        found = [parameter(STICKY, 0.1, 0.0, 0.95, "probability that the last action is repeated instead")]
        if ramps:
            found.append(parameter(RAMPING, 1, 0, 1, "1: the game becomes harder while it is played", whole=True))
        for entry in self.facts.constants:
            nominal = self.nominal[entry.constant]
            if isinstance(entry, Rate):
                found.append(parameter(entry.name, 1.0, entry.low, nominal + entry.extra, entry.says))
            else:
                bounds = (nominal, entry.low, entry.high)
                found.append(Parameter(entry.name, "1", *bounds, entry.says, "game", resolution=1.0))
        found += [own for own, _ in self.facts.own]
        return found + [p for p in shared_parameters(len(self.labels)) if turns or p.name != "action/mirrored"]

    def make_engine(self, name: str, preset: str, num_worlds: int, num_threads: int, num_workers: int) -> MinatarEngine:
        return MinatarEngine(self, num_worlds)


class MinatarEngine(GameEngine):
    """See `GameEngine`.

    Each world has a game of its own. Its random numbers are seeded at every reset, so that an episode follows from its key.

    Attributes:
        readings: ``observation`` uint8 ``(N, cells)``, as seen; ``score (N,)`` and ``over`` of the last step.
        cells: uint8 ``(N, SIDE, SIDE, channels)``, as it is.
        games: MinAtar's.
    """

    name: ClassVar[str] = "minatar"

    def __init__(self, task: MinatarTask, num_worlds: int):
        super().__init__(task.robot, num_worlds, {p.name: p.nominal for p in task.own})
        self.task = task
        self._rules = {RAMPING, *(entry.name for entry in task.facts.constants)} | {p.name for p, _ in task.facts.own}
        self._last = [0] * num_worlds  # what was done, in MinAtar's numbers: 0 is to stay
        self.games: list[Any] = [class_of(task.game, tuple(task.nominal.items()))() for _ in range(num_worlds)]
        self.cells = np.zeros((num_worlds, SIDE, SIDE, len(task.labels)), dtype=np.uint8)
        self._planes = list(self.cells.view(bool))
        self._sticky, self._plain = [], True  # of every world; whether what is seen is what there is, in all worlds
        self.apply(self._everyone, {STICKY: self._values[STICKY]})
        self.readings = {
            "observation": self.cells.reshape(num_worlds, -1), "score": np.zeros(num_worlds), "sign": np.zeros(num_worlds),
            "over": self._whole.copy(),
        }  # fmt: skip

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        super().apply(ids, values)
        self._sticky = self._values[STICKY].tolist()
        self._plain = not any(v.any() for name, v in self._values.items() if name.startswith("observation/"))
        if not self._rules.isdisjoint(values):
            for i in np.asarray(ids).tolist():
                self._rule(i, values)

    def _rule(self, i: int, given: Collection[str]) -> None:
        """Let the game of one world go by the rules that its parameters say; ramping begins anew of those that are `given`."""
        game, constants = self.games[i], {}
        for entry in self.task.facts.constants:
            value, nominal = self._values[entry.name], self.task.nominal[entry.constant]
            if isinstance(entry, Length):
                constants[entry.constant] = round(value[i])
                continue
            usual = nominal + entry.extra
            steps = max(round(usual / value[i]), 1)
            constants[entry.constant], value[i] = steps - entry.extra, usual / steps
            if entry.kept and entry.name in given:
                setattr(game, entry.kept, steps - entry.extra)
        game.__class__ = class_of(self.task.game, tuple(constants.items()))
        for own, attribute in self.task.facts.own:
            setattr(game, attribute, float(self._values[own.name][i]))
        if RAMPING in self._values:
            game.ramping = bool(self._values[RAMPING][i])

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self.qpos[ids] = qpos
        self._draws.resume(ids, keys(qpos))
        self._steps[ids] = 0
        for i, seed in zip(np.asarray(ids).tolist(), seeds(qpos).tolist(), strict=True):
            game, self._last[i] = self.games[i], 0
            game.random.seed(seed)
            game.reset()
            self._planes[i][:] = game.state()
        for name in ("score", "sign", "over"):
            self.readings[name][ids] = 0
        self._look(ids)

    def step(self, control: np.ndarray, substeps: int) -> None:
        action = control[:, 0].astype(np.intp)
        mirrored = self._values.get("action/mirrored")
        if mirrored is not None and mirrored.any():
            action = np.where(mirrored > 0, self.task.mirrored[action], action)
        last, scores, ends = [], [], []
        wanted = self.task.actions[action].tolist()
        worlds = zip(self.games, self._planes, wanted, self._last, self._sticky, strict=True)
        for game, plane, chosen, before, share in worlds:
            # As minatar.Environment does it, with this number of the game's own, so that episodes are its to the bit.
            done = before if game.random.random_sample() < share else chosen
            score, over = game.act(done)
            plane[:] = game.state()
            last.append(done)
            scores.append(score)
            ends.append(over)
        self._last = last
        self._steps += 1
        self.readings["score"] = score = np.array(scores, dtype=np.float64)
        self.readings["sign"] = signed(score, self._values)
        self.readings["over"] = np.array(ends, dtype=bool)
        self._look(self._everyone)

    def snapshot(self) -> dict[str, np.ndarray]:
        """See `Engine`: games as JSON in bytes, ``(N, length)``, with blanks behind, and the states of their random numbers."""
        texts = [json.dumps(_state(game), default=_plain).encode() for game in self.games]
        longest = max(map(len, texts))
        random = [game.random.get_state(legacy=False)["state"] for game in self.games]
        arrays = {
            "qpos": self.qpos, "steps": self._steps, "last": np.array(self._last),
            **{name: self.readings[name] for name in ("score", "sign", "over")},
            "games": np.array([list(text.ljust(longest)) for text in texts], dtype=np.uint8),
            "random": np.array([state["key"] for state in random]),
            "position": np.array([state["pos"] for state in random]),
            **{f"value/{name}": value for name, value in self._values.items()},
        }  # fmt: skip
        return {name: value.copy() for name, value in arrays.items()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        self.qpos[:], self._steps[:], self._last = snapshot["qpos"], snapshot["steps"], snapshot["last"].tolist()
        for name in ("score", "sign", "over"):
            self.readings[name] = snapshot[name].copy()
        self.apply(self._everyone, {name: snapshot[f"value/{name}"] for name in self._values})
        for i, game in enumerate(self.games):
            for name, value in json.loads(snapshot["games"][i].tobytes()).items():
                setattr(game, name, np.array(value) if isinstance(getattr(game, name), np.ndarray) else value)
            game.random.set_state(("MT19937", snapshot["random"][i], int(snapshot["position"][i])))
            self._planes[i][:] = game.state()
        self._draws.resume(self._everyone, keys(self.qpos))
        self._look(self._everyone)

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        labels = self.task.labels
        colours = {labels.index(label): colour for label, colour in COLOURS.items() if label in labels}
        discs = [labels.index(label) for label in ROUND if label in labels]
        return picture(self.cells[world], colours, width, height, discs)

    def _look(self, ids: np.ndarray) -> None:
        """Set what is seen of the cells of some worlds."""
        if self._plain:
            self.readings["observation"] = self.cells.reshape(self.num_worlds, -1)
            return
        if np.shares_memory(self.readings["observation"], self.cells):
            self.readings["observation"] = self.cells.reshape(self.num_worlds, -1).copy()
        values = {name: value[ids] for name, value in self._values.items()}
        shown = seen(self.cells[ids], values, self._draws.take(ids), self._steps[ids])
        self.readings["observation"][ids] = shown.reshape(len(ids), -1)


def seeds(qpos: np.ndarray) -> np.ndarray:
    """Seeds of the games of episodes, uint32 ``(n,)``, from the numbers in (0, 1) that stand for those, ``(n, 1)``."""
    return (qpos[:, 0] * 2.0**32).astype(np.uint32)


def _state(game: Any) -> dict[str, Any]:
    """What may change in a game while it is played, but its random numbers."""
    return {name: value for name, value in vars(game).items() if name not in ("channels", "action_map", "random")}


def _plain(value: Any) -> Any:
    """Numpy's arrays and numbers for JSON."""
    return value.tolist()
