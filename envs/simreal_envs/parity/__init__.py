"""Do two engines agree, and where not, and why: `run` for a task, `compare` for any two engines.

bench -> identify -> causes       what each engine simulates, joint by joint, and how that differs
bench -> probes -> measure        what both do in the same situation, beside the same robot with 10 % more mass
compare                           both together; results: plain data
"""

from simreal_envs.parity.bench import heavier
from simreal_envs.parity.causes import Cause
from simreal_envs.parity.compare import ENGINES, compare, run
from simreal_envs.parity.results import AGREE, DIFFERS, MORE, VERDICTS, Channel, Comparison, Number, ProbeResult, Report

__all__ = [
    "AGREE", "DIFFERS", "ENGINES", "MORE", "VERDICTS", "Cause", "Channel", "Comparison", "Number", "ProbeResult", "Report",
    "compare", "heavier", "run",
]  # fmt: skip
