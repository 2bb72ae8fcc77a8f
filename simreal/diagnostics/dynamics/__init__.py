"""Does a target move as the source did, and if not, which single fault explains it?

A one-step model of the source, ``s' - s = f(s) + G(s) a``, is fitted to the agent's own transitions there and asked about its
transitions in the target. Its error says which fields move wrongly. Then every single fault that an interface between a
robot and its policy may have (a reversed or swapped command, a delay, a sensor with an offset or gain) is undone in the
target's data: the one that makes the excess error disappear is the likely cause; what none explains is the dynamics itself.

An agent that fails visits other states than before, where a fitted model says anything. So errors are judged where the source
knows its way: by the leverage of a state's features, against the held-out errors of source states of the same leverage.

    steps.py       transitions, and what their columns are called
    regression.py  ridge regression held out by episodes, the distribution of its errors, robust fits
    model.py       the model of the source's steps; reward.py that of its rewards
    hypotheses.py  a fault, and how it is undone
    faults.py      which are tried; judge.py what they make of the target's transitions
    explain.py     the causes
    sizes.py       changes of another size, which errors alone may not show
"""

from simreal.diagnostics.dynamics.explain import Causes, causes
from simreal.diagnostics.dynamics.hypotheses import Hypothesis
from simreal.diagnostics.dynamics.model import OneStepModel
from simreal.diagnostics.dynamics.reward import RewardModel
from simreal.diagnostics.dynamics.sizes import response
from simreal.diagnostics.dynamics.steps import Names, Steps, beginnings, starts

__all__ = [
    "Causes",
    "Hypothesis",
    "Names",
    "OneStepModel",
    "RewardModel",
    "Steps",
    "beginnings",
    "causes",
    "response",
    "starts",
]
