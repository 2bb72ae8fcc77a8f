"""Pretrained agents that come with the package: one bundle per folder beside this file, ``load("zoo:quadruped_dr")``."""

from __future__ import annotations

import os
from pathlib import Path

from simreal_agents import hub
from simreal_envs.errors import UserError, require_known

PREFIX = "zoo:"
FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The agents that there are."""
    return sorted(card.parent.name for card in FOLDER.glob("*/card.json"))


def require_path(bundle: object) -> None:
    """Raise a UserError unless `bundle` can be a path."""
    if not isinstance(bundle, str | os.PathLike):
        raise UserError(f"a bundle is a folder, as 'runs/agent', not {bundle!r}")


def located(bundle: str | Path) -> Path:
    """The folder that a bundle's name means: of an agent of the zoo for ``zoo:NAME``, of one that is downloaded from the
    Hugging Face Hub for ``hf:user/name``, else the name itself.

    Raises:
        UserError: for an agent that the zoo or the Hub does not have; says the nearest one of the zoo. For the folder of an
            arm; says which bundle is in it.
    """
    require_path(bundle)
    text = str(bundle)
    if text.startswith(hub.PREFIX):
        return hub.pull(text)
    if not text.startswith(PREFIX):
        folder, inner = Path(bundle), Path(bundle) / "agent"
        if not (folder / "card.json").exists() and (inner / "card.json").exists():
            raise UserError(f"{folder} is the folder of an arm, whose agent is the bundle {inner}")
        return folder
    return FOLDER / require_known(text.removeprefix(PREFIX), names(), "agent of the zoo")
