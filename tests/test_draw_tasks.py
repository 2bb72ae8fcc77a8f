"""The contact sheet of tasks, where there is OpenGL to draw it with."""

import sys
from pathlib import Path

import numpy as np
import pytest

from simreal_envs.errors import Unsupported

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from draw_tasks import CAPTION, COLUMNS, GAP, HEIGHT, WIDTH, picture, sheet


def test_a_picture_shows_the_robot_and_the_sheet_has_room_for_all(tmp_path):
    try:
        robot = picture("pendulum_swingup", tmp_path, seed=0)
    except Unsupported as reason:
        pytest.skip(f"pictures cannot be tested: {reason}")
    assert robot.size == (WIDTH, HEIGHT) and len(np.unique(np.asarray(robot).reshape(-1, 3), axis=0)) > 50
    names = [f"task_{i}" for i in range(COLUMNS + 1)]
    canvas = sheet(dict.fromkeys(names, robot))
    assert canvas.size == (COLUMNS * (WIDTH + GAP) - GAP, 2 * (HEIGHT + CAPTION + GAP) - GAP)
    left, top = round(COLUMNS // 2 * (WIDTH + GAP)), HEIGHT + CAPTION + GAP  # the last one stands in the middle
    last = canvas.crop((left, top, left + WIDTH, top + HEIGHT))
    assert np.array_equal(np.asarray(last), np.asarray(robot))
    assert len(np.unique(np.asarray(canvas.crop((left, top + HEIGHT, left + WIDTH, top + HEIGHT + CAPTION))))) > 5
