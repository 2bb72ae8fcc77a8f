"""Where the numbers of a run go while it runs, and after it.

The `Ledger` (metrics.jsonl) is the truth on disk and is always written; all others are mirrors made from it after the
fact, so that a slow or absent service never costs an experiment anything.

    base.py                  Tracker, what every sink offers; Silent, which does nothing
    ledger.py                Ledger, the file; `replay`, the file into any other tracker
    story.py                 what an experiment as a whole has to tell
    mirror.py                `mirror` a ledger, `mirror_experiment` with all its runs, each once
    wandb_tracker.py         WandbTracker: the only module that imports wandb
    tensorboard_tracker.py   TensorBoardTracker: event files
    csv_tracker.py           CsvTracker: tidy files for a spreadsheet
"""

from simreal.tracking.base import Silent, Tracker, TrackingError
from simreal.tracking.ledger import Ledger, replay

__all__ = ["Ledger", "Silent", "Tracker", "TrackingError", "replay"]
