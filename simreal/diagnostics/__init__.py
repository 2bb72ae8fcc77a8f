"""Numbers in, verdict out: transfer metrics, intervals, the decision and its reasons. numpy and scipy only."""

from simreal.diagnostics.across import across_targets
from simreal.diagnostics.curves import Curves
from simreal.diagnostics.diagnosis import diagnose, summarize
from simreal.diagnostics.family import Family, together
from simreal.diagnostics.planning import Plan, plan_seeds, power
from simreal.diagnostics.reasons import Reason
from simreal.diagnostics.sim_to_real import Predictivity, generalization, predictivity
from simreal.diagnostics.statistics import (
    Interval,
    bootstrap_interval,
    iqm,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from simreal.diagnostics.table import Columns, diagnose_arms, diagnose_files
from simreal.diagnostics.verdict import Verdict

__all__ = [
    "Columns",
    "Curves",
    "Family",
    "Interval",
    "Plan",
    "Predictivity",
    "Reason",
    "Verdict",
    "across_targets",
    "bootstrap_interval",
    "diagnose",
    "diagnose_arms",
    "diagnose_files",
    "generalization",
    "iqm",
    "optimality_gap",
    "performance_profile",
    "plan_seeds",
    "power",
    "predictivity",
    "probability_of_improvement",
    "summarize",
    "together",
]
