"""Things on a grid as bits: a row of each world is one number of 60 bits, so that a rule is a few operations for all.

Bit ``6 column + channel`` of a row is the byte at that place of the row of a flat picture (SIDE x SIDE cells of DEPTH
channels, as `simreal_envs.games.grid` shows them). Boards are uint64 ``(n, SIDE)``. They are quickest where one row of all
worlds lies side by side in memory (Fortran order); `blank` makes them so, and operations keep it.
"""

from __future__ import annotations

import numpy as np

SIDE, DEPTH = 10, 6  # cells, channels
CELL = np.uint64(DEPTH)  # bits to the next column
_ROW = SIDE * DEPTH  # bits of a row
_FULL = np.uint64((1 << _ROW) - 1)
_AROUND = np.uint64(_ROW - DEPTH)  # bits from the first column to the last
_COLUMNS = np.arange(SIDE, dtype=np.uint64) * CELL
# By channel and column: the bit of a thing there; the column SIDE stands for nothing.
BITS = [np.append(np.uint64(1 << channel) << _COLUMNS, np.uint64(0)) for channel in range(DEPTH)]


def board(things: np.ndarray, channel: int) -> np.ndarray:
    """Things bool ``(..., SIDE, SIDE)`` as boards ``(..., SIDE)``."""
    return np.bitwise_or.reduce(np.where(things, BITS[channel][:SIDE], np.uint64(0)), axis=-1)


def shown(boards: np.ndarray) -> np.ndarray:
    """Boards as pictures, uint8 ``(n, SIDE, SIDE, DEPTH)``: the bits of all rows one after the other."""
    words = boards >> _DONE
    words[:, :-1] |= boards[:, 1:] << _YET
    rows = np.ascontiguousarray(words, "<u8").view(np.uint8)
    bits = np.unpackbits(rows, axis=1, count=SIDE * _ROW, bitorder="little")
    return bits.reshape(len(boards), SIDE, SIDE, DEPTH)


# Words of 64 bits begin within rows of 60: so much of the first of two rows is in the word before, so much is in this one.
_DONE = np.arange(SIDE, dtype=np.uint64) * np.uint64(64 - _ROW)
_YET = np.uint64(_ROW) - _DONE[:-1]


def blank(n: int) -> np.ndarray:
    """Boards of nothing."""
    return np.zeros((SIDE, n), dtype=np.uint64).T


def fallen(boards: np.ndarray) -> np.ndarray:
    """Boards whose things are a row lower; those of the last row are gone."""
    out = np.empty_like(boards)
    out[:, 0], out[:, 1:] = 0, boards[:, :-1]
    return out


def risen(boards: np.ndarray) -> np.ndarray:
    """Boards whose things are a row higher; those of the first row are gone."""
    out = np.empty_like(boards)
    out[:, :-1], out[:, -1] = boards[:, 1:], 0
    return out


def rolled(boards: np.ndarray, columns: int) -> np.ndarray:
    """Boards whose things are a column further right (1) or left (-1), what leaves on one side coming in on the other."""
    there, back = (CELL, _AROUND) if columns > 0 else (_AROUND, CELL)
    return (boards << there & _FULL) | (boards >> back)


def columns(boards: np.ndarray) -> np.ndarray:
    """The columns in which there is anything, as bits of one row, ``(n,)``."""
    return np.bitwise_or.reduce(boards, axis=1)


def count(boards: np.ndarray) -> np.ndarray:
    """How many things there are, float64 ``(n,)``."""
    return np.add.reduce(np.bitwise_count(boards), axis=1, dtype=np.uint8).astype(np.float64)
