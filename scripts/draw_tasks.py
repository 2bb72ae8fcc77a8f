"""Draw a contact sheet of all tasks, each a moment after its start.

    python scripts/draw_tasks.py [--agents runs/tasks] [--seed 2] [--out docs/images/tasks.png]

At work is the agent that `measure_tasks.py` has left in AGENTS/TASK/seed-0/agent; where there is none, a robot gets small
random actions. MuJoCo draws, no display is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simreal_envs.tasks import TASKS
from simreal_envs.variation import Domain
from simreal_envs.viewer import drawing
from simreal_envs.worlds import make

COLUMNS, WIDTH, HEIGHT, CAPTION, GAP = 5, 300, 225, 26, 4  # of a picture, its caption and the space between, in pixels
FINER = 3  # drawn so many times as large and then reduced: smooth edges
SECONDS = 2.0  # after the start
BEFORE_THE_GOAL = {
    "reacher": 0.1,
    "arm_reach": 0.2,
    "arm_push": 0.5,
}  # s; later the goal hides behind what has reached it
PAPER, INK = (250, 251, 253), (24, 30, 42)


def picture(task: str, agents: Path, seed: int) -> Image.Image:
    """The nominal world of a task some time after its start."""
    worlds = make(Domain(task), 1, seed)
    try:
        observation, _ = worlds.reset(seed=seed)
        act = policy(agents / task / "seed-0" / "agent", worlds.action_space.shape, seed)
        for _ in range(round(BEFORE_THE_GOAL.get(task, SECONDS) / worlds.schema.control_period)):
            observation = worlds.step(act(observation))[0]
        draw = drawing(worlds, (FINER * WIDTH, FINER * HEIGHT))
        return Image.fromarray(draw()).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    finally:
        worlds.close()


def policy(bundle: Path, shape: tuple[int, ...], seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Observations -> actions: a saved agent's, or small random ones where there is none."""
    if (bundle / "card.json").is_file():
        from simreal_agents.bundle import load

        agent = load(bundle)
        return lambda observation: agent.act(observation, deterministic=True)
    rng = np.random.default_rng(seed)
    return lambda observation: rng.uniform(-0.1, 0.1, shape)


def sheet(pictures: dict[str, Image.Image]) -> Image.Image:
    """Pictures with their captions in rows, the last row in the middle."""
    rows = -(-len(pictures) // COLUMNS)
    across, down = WIDTH + GAP, HEIGHT + CAPTION + GAP
    canvas = Image.new("RGB", (COLUMNS * across - GAP, rows * down - GAP), PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for index, (name, one) in enumerate(pictures.items()):
        row, column = divmod(index, COLUMNS)
        missing = COLUMNS - min(COLUMNS, len(pictures) - row * COLUMNS)
        left, top = round((column + missing / 2) * across), row * down
        canvas.paste(one, (left, top))
        pen.text((left + WIDTH / 2, top + HEIGHT + CAPTION / 2), name, INK, font, anchor="mm")
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--agents", type=Path, default=Path("runs/tasks"), help="where measure_tasks.py keeps its agents"
    )
    parser.add_argument("--seed", type=int, default=2, help="of initial states, goals and commands")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/images/tasks.png")
    options = parser.parse_args()
    pictures = {task: picture(task, options.agents, options.seed) for task in TASKS}
    sheet(pictures).save(options.out, optimize=True)
    print(options.out)


if __name__ == "__main__":
    main()
