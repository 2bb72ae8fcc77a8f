"""Gymnasium ids of our tasks, registered when `simreal` or `simreal_envs` is imported. Free of heavy imports."""

from __future__ import annotations

import gymnasium

IDS = {"simreal/CartpoleSwingup-v0": "cartpole_swingup", "simreal/Quadruped-v0": "quadruped"}


def register_envs() -> None:
    """Register every task once. ``gymnasium.make("simreal_envs:simreal/Quadruped-v0")`` needs no import of ours."""
    for name, task in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point="simreal_envs.gym:World",
                vector_entry_point="simreal_envs.gym:vector_worlds",
                kwargs={"task": task},
            )
