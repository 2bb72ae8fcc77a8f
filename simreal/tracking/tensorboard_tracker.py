"""TensorBoard event files, written with torch's writer. Needs the extra `simreal[tensorboard]`, and only when it is used."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simreal_envs.errors import UserError

MOST_ROWS = 200  # of a table: TensorBoard shows tables as text


def require_tensorboard() -> None:
    """Raise a UserError with the command that installs TensorBoard, where it is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("tracking.tensorboard: tensorboard is not installed; pip install 'simreal[tensorboard]'")


class TensorBoardTracker:
    """A tracker that writes one run of TensorBoard: scalars over environment steps, everything else as text.

    Args:
        folder: of this run; one that is there already is replaced when the tracker is closed.

    Raises:
        UserError: see `require_tensorboard`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._folder = Path(folder)
        self._writer = SummaryWriter(str(folder))
        self._step = 0

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record scalars at `step` (environment steps)."""
        self._step = int(step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, self._step)

    def summary(self, mapping: Mapping[str, Any]) -> None:
        """Record facts as a table of two columns."""
        self.table("summary", ("name", "value"), list(mapping.items()))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table as Markdown, its first `MOST_ROWS` rows; it says how many there are."""
        lines = [columns, ["---"] * len(columns), *rows[:MOST_ROWS]]
        text = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
        more = f"\n\nand {len(rows) - MOST_ROWS:,} more rows" if len(rows) > MOST_ROWS else ""
        self._writer.add_text(name, text + more, self._step)

    def curves(self, name: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
        """TensorBoard itself draws scalars of one name in one chart, over all runs."""

    def file(self, name: str, path: Path) -> None:
        """TensorBoard shows neither films from files nor pages."""

    def alert(self, title: str, text: str) -> None:
        """Record an alert as text."""
        self._writer.add_text(f"alerts/{title}", text, self._step)

    def close(self) -> None:
        """Write everything to disk. May be called again."""
        self._writer.close()
        for file in self._folder.glob("events.out.tfevents.*"):
            file.replace(self._folder / "events.out.tfevents.0")  # the name would tell the machine's


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
