"""Draw our grid games side by side, and MinAtar's (`pip install 'simreal[games]'`), each after some random steps.

python scripts/draw_games.py [--out docs/images/games]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simreal_envs.games.minatar_rules import LABELS
from simreal_envs.tasks import GAMES
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

SIDE, CAPTION, GAP = 300, 26, 8  # pixels
# File -> games, seed, and random steps before the picture is taken: Seaquest's sea is empty at first.
PICTURES = {"grid": (list(GAMES), 3, 12), "minatar": ([f"minatar:{game}" for game in LABELS], 50, 45)}
PAPER, INK = (250, 251, 253), (24, 30, 42)


def picture(game: str, seed: int, steps: int = 12) -> Image.Image:
    """The first world of a game after some random steps."""
    worlds, rng = make(Domain(game), 1, seed, autoreset="Disabled"), np.random.default_rng(seed)
    worlds.reset()
    for _ in range(steps):
        worlds.step(rng.integers(worlds.schema.choices, size=1))
    return Image.fromarray(worlds.engine.render(0, SIDE, SIDE))


def side_by_side(games: list[str], seed: int, steps: int) -> Image.Image:
    """Pictures of games, with their names."""
    canvas = Image.new("RGB", (len(games) * (SIDE + GAP) - GAP, SIDE + CAPTION), PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for index, game in enumerate(games):
        left = index * (SIDE + GAP)
        canvas.paste(picture(game, seed, steps), (left, 0))
        pen.text((left + SIDE / 2, SIDE + CAPTION / 2), game, INK, font, anchor="mm")
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/images/games")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, settings in PICTURES.items():
        side_by_side(*settings).save(options.out / f"{name}.png", optimize=True)
        print(options.out / f"{name}.png")


if __name__ == "__main__":
    main()
