"""What each of MinAtar's games is to us: names for its channels, colours, and how its rules are varied.

MinAtar keeps most of what could vary in constants of a module, which all its games share. Here a world can have the module
to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simreal_envs.games.common import parameter
from simreal_envs.parameters import Parameter

SIDE = 10  # cells

# Game -> its channel in MinAtar -> what it is called here, so that channels that mean the same match by name, also with the
# grid games': `player` is what is steered, `target` what is to be hit from afar, `hazard` what must not touch the player,
# `ball` what the player has to meet (gold and divers, too), `trail` where something was a step before.
LABELS: dict[str, dict[str, str]] = {
    "asterix": {"player": "player", "enemy": "hazard", "trail": "trail", "gold": "ball"},
    "breakout": {"paddle": "player", "ball": "ball", "trail": "trail", "brick": "target"},
    # Five trails tell how often a car moves; that of the fastest, which moves the most like all else that has one, is `trail`.
    "freeway": {
        "chicken": "player", "car": "hazard", "speed1": "trail", "speed2": "speed_2", "speed3": "speed_3",
        "speed4": "speed_4", "speed5": "speed_5",
    },
    # A fish is a `target`; a submarine is one that shoots, an `enemy`.
    "seaquest": {
        "sub_front": "player", "sub_back": "player_back", "friendly_bullet": "shot", "trail": "trail",
        "enemy_bullet": "hazard", "enemy_fish": "target", "enemy_sub": "enemy", "oxygen_guage": "oxygen",
        "diver_guage": "divers", "diver": "ball",
    },
    "space_invaders": {
        "cannon": "player", "alien": "target", "alien_left": "target_left", "alien_right": "target_right",
        "friendly_bullet": "shot", "enemy_bullet": "hazard",
    },
}  # fmt: skip
# What lies below first. Okabe & Ito's palette (2008), which the colour-blind can tell apart, on a dark board; directions of
# aliens are not drawn.
COLOURS = {
    "oxygen": (120, 190, 225), "divers": (250, 220, 130), "speed_5": (48, 46, 58), "speed_4": (57, 54, 66),
    "speed_3": (66, 63, 75), "speed_2": (75, 71, 83), "trail": (84, 80, 92), "target": (204, 121, 167),
    "enemy": (0, 168, 125), "hazard": (226, 98, 28), "ball": (250, 185, 45), "shot": (245, 236, 120),
    "player_back": (44, 100, 140), "player": (86, 180, 233),
}  # fmt: skip
ROUND = ("ball", "shot")


@dataclass(frozen=True)
class Rate:
    """A parameter that says how many times as often as usual something happens; the steps in between are whole.

    Attributes:
        constant: MinAtar's, the steps in between less `extra`.
        kept: the game's attribute that begins an episode as this constant.
    """

    name: str
    constant: str
    says: str
    kept: str = ""
    extra: int = 0
    low: float = 0.25


@dataclass(frozen=True)
class Length:
    """A parameter that is one of MinAtar's constants, a number of steps, itself."""

    name: str
    constant: str
    says: str
    low: int
    high: int


@dataclass(frozen=True)
class Facts:
    """What we say about a game, and what may vary in it.

    Attributes:
        solved: return that counts as success.
        random_return, reference_return: as in `Task`, the latter of one agent after 150,000 steps.
        own: parameters that are attributes of `subclass`: name -> attribute.
        subclass: of the game's class, with what is neither an attribute nor a constant of MinAtar's.
    """

    says: str
    solved: float
    random_return: float
    reference_return: float
    constants: tuple[Rate | Length, ...] = ()
    own: tuple[tuple[Parameter, str], ...] = ()
    subclass: Callable[[type], type] = lambda game: game


def _breakout(game: type) -> type:
    class Breakout(game):  # type: ignore[misc]
        left, rows = 0.5, 3.0

        def reset(self) -> None:
            super().reset()
            self.brick_map[1 + round(self.rows) : 4] = 0
            if self.left != 0.5:
                self.ball_x, self.ball_dir = (0, 2) if self.random.rand() < self.left else (SIDE - 1, 3)
                self.last_x = self.ball_x

    return Breakout


