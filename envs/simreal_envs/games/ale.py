"""Atari 2600 games of the Arcade Learning Environment as worlds: ``Domain("ale:freeway", variation={"mode": 1})``.

The emulator and the games are those of the package ale-py (GPL-2, the extra ``atari``), of which nothing is copied here.
Frames are skipped, actions repeated and screens shrunk around it, over all worlds, with draws that are functions of their
keys like all others (Machado et al. 2018, JAIR 61; Mnih et al. 2015, Nature 518).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import ClassVar

import numpy as np

from simreal_envs.engines.base import Engine, Player
from simreal_envs.errors import Unsupported, at, require_known
from simreal_envs.games.common import Game, parameter, swapped
from simreal_envs.games.scores import ATARI
from simreal_envs.parameters import Parameter
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import State

SIDES = {"84": 84, "42": 42}  # pixels, by what follows the @
CHANNELS = ("t-3", "t-2", "t-1", "t")  # frames seen at the last four steps, the oldest first
PERIOD = 4 / 60  # s: four frames
HALF_AN_HOUR, FRAMES = 1800.0, 108_000  # s, frames
NOISE = 8.0  # grey levels
KILLERS = ("combat", "joust", "maze_craze", "warlords")  # games for two, whose start ends the process


class AtariGame(Game):
    """An Atari game. Points are the reward; over when the game says so, at the latest after half an hour.

    An agent sees the last four frames in grey, side by side as channels; at the beginning the first frame is all four of them
    (as Gymnasium's FrameStackObservation has it). Each is the brighter of two frames in a row, pixel by pixel, because many
    games draw things in every other frame only. It acts every four frames.

    Presets are never to be compared with each other. Under ``machado18`` the last action is repeated with probability 0.25 in
    every frame, and a game is played to its end for its points (Machado et al. 2018, section 5). Under ``nature15`` nothing is
    repeated, up to 30 frames of nothing come first, rewards are -1, 0 or 1, and an episode ends with a life (Mnih et al. 2015,
    methods); nominal values, which scales and curricula go by, are those of ``machado18``.

    Attributes:
        rom: as ale-py calls the game.
        side: pixels of what is seen, along both sides.
        keys: ALE's action by the choice, ``(2, choices)``: as it is, and with left and right swapped.
    """

    engines, packages = ("ale",), ("ale-py",)
    presets = ("machado18", "nature15")
    episode_steps = FRAMES  # of one frame each; the engine counts the frames of longer ones
    random_return = reference_return = float("nan")  # measured where they are needed
    PRESETS: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "machado18": {},
        "nature15": {"sticky": 0.0, "noop_max": 30.0, "lives/terminal": 1.0, "reward/clipped": 1.0},
    }

    def __init__(self, name: str, rom: str, side: int):
        from simreal_envs.games.ale_consoles import ACTIONS, facts

        self.name, self.rom, self.side = f"ale:{name}", rom, side
        self.says = f"Atari's {rom.replace('_', ' ').title()}, seen in {side} x {side} pixels"
        found = facts(rom)
        labels = tuple(map(_label, found.actions))
        self.schema = Schema(
            (Field("screen", "1", CHANNELS, 0.0, 255.0, NOISE, (side, side), "uint8"),),
            (Field("action", "1", labels, 0.0, len(labels) - 1.0, discrete=True),),
            PERIOD,
        )
        number = {_label(name): value for name, value in ACTIONS.items()}
        self.keys = np.array([[number[label] for label in labels], [number[swapped(label)] for label in labels]])
        self.robot = Player(self.name, ("action",), PERIOD)
        self.own = _parameters(found.modes, found.difficulties, found.mode, found.difficulty)
        self.solved = ATARI[rom][1] if rom in ATARI else 1.0
        self.goal = f"a return of at least {self.solved:g}" + (", a human tester's score" if rom in ATARI else "")

    def make_engine(self, name: str, preset: str, num_worlds: int, num_threads: int, num_workers: int) -> Engine:
        from simreal_envs.games.ale_engine import AtariEngine

        return AtariEngine(self, preset, num_worlds, num_workers)

    def reward(self, state: State) -> dict[str, np.ndarray]:
        return {name: state.readings[name] for name in ("score", "clipping", "sign")}

    def truncated(self, state: State) -> np.ndarray:
        return state.readings["cut"]


def ale_task(name: str, where: str = "") -> AtariGame:
    """The task of a game as ale-py calls it, such as ``space_invaders``, or ``space_invaders@42`` for smaller pictures.

    Raises:
        UserError: there is no such game.
        Unsupported: ale-py is not installed, or cannot play the game alone.
    """
    try:
        from ale_py import roms
    except ImportError as error:
        raise Unsupported(f"{at(where)}ale:{name} needs the package ale-py: pip install 'simreal[atari]'") from error
    rom, sized, side = name.partition("@")
    if rom in KILLERS:
        raise Unsupported(
            f"{at(where)}ale:{rom} is a game for two, which ale-py cannot start: it would end this process"
        )
    require_known(rom, [game for game in roms.get_all_rom_ids() if game not in KILLERS], "Atari game", where)
    pixels = SIDES[require_known(side, SIDES, f"size of ale:{rom} behind the @", where)] if sized else 84
    return _task(name, rom, pixels)


@cache
def _task(name: str, rom: str, side: int) -> AtariGame:
    return AtariGame(name, rom, side)


def _parameters(
    modes: tuple[int, ...], difficulties: tuple[int, ...], mode: int, difficulty: int
) -> tuple[Parameter, ...]:
    """What may vary in a game, with the modes and difficulties that it has and what they usually are."""

    def flavour(name: str, usual: int, options: tuple[int, ...], says: str) -> Parameter:
        usual = usual if usual in options else options[0]  # Backgammon begins with a difficulty that it has not
        return Parameter(
            name, "1", usual, min(options), max(options), says, "flavour", choices=tuple(map(float, options))
        )

    def switch(name: str, says: str) -> Parameter:
        return parameter(name, 0, 0, 1, f"1: {says}", whole=True)

    return (
        flavour("mode", mode, modes, "which game of its cartridge is played"),
        flavour("difficulty", difficulty, difficulties, "how the console's difficulty switches stand"),
        parameter("sticky", 0.25, 0.0, 0.95, "probability per frame that the last frame's action is repeated"),
        parameter("frame_skip", 4, 1, 8, "frames that an action lasts", whole=True),
        Parameter("noop_max", "1", 0.0, 0.0, 30.0, "a game begins with one to so many frames of nothing", "flavour", resolution=1.0),
        Parameter(
            "fire_at_start", "1", 0.0, 0.0, 1.0,
            "1: FIRE is pressed for one action where an episode begins, which starts some games", "flavour", choices=(0.0, 1.0),
        ),
        Parameter("time_limit", "s", HALF_AN_HOUR, PERIOD, HALF_AN_HOUR, "of play, 60 frames each, after which a game is cut off", "game"),
        switch("lives/terminal", "an episode ends with a life, and the next one goes on from there"),
        switch("reward/clipped", "rewards are -1, 0 or 1, the sign of the points"),
        Parameter("reward/sign", "1", 1.0, -1.0, 1.0, "-1: what was good is bad", "game", choices=(-1.0, 1.0)),
        switch("action/mirrored", "left moves right and right moves left"),
        switch("observation/mirrored", "left and right are swapped in what is seen"),
        switch("observation/upside_down", "top and bottom are swapped in what is seen"),
        switch("observation/inverted", "what is bright is seen dark and the other way round"),
    )  # fmt: skip


def _label(action: str) -> str:
    """ALE's name of an action as its parts in their order: ``UPRIGHTFIRE`` -> ``up_right_fire``."""
    return "stay" if action == "NOOP" else re.sub("(?<=.)(RIGHT|LEFT|FIRE)", r"_\1", action).lower()
