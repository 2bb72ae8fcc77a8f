"""One file per robot: its model and the facts about it."""
