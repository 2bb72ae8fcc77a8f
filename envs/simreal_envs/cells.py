"""A grid of parameter values in one set of worlds: every cell its own values, and the same episodes in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simreal_envs.errors import UserError
from simreal_envs.variation import Choice, Domain, Randomization, Startup
from simreal_envs.worlds import Worlds


class Cells(Worlds):
    """Worlds of a domain in which some parameters have given values, `episodes` of them for every cell.

    World i belongs to cell ``i // episodes``. All else that is drawn (initial states, sensor noise, other parameters) is that
    of world ``i % episodes``, so that cells differ by nothing but their values (common random numbers).

    Args:
        domain: what it says of those parameters itself does not count.
        values: all that each parameter may have, SI.
        cells: how many at a time.
        episodes: per cell.

    Raises:
        UserError: an unknown parameter, a value out of its bounds, or one that the engine does not support.
    """

    def __init__(
        self, domain: Domain, values: Mapping[str, Sequence[float]], cells: int, episodes: int, seed: int = 0, **options: Any
    ):  # fmt: skip
        self._episodes_per_cell = episodes
        others = {name: one for name, one in domain.variation.items if name not in values}
        swept = {name: Startup(Choice([float(one) for one in some])) for name, some in values.items()}
        domain = replace(domain, variation=Randomization({**others, **swept}))
        known = [varied.parameter.name for varied in domain.resolve()]
        for name in values:
            if name not in known:
                raise UserError(f"{name!r} stands for several parameters of {domain.task}; name one of them")
        super().__init__(domain, cells * episodes, seed, **options)

    def fix(self, values: Mapping[str, Sequence[float]]) -> None:
        """Give every cell its values ``(cells,)``, from the next `reset` with a seed on; a shorter list goes on from its start."""
        cells = self.num_envs // self._episodes_per_cell
        self.varied = tuple(
            replace(v, distribution=_Given(np.repeat(np.resize(values[name], cells), self._episodes_per_cell)))
            if (name := v.parameter.name) in values
            else v
            for v in self.varied
        )

    def _key(self) -> None:
        everyone = self._everyone
        self._everyone = everyone % self._episodes_per_cell
        super()._key()
        self._everyone = everyone


@dataclass(frozen=True)
class _Given(Startup):
    """One value for every world instead of one that is drawn."""

    of: Any  # (N,)

    def __init__(self, of: np.ndarray):
        object.__setattr__(self, "of", of)

    def values(self, u: np.ndarray, nominal: float) -> np.ndarray:
        # Asked once for all worlds in their order; what is asked for single episodes is overwritten with that.
        return np.resize(self.of, len(u))

    def bounds(self, nominal: float) -> tuple[float, float]:
        return float(self.of.min()), float(self.of.max())
