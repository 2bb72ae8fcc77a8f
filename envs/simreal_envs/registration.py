"""Our tasks and their Gymnasium ids, registered when `simreal` or `simreal_envs` is imported. Free of heavy imports."""

from __future__ import annotations

import gymnasium

# Name that users type -> module:class in simreal_envs.tasks. One line makes a task known everywhere.
BUILT_IN = {
    "cartpole_swingup": "cartpole_swingup:CartpoleSwingup",
    "pendulum_swingup": "pendulum_swingup:PendulumSwingup",
    "reacher": "reacher:Reacher",
    "halfcheetah": "halfcheetah:HalfCheetah",
    "hopper": "hopper:Hopper",
    "walker": "walker:Walker",
    "ant": "ant:Ant",
    "arm_reach": "arm_reach:ArmReach",
    "arm_push": "arm_push:ArmPush",
    "quadruped": "quadruped:Quadruped",
    "quadruped_laikago": "quadruped:QuadrupedLaikago",
    "quadruped_mini_cheetah": "quadruped:QuadrupedMiniCheetah",
    "quadruped_rough": "quadruped:QuadrupedRough",
    "quadruped_laikago_rough": "quadruped:QuadrupedLaikagoRough",
}

# The same for games, in simreal_envs.games: tasks like all others, but for what has no robot.
GAMES = {
    "grid_catch": "catch:GridCatch",
    "grid_breaker": "breaker:GridBreaker",
    "grid_dodge": "dodge:GridDodge",
    "grid_invaders": "invaders:GridInvaders",
}


# Spelt as everybody knows it, which the name of the task does not tell.
_SPELT = {"halfcheetah": "HalfCheetah"}


def gymnasium_id(task: str) -> str:
    """The Gymnasium id of one of our tasks: ``cartpole_swingup`` -> ``simreal/CartpoleSwingup-v0``."""
    return f"simreal/{''.join(_SPELT.get(word, word[:1].upper() + word[1:]) for word in task.split('_'))}-v0"


IDS = {gymnasium_id(task): task for task in (*BUILT_IN, *GAMES)}
ANY = "simreal/Task-v0"  # with ``task=``: those of other packages as well


def register_envs() -> None:
    """Register every task once. ``gymnasium.make("simreal_envs:simreal/Quadruped-v0")`` needs no import of ours."""
    for name, given in {ANY: {}, **{name: {"task": task} for name, task in IDS.items()}}.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point="simreal_envs.gym:World",
                vector_entry_point="simreal_envs.gym:vector_worlds",
                kwargs=given,
            )
