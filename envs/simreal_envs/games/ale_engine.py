"""Atari consoles as the worlds of an engine: frame skip, sticky actions, lives and the stack of frames that is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from simreal_envs.fleets import Fleets
from simreal_envs.games.ale_consoles import FIRE, NOOP, Consoles
from simreal_envs.games.common import GameEngine, keys

if TYPE_CHECKING:
    from simreal_envs.games.ale import AtariGame

LONGEST = 8  # frames that one action may last
FRAMES_PER_SECOND = 60.0
FLAVOUR = ("mode", "difficulty")  # Machado et al. (2018), section 6: what makes a game another one
_STACKED = np.dtype("<u4")  # four grey frames of a pixel, the oldest in the lowest byte: first in memory
_SAME = np.uint32(0x01010101)
_BYTE, _NEWEST = np.uint32(8), np.uint32(24)  # bits


class AtariEngine(GameEngine):
    """See `GameEngine`.

    With ``lives/terminal`` an episode ends with a life, and the reset that follows at once goes on where the life was lost,
    after one step in which nothing is pressed (Stable-Baselines3's EpisodicLifeEnv), or FIRE where ``fire_at_start`` says so
    (its FireResetEnv): what happens in such an episode depends on the one before. Every other reset begins a new game, which
    is a function of its draws alone.

    Attributes:
        readings: ``observation`` uint8 ``(N, side * side * 4)``; of the last step ``score``, ``clipping`` and ``sign`` (what
            clipping and the sign of the reward add to the score), ``over`` and ``cut`` (bool); ``lives``; ``(N,)`` each.
    """

    name: ClassVar[str] = "ale"

    def __init__(self, game: AtariGame, preset: str, num_worlds: int, num_workers: int):
        super().__init__(game.robot, num_worlds, {p.name: p.nominal for p in game.own} | dict(game.PRESETS[preset]))
        self.game = game
        self._pressed = np.full(num_worlds, NOOP)  # in the last frame
        self._frames = np.zeros(num_worlds, dtype=np.int64)  # of the running game
        self._goes_on = np.zeros(num_worlds, dtype=bool)  # a life was lost in the last step, and there are more
        # Modes and difficulties of the running games, (N, 2).
        self._flavours = np.array([self._values[name] for name in FLAVOUR]).T.astype(np.int64)
        self._stack = np.zeros((num_worlds, game.side**2), _STACKED)
        self._planes = self._stack.view(np.uint8).reshape(num_worlds, -1, 4)
        self.readings: dict[str, np.ndarray] = {
            "observation": self._stack.view(np.uint8), "over": self._whole.copy(), "cut": self._whole.copy(),
            "lives": np.zeros(num_worlds, dtype=np.int64),
            **{name: np.zeros(num_worlds) for name in ("score", "clipping", "sign")},
        }  # fmt: skip
        self._consoles = Fleets(Consoles, (game.rom, game.side), num_worlds, num_workers)

    def read(self, parameter: str) -> np.ndarray:
        """See `Engine`: mode and difficulty as the emulators tell them."""
        if parameter in FLAVOUR:
            return self._flavours[:, FLAVOUR.index(parameter)].astype(np.float64)
        return super().read(parameter)

    def begin_anew(self) -> None:
        """Let the next resets begin new games even where a life was lost."""
        self._goes_on[:] = False

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        ids = np.asarray(ids)
        self.qpos[ids] = qpos
        self._draws.resume(ids, keys(qpos))
        self._steps[ids] = 0
        for name in ("score", "clipping", "sign", "over", "cut"):
            self.readings[name][ids] = 0
        going = self._goes_on[ids]
        self._goes_on[ids] = False
        fresh, going = ids[~going], ids[going]
        if len(going):
            fresh = np.union1d(fresh, going[self._open(going)])
        if len(fresh):
            self._start(fresh)
            firing = fresh[self._values["fire_at_start"][fresh] > 0]
            if len(firing):
                self._open(firing)
        self._stack[ids] = (self._stack[ids] >> _NEWEST) * _SAME

    def _open(self, ids: np.ndarray) -> np.ndarray:
        """Let games pass one action before an episode is seen, with FIRE pressed or nothing; whether they are over, ``(n,)``."""
        pressed = np.where(self._values["fire_at_start"][ids] > 0, FIRE, NOOP)
        return self._play(ids, self._timed(np.repeat(pressed[:, None], LONGEST, axis=1), ids))[1]

    def _start(self, ids: np.ndarray) -> None:
        """Begin new games."""
        most, share = self._values["noop_max"][ids], self._draws.take(ids).uniform("noop_max#start")[:, 0]
        noops = np.ceil(share * np.rint(most)).astype(np.int64)
        flavours = (self._values[name][ids].astype(np.int64) for name in FLAVOUR)
        answers = self._consoles.some("start", ids, *flavours, noops)
        frames, lives, self._flavours[ids] = (np.concatenate(column) for column in zip(*answers, strict=True))
        self._see(ids, frames)
        self._pressed[ids], self._frames[ids], self.readings["lives"][ids] = NOOP, noops, lives

    def step(self, control: np.ndarray, substeps: int) -> None:
        values, readings = self._values, self.readings
        idle = readings["over"] | readings["cut"]  # these stay where they are until their reset
        ids, before, over = np.flatnonzero(~idle), readings["lives"].copy(), readings["over"].copy()
        wanted = self.game.keys[values["action/mirrored"].astype(np.intp), control[:, 0].astype(np.intp)]
        pressed = np.repeat(wanted[:, None], LONGEST, axis=1)
        if values["sticky"].any():
            repeated = self._draws.uniform("sticky#frame", LONGEST, self._steps) < values["sticky"][:, None]
            last = self._pressed
            for frame in range(LONGEST):  # Machado et al. (2018, JAIR 61), section 5.2
                last = pressed[:, frame] = np.where(repeated[:, frame], last, pressed[:, frame])
        score = np.zeros(self.num_worlds)
        if len(ids):
            score[ids], over[ids] = self._play(ids, self._timed(pressed[ids], ids))
        self._steps += 1
        clipped = np.where(values["reward/clipped"] > 0, np.sign(score), score)
        lost = (readings["lives"] < before) & (readings["lives"] > 0) & (values["lives/terminal"] > 0)
        cut = self._frames >= np.rint(FRAMES_PER_SECOND * values["time_limit"])
        self._goes_on = np.where(idle, self._goes_on, lost & ~over & ~cut)
        readings |= {
            "score": score, "clipping": clipped - score, "sign": (values["reward/sign"] - 1) * clipped,
            "over": over | lost, "cut": cut,
        }  # fmt: skip

    def _timed(self, pressed: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """What is pressed in the frames that one step of some worlds has, see `Consoles.play`."""
        frames = self._values["frame_skip"][ids].astype(np.int64)
        self._pressed[ids] = pressed[np.arange(len(ids)), frames - 1]
        self._frames[ids] += frames
        return np.where(np.arange(LONGEST) < frames[:, None], pressed, -1).astype(np.int8)

    def _play(self, ids: np.ndarray, pressed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points and which games are over, ``(n,)`` each."""
        answers = self._consoles.some("play", ids, pressed)
        frames, score, lives, over = (np.concatenate(column) for column in zip(*answers, strict=True))
        self._see(ids, frames)
        self.readings["lives"][ids] = lives
        return score, over

    def _see(self, ids: np.ndarray, frames: np.ndarray) -> None:
        """Put new frames, uint8 ``(n, side * side)``, on top of what is seen."""
        for name, axis in (("observation/upside_down", 1), ("observation/mirrored", 2)):
            if (chosen := self._values[name][ids] > 0).any():
                pictures = frames[chosen].reshape(-1, self.game.side, self.game.side)
                frames[chosen] = np.flip(pictures, axis).reshape(len(pictures), -1)
        if (chosen := self._values["observation/inverted"][ids] > 0).any():
            frames[chosen] = 255 - frames[chosen]
        rows = slice(None) if len(ids) == self.num_worlds else ids  # a copy the less
        self._stack[rows] >>= _BYTE
        self._planes[rows, :, -1] = frames

    def snapshot(self) -> dict[str, np.ndarray]:
        states = [state for part in self._consoles.all("states") for state in part]
        kept, untouched, pictures = zip(*states, strict=True)
        lengths = np.array([len(state) for state in kept])
        consoles = np.array([np.frombuffer(state.ljust(lengths.max(), b"\0"), np.uint8) for state in kept])
        arrays = {
            "qpos": self.qpos, "steps": self._steps, "pressed": self._pressed, "frames": self._frames,
            "goes_on": self._goes_on, "flavours": self._flavours, "consoles": consoles,
            "lengths": lengths, "untouched": np.array(untouched), "pictures": np.array(pictures),
            **{f"reading/{name}": value for name, value in self.readings.items()},
            **{f"value/{name}": value for name, value in self._values.items()},
        }  # fmt: skip
        return {name: value.copy() for name, value in arrays.items()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        for name in ("steps", "pressed", "frames", "goes_on", "flavours"):
            getattr(self, f"_{name}")[:] = snapshot[name]
        self.qpos[:] = snapshot["qpos"]
        for name, value in self.readings.items():
            value[:] = snapshot[f"reading/{name}"]
        for name, value in self._values.items():
            value[:] = snapshot[f"value/{name}"]
        rows = zip(*(snapshot[name] for name in ("consoles", "lengths", "untouched", "pictures")), strict=True)
        states = [(row[:length].tobytes(), bool(fresh), picture) for row, length, fresh, picture in rows]
        self._consoles.call("put", [(states[rows],) for rows in self._consoles.rows])
        self._draws.resume(self._everyone, keys(self.qpos))

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        """See `Engine`: the screen as it was made for television sets, 4 wide and 3 high."""
        screen = self._consoles.one("picture", world)
        wide, high = min(width, height * 4 // 3), min(height, width * 3 // 4)
        rows, columns = np.arange(high) * len(screen) // high, np.arange(wide) * screen.shape[1] // wide
        canvas = np.zeros((height, width, 3), np.uint8)
        top, left = (height - high) // 2, (width - wide) // 2
        canvas[top : top + high, left : left + wide] = screen[rows][:, columns]
        return canvas

    def close(self) -> None:
        self._consoles.close()
