"""simreal: does the transferred agent help, does it hurt, and why?

    import simreal as sr

    source = sr.Domain("cartpole_swingup", variation=sr.Randomization({"pole/mass": sr.Uniform(0.5, 1.5)}))
    target = sr.Domain("cartpole_swingup", engine="bullet", variation=sr.Shift({"pole/mass": 2.0}))
    agent = sr.pretrain(source, steps=200_000, seed=0)
    run = sr.transfer(agent, target, sr.FineTune(), steps=50_000, seed=0)

Names are imported when they are first used, so `import simreal` is cheap. It registers the Gymnasium ids ``simreal/...``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import simreal_envs

__version__ = "0.1.0"

_WHERE = {
    "simreal_envs.variation": (
        "Choice", "Constant", "Curriculum", "Domain", "Interval", "LogUniform", "Normal", "Observe", "Randomization", "Scale", "Shift",
        "Startup", "Uniform",
    ),
    "simreal_envs.worlds": ("Worlds", "make"),
    "simreal_envs.errors": ("Unsupported", "UserError"),
    "simreal_envs.tasks": ("Task", "check_task", "find_task"),
    "simreal_envs.engines.check": ("check_engine",),
    "simreal_agents.bundle": ("Agent", "load", "save"),
    "simreal_agents.surgery": ("Surgery", "fit"),
    "simreal_agents.vecenv": ("SB3Worlds",),
    "simreal.early": ("EarlyWarning",),
    "simreal.learner": ("Learning",),
    "simreal.one_arm": ("Run",),
    "simreal.training": ("pretrain", "transfer"),
    "simreal.evaluation": ("Evaluation", "evaluate"),
    "simreal.robustness": ("Sweep", "sweep"),
    "simreal.strategies": (
        "AdaptiveNormalization", "Augmentation", "ChannelAdapter", "Combination", "Coral", "CriticWarmup", "Dann", "Darc", "Distill",
        "Dropout", "EPOpt", "EWC", "FineTune", "FrozenEncoder", "GradualUnfreeze", "ImportanceWeighting",
        "Kickstart", "L2SP", "LayerwiseLR", "LinearAlignment", "LinearProbe", "LowRank", "Mmd", "ModelStacking",
        "MultiSource", "MultiTask", "NetworkSurgery", "PCGrad", "Privileged", "Progressive", "RARL", "RL2",
        "RandomEncoder", "Reptile", "ResetDistill", "Scratch", "SelfSupervised", "SelfSupervisedTarget",
        "SourceMix", "SourceReplay", "Strategy", "Tca", "TeacherStudent", "TopLayers", "WeightAverage", "ZeroShot",
        "make_strategy",
    ),
    "simreal.check": ("check_strategy",),
    "simreal.memory": ("record",),
    "simreal.signals": ("examine",),
    "simreal.compare": ("diagnose",),
    "simreal.diagnostics": ("Curves", "Verdict"),
}  # fmt: skip
_HOME = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'simreal' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


if TYPE_CHECKING:
    from simreal.compare import diagnose
    from simreal.diagnostics import Curves, Verdict
    from simreal.early import EarlyWarning
    from simreal.evaluation import Evaluation, evaluate
    from simreal.learner import Learning
    from simreal.check import check_strategy
    from simreal.memory import record
    from simreal.robustness import Sweep, sweep
    from simreal.signals import examine
    from simreal.strategies import (
        AdaptiveNormalization, Augmentation, ChannelAdapter, Combination, Coral, CriticWarmup, Dann, Darc, Distill,
        Dropout, EPOpt, EWC, FineTune, FrozenEncoder, GradualUnfreeze, ImportanceWeighting, Kickstart, L2SP, LayerwiseLR,
        LinearAlignment, LinearProbe, LowRank, Mmd, ModelStacking, MultiSource, MultiTask, NetworkSurgery,
        PCGrad, Privileged, Progressive, RARL, RL2, RandomEncoder, Reptile, ResetDistill, Scratch,
        SelfSupervised, SelfSupervisedTarget, SourceMix, SourceReplay, Strategy, Tca, TeacherStudent, TopLayers,
        WeightAverage, ZeroShot, make_strategy,
    )  # fmt: skip
    from simreal.one_arm import Run
    from simreal.training import pretrain, transfer
    from simreal_agents.bundle import Agent, load, save
    from simreal_agents.surgery import Surgery, fit
    from simreal_agents.vecenv import SB3Worlds
    from simreal_envs.engines.check import check_engine
    from simreal_envs.errors import Unsupported, UserError
    from simreal_envs.tasks import Task, check_task, find_task
    from simreal_envs.variation import (
        Choice, Constant, Curriculum, Domain, Interval, LogUniform, Normal, Observe, Randomization, Scale, Shift, Startup,
        Uniform,
    )  # fmt: skip
    from simreal_envs.worlds import Worlds, make
