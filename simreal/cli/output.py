"""What several verbs print: a result on stdout, progress and notes on stderr."""

from __future__ import annotations

import json as jsonlib
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def print_json(data: Any) -> None:
    """One JSON object or list, without what only Python reads, like NaN."""
    print(jsonlib.dumps(data, indent=1, allow_nan=False))


def tell(result: dict[str, Any], json: bool) -> None:
    """Print a small result: as JSON, or as one line per entry, intervals in brackets."""
    if json:
        return print_json(result)
    for key, value in result.items():
        if isinstance(value, dict):
            value = (
                f"{value['value']:.4g}  [{value['low']:.4g}, {value['high']:.4g}]"
                if value["low"] is not None
                else value["value"]
            )
        print(f"{key:<14} {value:.4g}" if isinstance(value, float) else f"{key:<14} {value}")


def note(sentence: str) -> None:
    """Say on stderr what is worth knowing and no mistake."""
    print(f"note: {sentence}", file=sys.stderr)


@contextmanager
def shown(name: str) -> Iterator[Callable[[float, str], None]]:
    """Show the progress of one piece of work on stderr, with its remaining time, from its first report on.

    What is refused before that is a mistake of the user, whose sentence stands alone.
    """
    from simreal.progress import Item, progress_to

    progress, said = progress_to(), []

    def report(fraction: float, text: str) -> None:
        if not said:
            progress.begin([Item(name, name, 1.0, 1.0, False)], 1)
            progress.start(name)
        said.append(text)
        progress.report(name, fraction, text)
        progress.tick()

    try:
        yield report
        if said:
            progress.finish(name, said[-1])
    finally:
        if said:
            progress.close()


def command() -> str:
    """The command as it was typed."""
    return shlex.join(["simreal", *sys.argv[1:]])
