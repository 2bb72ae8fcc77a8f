"""Moving pictures of agents, several side by side, as an mp4; no display is needed.

A panel is an agent at work in a domain. All panels of a film show the same seed's episodes, so that what differs is the
world or the agent, never luck.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simreal.evaluation import random_actions
from simreal_envs.engines.base import Player
from simreal_envs.errors import UserError
from simreal_envs.schema import Observation
from simreal_envs.variation import Domain, Interval
from simreal_envs.viewer import drawing
from simreal_envs.worlds import Worlds, make

if TYPE_CHECKING:
    from PIL.Image import Image

    from simreal_agents.bundle import Agent

FPS = 25
_HEAD, _FOOT = 58, 24  # pixels of the bands with title and parameters, and with time and return
_INK, _PAPER, _MUTED, _ALARM = (24, 30, 42), (250, 251, 253), (96, 104, 118), (196, 38, 50)


@dataclass(frozen=True)
class Panel:
    """An agent (None: uniformly random actions) at work in a domain, under a title."""

    title: str
    agent: Agent | None
    domain: Domain


def film(
    panels: Sequence[Panel],
    path: str | os.PathLike[str],
    *,
    seconds: float = 8.0,
    seed: int = 0,
    size: tuple[int, int] = (480, 360),
    renderer: str = "mujoco",
    report: Callable[[float, str], None] = lambda fraction, text: None,
) -> Path:
    """Write an mp4 (H.264, 25 frames/s) of all panels side by side; more than two make rows of two.

    Args:
        path: of the mp4; it appears complete or not at all.
        seconds: simulated time that is shown.
        seed: of the worlds: initial states and draws.
        size: width and height of one picture in pixels.
        renderer: ``"mujoco"`` draws every engine's states alike, payload, terrain and goals included; ``"engine"`` lets
            each engine draw its own world (Bullet: its software renderer).

    Raises:
        Unsupported: no OpenGL, or a world that cannot be drawn.
        UserError: nothing to show, or a file that cannot be written.
    """
    import imageio.v2 as imageio

    from simreal_agents.files import require_writable

    if not panels or not 0 < seconds <= 3600:
        raise UserError(
            f"a video needs at least one panel and more than 0 seconds, an hour at most, not {len(panels)} and {seconds:g}"
        )
    path = Path(path)
    require_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
    total = max(1, round(seconds * FPS))
    pictures = [_pictures(panel, total, seed, size, renderer) for panel in panels]
    try:
        # macro_block_size 2: H.264 wants even sizes, not multiples of 16.
        with imageio.get_writer(
            temporary, fps=FPS, codec="libx264", quality=None, macro_block_size=2, pixelformat="yuv420p",
            output_params=["-crf", "26", "-preset", "veryfast", "-movflags", "+faststart"], ffmpeg_log_level="error",
        ) as writer:  # fmt: skip
            for index, frames in enumerate(zip(*pictures, strict=True)):
                writer.append_data(_side_by_side(frames))
                report((index + 1) / total, f"frame {index + 1} of {total}")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        for one in pictures:
            one.close()
    return path


def _pictures(panel: Panel, total: int, seed: int, size: tuple[int, int], renderer: str) -> Iterator[np.ndarray]:
    """`total` captioned frames of a panel, 1 / FPS s apart, uint8 ``(height, width, 3)``."""
    worlds = make(panel.domain, 1, seed)
    try:
        worlds.progress = 1.0  # a curriculum is shown at its full width
        observation, _ = worlds.reset(seed=seed)
        act, draw = _policy(panel, worlds, seed), drawing(worlds, size, renderer)
        period, shown, elapsed, earned, ended = worlds.schema.control_period, 0, 0.0, 0.0, ""
        caption = _Caption(panel, worlds, size[0])
        while shown < total:
            if elapsed >= shown / FPS:
                yield caption.over(draw(), f"{elapsed:.1f} s   return {earned:.0f}", ended)
                shown += 1
                continue
            observation, reward, terminated, truncated, infos = worlds.step(act(observation))
            earned, elapsed = earned + float(reward[0]), elapsed + period
            if terminated[0] or truncated[0]:
                won = infos["outcome"]["s"][0]
                ended = f"last episode: {'failed' if terminated[0] else 'success' if won else 'no success'}"
                earned = 0.0
                caption.refresh()
    finally:
        worlds.close()


def _policy(panel: Panel, worlds: Worlds, seed: int) -> Callable[[Observation], np.ndarray]:
    if panel.agent is None:
        act = random_actions(worlds, np.random.default_rng(seed))
        return lambda observation: act()
    agent = panel.agent
    agent.schema.require_same(worlds.schema, "the agent", f"the domain {panel.domain.task!r}")
    agent = agent.at(worlds.schema)
    return lambda observation: agent.act(observation, deterministic=True)


class _Caption:
    """The bands around a picture: above title, engine (of a game, which) and what is not nominal; below time and return."""

    def __init__(self, panel: Panel, worlds: Worlds, width: int):
        from PIL import ImageFont

        self._panel, self._worlds, self._width = panel, worlds, width
        self._changes = any(isinstance(v.distribution, Interval) for v in worlds.varied)  # within an episode
        self._large, self._small = ImageFont.load_default(15), ImageFont.load_default(12)
        self.refresh()

    def refresh(self) -> None:
        """Read the parameters in force again: a new episode may have drawn new ones."""
        domain = self._panel.domain
        units = {v.parameter.name: v.parameter.unit for v in self._worlds.varied}
        values = [
            f"{name} {value[0]:.3g}{'' if units[name] == '1' else f' {units[name]}'}"
            for name, value in self._worlds.parameters().items()
        ]
        preset = "" if domain.preset == "matched" else f" {domain.preset}"
        game = isinstance(self._worlds.task.robot, Player)
        text = f"{domain.task if game else domain.engine}{preset}: {', '.join(values) or 'nominal'}"
        self._lines = _wrapped(text, self._width - 20, self._small)

    def over(self, picture: np.ndarray, corner: str, ended: str) -> np.ndarray:
        """The picture with its caption, uint8 ``(height + bands, width, 3)``."""
        from PIL import Image, ImageDraw

        if self._changes:
            self.refresh()
        height = picture.shape[0]
        canvas: Image = Image.new("RGB", (self._width, height + _HEAD + _FOOT), _PAPER)
        canvas.paste(Image.fromarray(picture), (0, _HEAD))
        pen = ImageDraw.Draw(canvas)
        pen.text((10, 4), self._panel.title, _INK, self._large)
        for index, line in enumerate(self._lines):
            pen.text((10, 24 + 15 * index), line, _MUTED, self._small)
        pen.text((10, height + _HEAD + 4), corner, _INK, self._small)
        if ended:
            colour = _ALARM if ended.endswith(("failed", "no success")) else _INK
            at = self._width - 10 - self._small.getlength(ended)
            pen.text((at, height + _HEAD + 4), ended, colour, self._small)
        return np.asarray(canvas)


def _wrapped(text: str, width: float, font: Any) -> list[str]:
    """At most two lines, broken after a comma; three dots stand for what does not fit."""
    lines, words = [""], text.split(", ")
    for index, word in enumerate(words):
        longer = f"{lines[-1]}, {word}" if lines[-1] else word
        room = font.getlength(longer + (", ..." if index + 1 < len(words) else ""))
        if room <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) == 1:
            lines[-1] += ","
            lines.append(word)
        else:
            lines[-1] += ", ..."
            break
    return lines


def _side_by_side(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames of equal size in rows of two, with a thin line between them."""
    columns = min(len(frames), 2)
    height, width, _ = frames[0].shape
    rows = -(-len(frames) // columns)
    sheet = np.full((rows * height + (rows - 1) * 2, columns * width + (columns - 1) * 2, 3), 210, dtype=np.uint8)
    if len(frames) % columns:
        sheet[-height:, width + 2 :] = _PAPER  # a place that nobody takes
    for index, frame in enumerate(frames):
        top, left = index // columns * (height + 2), index % columns * (width + 2)
        sheet[top : top + height, left : left + width] = frame
    return sheet[: sheet.shape[0] // 2 * 2, : sheet.shape[1] // 2 * 2]
