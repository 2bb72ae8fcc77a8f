"""The spec of a robot that is a text in MuJoCo's format."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco


@dataclass(frozen=True)
class Mjcf:
    """Makes the spec of a text. Unlike a lambda it can go to other processes, and equals what arrives there."""

    text: str

    def __call__(self) -> mujoco.MjSpec:
        """A new spec, which may be changed."""
        return mujoco.MjSpec.from_string(self.text)
