"""Atari consoles: emulators of the Arcade Learning Environment, and what is seen of their screens.

An emulator holds the interpreter's lock in all that it does, so threads would not help: many are played faster by worker
processes. What happens on a console is a function of the game, its mode and difficulty, and what was pressed in each frame:
every episode goes on from a state kept from a fresh emulator (some games remember the one before), and the emulator's own
random numbers, which some games ask for, always begin with the same seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from math import lcm

import numpy as np
from ale_py import Action, ALEInterface, ALEState, LoggerMode, roms

ACTIONS = {name: int(action.value) for name, action in Action.__members__.items()}  # what a joystick can do
NOOP, FIRE = ACTIONS["NOOP"], ACTIONS["FIRE"]
_SEED = 1
_idle: dict[str, list[ALEInterface]] = {}  # a new one takes 0.1 s of CPU time: those that nobody uses wait for the next


@dataclass(frozen=True)
class Facts:
    """What an emulator tells of a game: the actions that do something, its modes and difficulties, and the usual ones."""

    actions: tuple[str, ...]
    modes: tuple[int, ...]
    difficulties: tuple[int, ...]
    mode: int
    difficulty: int


def facts(game: str) -> Facts:
    """See `Facts`."""
    console = emulator(game)
    _idle.setdefault(game, []).append(console)
    state = console.cloneState()
    return Facts(
        tuple(action.name for action in console.getMinimalActionSet()),
        tuple(console.getAvailableModes()), tuple(console.getAvailableDifficulties()),
        state.getCurrentMode(), state.getDifficulty(),
    )  # fmt: skip


class Consoles:
    """Some consoles with the same game. Rows of every array are consoles.

    Args:
        game: as `ale_py.roms` calls it.
        side: pixels of what is seen, along both sides.
        count: how many consoles.
    """

    def __init__(self, game: str, side: int, count: int):
        self._game, waiting = game, _idle.setdefault(game, [])
        self._emulators = [waiting.pop() if waiting else emulator(game) for _ in range(count)]
        height, width = self._emulators[0].getScreenDims()
        self._before = np.zeros((height, width), np.uint8)  # grey screen of the last frame but one
        self._seen = np.zeros((count, height, width), np.uint8)  # what is shrunk
        self._shrunk = Shrunk(height, width, side, count)
        self._shown: list[np.ndarray | None] = [None] * count  # where the emulator's screen is not that of its state
        self._untouched = [True] * count  # no frame was played since the game began

    def start(
        self, ids: np.ndarray, modes: np.ndarray, difficulties: np.ndarray, noops: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Begin new games, with so many frames in which nothing is pressed.

        Returns:
            First pictures and lives, see `play`; modes and difficulties as the emulator has them, int ``(n, 2)``.
        """
        flavours, columns = [], (ids, modes, difficulties, noops)
        for k, (i, mode, difficulty, pause) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            state, self._seen[k], self._shown[i] = beginning(self._game, mode, difficulty)
            flavours.append((state.getCurrentMode(), state.getDifficulty()))
            console, self._untouched[i] = self._emulators[i], not pause
            go_on(console, state, True)
            for _ in range(pause):
                console.act(NOOP)
            if pause:
                console.getScreenGrayscale(self._seen[k])
                self._shown[i] = None
        return self._shrunk(self._seen[: len(ids)]), self._lives(ids), np.array(flavours)

    def play(self, ids: np.ndarray, pressed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Play some frames. A game that is over stands still.

        Args:
            pressed: ALE's actions frame by frame, int8 ``(n, frames)``; rows end with -1 where there are fewer frames.

        Returns:
            The brighter of the last two frames (the last one where there is one only), pixel by pixel, in grey, uint8
            ``(n, side * side)``; points, lives and whether the game is over, ``(n,)`` each.
        """
        points = np.zeros(len(ids))
        for k, (i, row) in enumerate(zip(ids.tolist(), pressed.tolist(), strict=True)):
            console, seen = self._emulators[i], self._seen[k]
            *first, last = row[: row.index(-1)] if row[-1] < 0 else row
            total = 0
            for key in first:
                total += console.act(key)
            if first:
                console.getScreenGrayscale(self._before)
            points[k] = total + console.act(last)
            console.getScreenGrayscale(seen)
            if first:
                np.maximum(seen, self._before, out=seen)
            self._shown[i], self._untouched[i] = None, False
        over = np.array([self._emulators[i].game_over() for i in ids.tolist()])
        return self._shrunk(self._seen[: len(ids)]), points, self._lives(ids), over

    def _lives(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self._emulators[i].lives() for i in ids.tolist()])

    def states(self) -> list[tuple[bytes, bool, np.ndarray]]:
        """Of every console what it goes on from: the emulator's state, whether that is the beginning of a game, the picture."""
        states = [console.cloneSystemState().serialize() for console in self._emulators]
        return [(state, self._untouched[i], self.picture(i)) for i, state in enumerate(states)]

    def put(self, states: list[tuple[bytes, bool, np.ndarray]]) -> None:
        """Go on from `states`."""
        for i, (state, self._untouched[i], self._shown[i]) in enumerate(states):
            go_on(self._emulators[i], ALEState(state), self._untouched[i])

    def picture(self, i: int) -> np.ndarray:
        """The screen in colour, uint8 ``(height, width, 3)``."""
        shown = self._shown[i]
        return self._emulators[i].getScreenRGB() if shown is None else shown

    def close(self) -> None:
        _idle[self._game] += self._emulators
        self._emulators = []


def emulator(game: str) -> ALEInterface:
    """A console with a game, switched on."""
    ALEInterface.setLoggerMode(LoggerMode.Error)
    console = ALEInterface()
    console.setFloat("repeat_action_probability", 0.0)
    console.setInt("random_seed", _SEED)
    console.loadROM(str(roms.get_rom_path(game)))
    return console


def go_on(console: ALEInterface, state: ALEState, untouched: bool) -> None:
    """Put a console into a state, to the bit.

    The state of the emulator lacks something that tells a game that has just begun from one that is played (the first frame
    of Qbert and Tetris differs), so it is put on top of one of the same kind.

    Args:
        untouched: whether no frame was played since the game of the state began.
    """
    console.reset_game()
    if not untouched:
        console.act(NOOP)
    console.restoreSystemState(state)


@cache
def beginning(game: str, mode: int, difficulty: int) -> tuple[ALEState, np.ndarray, np.ndarray]:
    """State, grey screen ``(height, width)`` and colours ``(height, width, 3)`` in which games begin."""
    console = emulator(game)
    console.setMode(mode)
    console.setDifficulty(difficulty)
    console.reset_game()
    found = console.cloneSystemState(), console.getScreenGrayscale(), console.getScreenRGB()
    _idle.setdefault(game, []).append(console)
    return found


class Shrunk:
    """Averages of areas: pictures ``(n, height, width)`` -> ``(n, side * side)``, uint8, half a level rounded up.

    For at most `count` pictures at once. In whole numbers, so with the same bits everywhere; the areas are those of OpenCV's
    INTER_AREA, which Gymnasium's AtariPreprocessing uses.
    """

    def __init__(self, height: int, width: int, side: int, count: int):
        (self._rows, rows), (self._columns, columns) = _shares(height, side), _shares(width, side)
        self._area = rows * columns
        fits = np.uint16 if 256 * self._area < 2**16 else np.uint32
        # Room for all that is computed: to ask for it at every step would cost more than to compute.
        self._lines, self._squares = (np.empty((count, side, n), np.uint16) for n in (width, side))
        self._bytes, self._line = np.empty((count, side, width), np.uint8), np.empty_like(self._lines)
        self._sums, self._sum = (np.empty((count, side, side), fits) for _ in range(2))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        n = len(pictures)
        lines, line, picked = self._lines[:n], self._line[:n], self._bytes[:n]
        sums, part, squares = self._sums[:n], self._sum[:n], self._squares[:n]
        lines.fill(0)
        for at, share in self._rows:
            lines += np.multiply(pictures.take(at, 1, picked, "clip"), share[:, None], out=line)
        sums.fill(self._area // 2)
        for at, share in self._columns:
            sums += np.multiply(lines.take(at, 2, squares, "clip"), share, out=part, dtype=part.dtype)
        sums //= sums.dtype.type(self._area)
        return sums.astype(np.uint8).reshape(n, -1)


@lru_cache(maxsize=8)
def _shares(pixels: int, side: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """What of a line of pixels each of `side` equal parts consists of.

    Returns:
        Indices of pixels and their shares, uint16 ``(side,)`` each, once for the first pixel of every part, once for the
        second and so on; and the sum of a part's shares.
    """
    units = lcm(pixels, side)
    of_pixel, of_part = units // pixels, units // side
    start = np.arange(side) * of_part
    first, last = start // of_pixel, (start + of_part - 1) // of_pixel
    found = []
    for k in range(int((last - first).max()) + 1):
        at = first + k
        share = np.minimum(start + of_part, (at + 1) * of_pixel) - np.maximum(start, at * of_pixel)
        found.append((np.minimum(at, pixels - 1), np.maximum(share, 0).astype(np.uint16)))
    return found, of_part
