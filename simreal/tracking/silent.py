"""The tracker that keeps nothing, so that training code needs no `if tracker is not None`."""

from simreal.tracking.base import Tracker


class Silent(Tracker):
    """A tracker that does nothing."""
