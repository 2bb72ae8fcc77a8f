"""Things on a grid as bits: where they are in each world is one number of 600 bits, so that a rule is a few operations for all.

Bit ``6 (10 row + column) + channel`` of a world is the byte at that place of its flat picture (SIDE x SIDE cells of DEPTH
channels, as `simreal_envs.games.grid` shows them). A board has the bits of one kind of thing, all at one channel: uint64
``(n, WORDS)``, the lowest bits first. Boards are quickest where the words of one place lie side by side in memory (Fortran
order); `blank` makes them so, and operations keep it.
"""

from __future__ import annotations

import numpy as np

SIDE, DEPTH = 10, 6  # cells, channels
CELL, ROW, BITS = DEPTH, SIDE * DEPTH, SIDE * SIDE * DEPTH  # bits to the next cell, to the next row, of a board
WORDS = -(-BITS // 64)


def board(things: np.ndarray, channel: int) -> np.ndarray:
    """Things bool ``(..., SIDE, SIDE)`` as boards ``(..., WORDS)``."""
    bits = np.zeros((*things.shape[:-2], 64 * WORDS), dtype=np.uint8)
    bits[..., channel:BITS:DEPTH] = things.reshape(*things.shape[:-2], -1)
    return np.packbits(bits, axis=-1, bitorder="little").view("<u8").astype(np.uint64)


def things(boards: np.ndarray, channel: int) -> np.ndarray:
    """Boards ``(n, WORDS)`` as things, uint8 of 0 and 1 ``(n, SIDE, SIDE)``: `board` undone."""
    return shown(boards).reshape(-1, SIDE, SIDE, DEPTH)[..., channel]


def shown(bits: np.ndarray) -> np.ndarray:
    """Bits ``(n, WORDS)`` as flat pictures, uint8 ``(n, BITS)``."""
    rows = np.ascontiguousarray(bits, dtype="<u8").view(np.uint8)
    return np.unpackbits(rows, axis=1, count=BITS, bitorder="little")


def blank(n: int) -> np.ndarray:
    """Boards of nothing."""
    return np.zeros((WORDS, n), dtype=np.uint64).T


def moved(boards: np.ndarray, bits: int) -> np.ndarray:
    """Boards whose bits are so many places higher, fewer than 64; what gets beyond the first or last cell is gone."""
    if bits < 0:
        out = boards >> np.uint64(-bits)
        out[:, :-1] |= boards[:, 1:] << np.uint64(64 + bits)
        return out
    out = boards << np.uint64(bits)
    out[:, 1:] |= boards[:, :-1] >> np.uint64(64 - bits)
    out[:, -1] &= _LAST
    return out


def moved_each(boards: np.ndarray, up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """The same by other numbers in each world, uint64 ``(n,)``: bits go so many places up, then so many down."""
    up, down = up[:, None], down[:, None]
    risen = boards << up
    risen[:, 1:] |= boards[:, :-1] >> (_WORD - up)  # by all 64 bits: nothing is left, as numpy has it
    risen[:, -1] &= _LAST
    out = risen >> down
    out[:, :-1] |= risen[:, 1:] << (_WORD - down)
    return out


def rolled(boards: np.ndarray, columns: int, channel: int) -> np.ndarray:
    """Boards whose things are a column further right (1) or left (-1), what leaves on one side coming in on the other."""
    over = boards & SIDES[channel][int(columns > 0)]
    return moved(boards ^ over, columns * CELL) | moved(over, -columns * (ROW - CELL))


def add(boards: np.ndarray, row: int, column: np.ndarray, channel: int) -> None:
    """Put a thing into a row, in a column per world ``(n,)``; SIDE stands for nothing."""
    for word, bits in _AT[channel][row]:
        boards[:, word] |= bits[column]


def at(boards: np.ndarray, row: int, column: np.ndarray, channel: int) -> np.ndarray:
    """Whether there is a thing in a row, in a column per world, bool ``(n,)``."""
    (one, first), (other, second) = _AT[channel][row]
    return ((boards[:, one] & first[column]) | (boards[:, other] & second[column])) != 0


def any_in(boards: np.ndarray, row: int, channel: int) -> np.ndarray:
    """Whether there is anything in a row, bool ``(n,)``."""
    (one, first), (other, second) = _IN[channel][row]
    return ((boards[:, one] & first) | (boards[:, other] & second)) != 0


def nothing(boards: np.ndarray) -> np.ndarray:
    """Which boards are empty, bool ``(n,)``."""
    return np.bitwise_or.reduce(boards, axis=1) == 0


def count(boards: np.ndarray) -> np.ndarray:
    """How many things there are, float64 ``(n,)``."""
    return np.add.reduce(np.bitwise_count(boards), axis=1, dtype=np.uint8).astype(np.float64)


_WORD = np.uint64(64)
_LAST = np.uint64((1 << (BITS - 64 * (WORDS - 1))) - 1)  # what the last word may have
_COLUMN = np.arange(SIDE) + np.zeros((SIDE, 1), dtype=int)
_WORDS = [(row * ROW // 64, row * ROW // 64 + 1) for row in range(SIDE)]  # that have the cells of a row
_EACH = np.eye(SIDE * SIDE, dtype=bool).reshape(SIDE, SIDE, SIDE, SIDE)
# By channel: everything on the left and on the right side, (2, WORDS).
SIDES = [board(np.stack([_COLUMN == 0, _COLUMN == SIDE - 1]), channel) for channel in range(DEPTH)]
# By channel and place: word of a board and bit in it.
PLACES = [np.arange(channel, BITS, DEPTH) // 64 for channel in range(DEPTH)]
PLACED = [np.uint64(1) << (np.arange(channel, BITS, DEPTH) % 64).astype(np.uint64) for channel in range(DEPTH)]
# By channel and row, for each of its two words: the bit of every column, and of nothing; all of these bits.
_AT = [
    [[(w, np.append(board(_EACH[row], channel)[:, w], np.uint64(0))) for w in words] for row, words in enumerate(_WORDS)]
    for channel in range(DEPTH)
]  # fmt: skip
_IN = [[[(w, np.bitwise_or.reduce(bits)) for w, bits in pairs] for pairs in rows] for rows in _AT]
