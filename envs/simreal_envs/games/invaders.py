"""Shoot what comes down before it arrives."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

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
        n, aliens = len(drawn), _wave(values)
        empty = np.zeros((n, SIDE, SIDE), dtype=bool)
        return {
            "x": below(drawn[:, 0], SIDE), "aliens": aliens, "trail": empty, "shots": empty.copy(), "bombs": empty.copy(),
            "way": np.where(drawn[:, 1] < 0.5, -1, 1), "clock": np.zeros(n), "wait": np.zeros(n, np.intp),
        }  # fmt: skip

    def advance(
        self, now: SimpleNamespace, values: Values, action: np.ndarray, draw: Callable[[], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        everyone, drawn = np.arange(len(action)), draw()
        now.x = clipped(now.x + SIDEWAYS[action], SIDE - 1)
        now.shots = _moved(now.shots, -1)
        now.wait = np.maximum(now.wait - 1, 0)
        firing = (action == FIRE) & (now.wait == 0)
        now.shots[everyone, BOTTOM - 1, now.x] |= firing
        now.wait[firing] = values["cannon/cooldown"].astype(np.intp)[firing]
        score = _hits(now)
        marching = np.flatnonzero(moves(now.clock, values["aliens/speed"]))
        if len(marching):
            self._march(now, marching)
            score += _hits(now)
        now.bombs = _moved(now.bombs, 1)
        if (wind := blown(values, draw, 2)) is not None:
            for way in (-1, 1):
                now.bombs[wind == way] = np.roll(now.bombs[wind == way], way, axis=2)
        self._bomb(now, np.flatnonzero(drawn[:, 0] < values["bombs/rate"]), drawn[:, 1])
        over = now.bombs[everyone, BOTTOM, now.x] | now.aliens[:, BOTTOM].any(axis=1)
        if (cleared := ~now.aliens.reshape(len(score), -1).any(axis=1)).any():
            now.aliens[cleared], now.trail[cleared] = _wave(values)[cleared], False
        return score, over

    def _march(self, now: SimpleNamespace, ids: np.ndarray) -> None:
        """Let the aliens of some worlds go a cell on, or a row down and turn where they are at the edge."""
        aliens, way = now.aliens[ids], now.way[ids]
        now.trail[ids] = aliens
        edge = np.where(way > 0, aliens[:, :, -1].any(axis=1), aliens[:, :, 0].any(axis=1))
        now.way[ids] = np.where(edge, -way, way)
        for chosen, shift, axis in ((edge, 1, 1), (~edge & (way > 0), 1, 2), (~edge & (way < 0), -1, 2)):
            aliens[chosen] = np.roll(aliens[chosen], shift, axis)  # what leaves at the bottom is over anyway
        now.aliens[ids] = aliens

    def _bomb(self, now: SimpleNamespace, ids: np.ndarray, which: np.ndarray) -> None:
        """Let the lowest alien of a random column drop a bomb in some worlds; `which` is uniform in (0, 1), of all."""
        columns = now.aliens[ids].any(axis=1)
        ids, columns = ids[columns.any(axis=1)], columns[columns.any(axis=1)]
        place = np.floor(which[ids] * columns.sum(axis=1))
        column = (columns.cumsum(axis=1) > place[:, None]).argmax(axis=1)
        lowest = BOTTOM - now.aliens[ids, ::-1, column].argmax(axis=1)
        now.bombs[ids, np.minimum(lowest + 1, BOTTOM), column] = True

    def paint(self, now: SimpleNamespace, values: Values, cells: np.ndarray) -> None:
        cells[np.arange(len(cells)), BOTTOM, now.x, PLAYER] = 1
        for channel, things in ((TRAIL, now.trail), (TARGET, now.aliens), (HAZARD, now.bombs), (SHOT, now.shots)):
            cells[..., channel] = things


def _moved(things: np.ndarray, rows: int) -> np.ndarray:
    """Things ``(n, SIDE, SIDE)`` a row further down (1) or up (-1)."""
    moved = np.zeros_like(things)
    if rows > 0:
        moved[:, 1:] = things[:, :-1]
    else:
        moved[:, :-1] = things[:, 1:]
    return moved


def _hits(now: SimpleNamespace) -> np.ndarray:
    """Take away aliens and shots that are in one cell; how many aliens those are, float64 ``(n,)``."""
    hit = now.shots & now.aliens
    now.shots ^= hit
    now.aliens ^= hit
    return np.count_nonzero(hit.reshape(len(hit), -1), axis=1).astype(np.float64)


def _wave(values: Values) -> np.ndarray:
    """Aliens of fresh waves, bool ``(n, SIDE, SIDE)``."""
    return _WAVES[values["aliens/rows"].astype(np.intp)]


_ROW, _COLUMN = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
_MIDDLE = (_COLUMN >= (SIDE - COLUMNS) // 2) & (_COLUMN < (SIDE + COLUMNS) // 2)
_WAVES = np.array([(rows > _ROW) & _MIDDLE for rows in range(MOST + 1)])