def _freeway(game: type) -> type:
    class Freeway(game):  # type: ignore[misc]
        pace = 1.0

        def _randomize_cars(self, initialize: bool = False) -> None:
            super()._randomize_cars(initialize)
            if self.pace == 1:
                return
            for car in self.cars:  # column, row, steps to wait, and steps to wait after a move with the sign of the way
                wait = min(max(round((abs(car[3]) + 1) / self.pace) - 1, 1), 5)  # no channel shows others
                car[2], car[3] = wait, wait if car[3] > 0 else -wait

    return Freeway


_SPEED = "how many times as fast the enemies are"
_SHOOTING = "how many times as often the enemies shoot"
_OWN_SHOTS = "how many times as often the player can shoot"
FACTS = {
    "asterix": Facts(
        "collect gold and keep away from enemies", 3.0, 0.4, 1.6,
        (
            Rate("enemies/speed", "init_move_interval", "how many times as fast enemies and gold are", "move_speed"),
            Rate("enemies/rate", "init_spawn_speed", "how many times as often enemies and gold come", "spawn_speed"),
        ),
    ),
    "breakout": Facts(
        "break bricks with a ball that must not get past the paddle", 10.0, 0.3, 5.8, (),
        (
            (parameter("ball/left", 0.5, 0.0, 1.0, "probability that the ball comes from the left"), "left"),
            (parameter("bricks/rows", 3, 1, 3, "rows of bricks in the first wall", whole=True), "rows"),
        ),
        _breakout,
    ),
    "freeway": Facts(
        "cross a road with traffic", 30.0, 0.3, 31.2,
        (
            Rate("player/speed", "player_speed", "how many times as fast the player is"),
            Length("time_limit", "time_limit", "steps after which the game is over", 250, 2500),
        ),
        ((parameter("enemies/speed", 1.0, 0.5, 3.0, "how many times as fast the cars are, at most a cell in 2 steps"), "pace"),),
        _freeway,
    ),
    "seaquest": Facts(
        "shoot fish and submarines and bring divers to the surface", 2.0, 0.1, 0.4,
        (
            Rate("enemies/speed", "init_move_interval", _SPEED, "move_speed", extra=1),
            Rate("enemies/rate", "init_spawn_speed", "how many times as often enemies come", "e_spawn_speed"),
            Rate("enemies/shots", "enemy_shot_interval", _SHOOTING, extra=1),
            Rate("divers/rate", "diver_spawn_speed", "how many times as often divers come"),
            Rate("player/shots", "shot_cool_down", _OWN_SHOTS),
            Length("oxygen", "max_oxygen", "steps that the oxygen lasts", 50, 800),
        ),
    ),
    "space_invaders": Facts(
        "shoot marching aliens and keep away from their bombs", 30.0, 3.5, 36.1,
        (
            # Never slower than one step per alien, and there are 24.
            Rate("enemies/speed", "enemy_move_interval", _SPEED, "enemy_move_interval", low=0.5),
            Rate("enemies/shots", "enemy_shot_interval", _SHOOTING),
            Rate("player/shots", "shot_cool_down", _OWN_SHOTS),
        ),
    ),
}  # fmt: skip


def module_of(game: str) -> dict[str, Any]:
    """The names of a game's module of MinAtar, run anew, so that its constants can be changed without another world's.

    Read from its file: the package itself imports seaborn and pandas, which takes seconds, for pictures of its own.
    """
    path = Path(find_spec("minatar").origin).parent / "environments" / f"{game}.py"  # type: ignore[union-attr]
    name = f"minatar.environments.{game}"
    names: dict[str, Any] = {"__name__": name}
    code: Any = SourceFileLoader(name, str(path)).get_code(name)
    exec(code, names)
    return names


@lru_cache(maxsize=256)
def class_of(game: str, constants: tuple[tuple[str, int], ...]) -> type:
    """A game's class with some of MinAtar's constants."""
    module = module_of(game)
    module.update(constants)
    return FACTS[game].subclass(module["Env"])
