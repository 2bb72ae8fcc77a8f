"""Where the numbers of a run go while it runs, and after it.

The `Ledger` (metrics.jsonl) is the truth on disk and is always written; Weights & Biases is a mirror made from it
after the fact, so that a slow or absent service never costs an experiment anything.

    base.py           Tracker, what every sink offers; Fanout, one that feeds several
    ledger.py         Ledger, the file; `replay`, the file into any other tracker
    wandb_tracker.py  WandbTracker, `mirror`, `mirror_experiment`: the only module that imports wandb
    silent.py         Silent, which does nothing
"""

from simreal.tracking.base import Fanout, Tracker, TrackingError
from simreal.tracking.ledger import Ledger, replay
from simreal.tracking.silent import Silent

__all__ = ["Fanout", "Ledger", "Silent", "Tracker", "TrackingError", "replay"]
