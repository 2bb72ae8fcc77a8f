"""Numbers in, verdict out: transfer metrics, intervals, the decision and its reasons. numpy and scipy only."""

from simreal.diagnostics.curves import Curves
from simreal.diagnostics.reasons import Reason
from simreal.diagnostics.statistics import Interval, bootstrap_interval, iqm, probability_of_improvement
from simreal.diagnostics.verdict import Verdict, diagnose, summarize

__all__ = [
    "Curves",
    "Interval",
    "Reason",
    "Verdict",
    "bootstrap_interval",
    "diagnose",
    "iqm",
    "probability_of_improvement",
    "summarize",
]
