"""Shoot what comes down before it arrives."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from simreal_envs.games.boards import (
    CELL,
    PLACED,
    PLACES,
    ROW,
    SIDES,
    add,
    any_in,
    at,
    blank,
    board,
    count,
    moved,
    moved_each,
    nothing,
    rolled,
    shown,
    things,
)
from simreal_envs.games.grid import (
    FIRE,
    HAZARD,
    PLAYER,
    SHOT,
    SIDE,
    SIDEWAYS,
    TARGET,
    TRAIL,
    GridGame,
    Values,
    below,
    blown,
    clipped,
    moves,
    parameter,
)  # fmt: skip

DOWN = 2  # a course of aliens, besides 0 (to the left) and 1
COLUMNS, MOST = 6, 4  # of aliens: in a row, rows at most
BOTTOM = SIDE - 1


class GridInvaders(GridGame):
    """A block of aliens marches to and fro, a row lower at every edge, and drops bombs; the cannon shoots them.

    +1 for an alien; over when a bomb hits the cannon or an alien is in its row, or after 300 steps. The next wave comes
    when the last alien is hit. Cells that aliens have just left show where they march.
    """

    name = "grid_invaders"
    says = "shoot marching aliens and keep away from their bombs"
    episode_steps = 300
    start_draws, step_draws, solved = 2, 3, 36.0
    draws_always = True
    random_return, reference_return = 8.4, 60.5
    own = (
        parameter("aliens/speed", 0.2, 0.05, 1.0, "cells that aliens march per step"),
        parameter("aliens/rows", 3, 1, MOST, "rows of aliens in a wave", whole=True),
        parameter("bombs/rate", 0.1, 0.0, 0.5, "probability per step that an alien drops a bomb"),
        parameter("cannon/cooldown", 3, 1, 9, "steps from one shot to the next", whole=True),
    )
    colours = {
        TRAIL: (40, 58, 52), TARGET: (150, 122, 246), HAZARD: (255, 110, 92), SHOT: (255, 240, 170), PLAYER: (122, 226, 140),
    }  # fmt: skip

    def start(self, values: Values, drawn: np.ndarray) -> dict[str, np.ndarray]:
        n = len(drawn)
        return {
            "x": below(drawn[:, 0], SIDE), "aliens": _wave(values), "trail": blank(n), "shots": blank(n), "bombs": blank(n),
            "way": np.where(drawn[:, 1] < 0.5, -1, 1), "clock": np.zeros(n), "wait": np.zeros(n, np.intp),
        }  # fmt: skip

    def advance(
        self, now: SimpleNamespace, values: Values, action: np.ndarray, draw: Callable[[], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        drawn = draw()
        now.x = clipped(now.x + SIDEWAYS[action], SIDE - 1)
        now.shots = moved(now.shots, -ROW)
        wait = np.maximum(now.wait - 1, 0)
        firing = (action == FIRE) & (wait == 0)
        add(now.shots, BOTTOM - 1, np.where(firing, now.x, SIDE), TARGET)
        now.wait = np.where(firing, values["cannon/cooldown"].astype(np.intp), wait)
        hit = now.shots & now.aliens
        now.shots ^= hit
        now.aliens ^= hit
        score = count(hit)
        (marching,) = moves(now.clock, values["aliens/speed"]).nonzero()
        if len(marching):
            self._march(now, marching, score)
        now.bombs = moved(now.bombs, ROW)
        if (wind := blown(values, draw, 2)) is not None:
            for way in (-1, 1):
                now.bombs[wind == way] = rolled(now.bombs[wind == way], way, HAZARD)
        (bombing,) = (drawn[:, 0] < values["bombs/rate"]).nonzero()
        self._bomb(now, bombing, drawn[bombing, 1])
        over = at(now.bombs, BOTTOM, now.x, HAZARD) | any_in(now.aliens, BOTTOM, TARGET)
        if (cleared := nothing(now.aliens)).any():
            now.aliens[cleared], now.trail[cleared] = _wave(values)[cleared], 0
        return score, over

    def _march(self, now: SimpleNamespace, ids: np.ndarray, score: np.ndarray) -> None:
        """Let the aliens of some worlds go a cell on, or a row down and turn where they are at the edge."""
        aliens, way, shots = now.aliens[ids], now.way[ids], now.shots[ids]
        now.trail[ids] = aliens
        right = (way > 0).view(np.int8)
        edge = np.bitwise_or.reduce(aliens & SIDES[TARGET][right], axis=1) != 0
        now.way[ids] = np.where(edge, -way, way)
        course = np.where(edge, DOWN, right)
        aliens = moved_each(aliens, _UP[course], _BACK[course])  # what leaves at the bottom is over anyway
        hit = shots & aliens
        now.aliens[ids], now.shots[ids] = aliens ^ hit, shots ^ hit
        score[ids] += count(hit)

    def _bomb(self, now: SimpleNamespace, ids: np.ndarray, which: np.ndarray) -> None:
        """Let the lowest alien of a random column drop a bomb in some worlds; `which` is uniform in (0, 1)."""
        aliens, some = things(now.aliens[ids], TARGET), np.arange(len(ids))
        columns = np.bitwise_or.reduce(aliens, axis=1).cumsum(axis=1)  # how many have aliens up to each
        column = (columns > np.floor(which * columns[:, -1])[:, None]).argmax(axis=1)
        lowest = BOTTOM - aliens[some, ::-1, column].argmax(axis=1)
        place = np.minimum(lowest + 1, BOTTOM) * SIDE + column
        now.bombs[ids, PLACES[HAZARD][place]] |= PLACED[HAZARD][place] * aliens[some, lowest, column]  # if there is one

    def paint(self, now: SimpleNamespace, values: Values, cells: np.ndarray) -> None:
        bits = moved(now.trail, TRAIL - TARGET)
        bits |= moved(now.shots, SHOT - TARGET)
        bits |= now.aliens
        bits |= now.bombs
        cells.reshape(len(cells), -1)[:] = shown(bits)
        cells[np.arange(len(cells)), BOTTOM, now.x, PLAYER] = 1


def _wave(values: Values) -> np.ndarray:
    """Aliens of fresh waves, boards."""
    return np.asfortranarray(_WAVES[values["aliens/rows"].astype(np.intp)])


_ROW, _COLUMN = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
_MIDDLE = (_COLUMN >= (SIDE - COLUMNS) // 2) & (_COLUMN < (SIDE + COLUMNS) // 2)
_WAVES = board(np.array([(rows > _ROW) & _MIDDLE for rows in range(MOST + 1)]), TARGET)
# Bits by which boards rise and come back, by course: to the left, to the right, down.
_UP, _BACK = np.array([0, CELL, ROW], np.uint64), np.array([CELL, 0, 0], np.uint64)
