"""Rough ground: a field of heights in place of the plane, the same in every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.ndimage import gaussian_filter

from simreal_envs.errors import UserError


@dataclass(frozen=True)
class Terrain:
    """Rough ground: a field of heights in place of the plane, the same in every engine.

    The heights are smooth random numbers between -roughness and roughness, a function of the seed alone. Around the
    origin, where robots start, the ground is level at z = 0.

    Attributes:
        size: extent along x and y in m, centred at the origin.
        resolution: distance of neighbouring heights in m.
        roughness: nominal amplitude in m; the parameter ``terrain/roughness`` changes it world by world.
        roughest: largest amplitude in m.
        wavelength: distance in m over which heights are alike.
        flat: radius in m of the level ground around the origin; over one more wavelength it becomes rough.
        seed: of the heights.
    """

    STEP: ClassVar[float] = 0.005  # m; amplitudes are multiples of it

    size: tuple[float, float] = (12.0, 8.0)
    resolution: float = 0.1
    roughness: float = 0.04
    roughest: float = 0.12
    wavelength: float = 0.5
    flat: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("roughness", "roughest"):
            value = getattr(self, name)
            if value < 0 or abs(value / self.STEP - round(value / self.STEP)) > 1e-6:
                raise UserError(f"a terrain's {name} must be a multiple of {self.STEP:g} m, not {value:g}")
        if not (
            self.resolution > 0 and min(self.size) >= self.resolution and 0 <= self.flat < np.hypot(*self.size) / 2
        ):
            raise UserError(
                f"a terrain of {self.size[0]:g} m x {self.size[1]:g} m with heights every {self.resolution:g} m and level ground "
                f"up to {self.flat:g} m from the origin has none that could be rough"
            )
        if not self.roughness <= self.roughest > 0:
            raise UserError(
                f"a terrain's roughness ({self.roughness:g} m) must not exceed its roughest ({self.roughest:g} m)"
            )

    def heights(self) -> np.ndarray:
        """Heights at amplitude 1, float64 ``(rows along y, columns along x)``: from exactly -1 to exactly 1, 0 at the start."""
        columns, rows = (round(extent / self.resolution) + 1 for extent in self.size)
        noise = np.random.default_rng(self.seed).standard_normal((rows, columns))
        heights = gaussian_filter(noise, 0.5 * self.wavelength / self.resolution, mode="nearest")
        y, x = np.meshgrid(*(self.resolution * (np.arange(n) - (n - 1) / 2) for n in (rows, columns)), indexing="ij")
        away = np.clip((np.hypot(x, y) - self.flat) / self.wavelength, 0.0, 1.0)
        heights = (heights - heights.mean()) * away**2 * (3 - 2 * away)
        return np.where(heights > 0, heights / heights.max(), heights / -heights.min())

    def amplitudes(self) -> np.ndarray:
        """All the amplitudes that there are, in m: 0 to `roughest`."""
        return self.STEP * np.arange(round(self.roughest / self.STEP) + 1)

    @classmethod
    def level(cls, roughness: np.ndarray | float) -> np.ndarray:
        """Index of the nearest amplitude, the same in every engine also where two are as near."""
        return np.rint(np.asarray(roughness) / cls.STEP).astype(int)
