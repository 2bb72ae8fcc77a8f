"""Draw our grid games side by side, each after some random steps.

python scripts/draw_games.py [--seed 3] [--out docs/images/games/grid.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simreal_envs.tasks import GAMES
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

SIDE, CAPTION, GAP, STEPS = 300, 26, 8, 12  # pixels; steps before the picture is taken
PAPER, INK = (250, 251, 253), (24, 30, 42)


def picture(game: str, seed: int) -> Image.Image:
    """The first world of a game after `STEPS` random steps."""
    worlds, rng = make(Domain(game), 1, seed, autoreset="Disabled"), np.random.default_rng(seed)
    worlds.reset()
    for _ in range(STEPS):
        worlds.step(rng.integers(worlds.schema.choices, size=1))
    return Image.fromarray(worlds.engine.render(0, SIDE, SIDE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/images/games/grid.png")
    options = parser.parse_args()
    canvas = Image.new("RGB", (len(GAMES) * (SIDE + GAP) - GAP, SIDE + CAPTION), PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for index, game in enumerate(GAMES):
        left = index * (SIDE + GAP)
        canvas.paste(picture(game, options.seed), (left, 0))
        pen.text((left + SIDE / 2, SIDE + CAPTION / 2), game, INK, font, anchor="mm")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(options.out, optimize=True)
    print(options.out)


if __name__ == "__main__":
    main()
