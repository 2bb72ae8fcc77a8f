"""Pictures of a grid: rounded tiles on a dark board."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

import numpy as np

BOARD, DARK, LIGHT = (13, 17, 28), (22, 27, 41), (26, 32, 48)
SOFT = 1.5  # pixels over which an edge fades


def picture(
    cells: np.ndarray, colours: Mapping[int, tuple[int, int, int]], width: int, height: int, discs: Collection[int] = ()
) -> np.ndarray:
    """A picture of a grid, uint8 ``(height, width, 3)``: as large as fits, in the middle.

    Args:
        cells: ``(rows, columns, channels)``, not 0 where something is.
        colours: channel -> red, green, blue, what lies below first; channels without a colour are not drawn.
        discs: channels whose things are round.
    """
    rows, columns, _ = cells.shape
    size = max(min(width // columns, height // rows), 1)
    board, tile, disc = _board(rows, columns, size).copy(), _tile(size), _disc(size)
    for channel, colour in colours.items():
        alpha, light = disc if channel in discs else tile
        shaded = np.clip(np.float64(colour) * light[..., None], 0, 255)
        for row, column in np.argwhere(cells[..., channel]) * size:
            patch = board[row : row + size, column : column + size]
            patch += alpha[..., None] * (shaded - patch)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = BOARD
    top, left = max(height - len(board), 0) // 2, max(width - board.shape[1], 0) // 2
    canvas[top : top + len(board), left : left + board.shape[1]] = np.rint(board)[:height, :width]
    return canvas


@lru_cache(maxsize=8)
def _board(rows: int, columns: int, size: int) -> np.ndarray:
    """An empty board, float64 ``(rows * size, columns * size, 3)``."""
    light = np.add.outer(np.arange(rows), np.arange(columns)) % 2 == 0
    tiles = np.where(light[..., None], np.float64(LIGHT), np.float64(DARK))
    return tiles.repeat(size, axis=0).repeat(size, axis=1)


@lru_cache(maxsize=8)
def _tile(size: int) -> tuple[np.ndarray, np.ndarray]:
    """How much of a rounded tile covers each pixel of a cell, and how bright it is there, ``(size, size)`` each."""
    half, corner = 0.44 * size, 0.16 * size
    x, y = _places(size)
    outside = np.hypot(np.maximum(np.abs(x) - half + corner, 0), np.maximum(np.abs(y) - half + corner, 0)) - corner
    return _faded(outside), 1.08 - 0.22 * (y / size + 0.5)


@lru_cache(maxsize=8)
def _disc(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for a disc that is lit from above."""
    x, y = _places(size)
    return _faded(np.hypot(x, y) - 0.36 * size), 1.15 - 0.5 * np.hypot(x / size + 0.12, y / size + 0.15)


def _places(size: int) -> tuple[np.ndarray, np.ndarray]:
    middle = np.arange(size) - (size - 1) / 2
    return middle[None, :] + np.zeros((size, 1)), middle[:, None] + np.zeros((1, size))


def _faded(outside: np.ndarray) -> np.ndarray:
    return np.clip(0.5 - outside / SOFT, 0, 1)
