"""What the card of a bundle says: the types of all that is read from it, checked where it is written and where it is read.

What is not named here is its user's own, and may be any JSON data.
"""

from __future__ import annotations

from textwrap import shorten
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

_LARGEST = float(np.finfo(np.float32).max)
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Field(_Part):
    name: str
    unit: str
    labels: list[str]
    low: float | None  # of float64, where an environment's observations are
    high: float | None
    noise: Number = 0.0
    grid: list[PositiveInt] = []
    dtype: str = "float32"
    discrete: bool = False
    absent: list[str] = []


class _Action(_Field):
    low: Number | None
    high: Number | None


class _Schema(_Part):
    observation: list[_Field]
    action: list[_Action]
    control_period: Number


class _Hyperparameters(_Part):
    gamma: float = Field(0.99, ge=0.0, le=1.0)


class _Surgery(_Part):
    says: str


class _Imported(_Part):
    domain: dict[str, Any] | None = None


class _Card(_Part):
    speaks: _Schema = Field(alias="schema")
    network: dict[str, Any]
    versions: dict[str, str]
    hyperparameters: _Hyperparameters = _Hyperparameters()
    env_steps: NonNegativeInt | None = None
    domain: dict[str, Any] | None = None
    imported: _Imported = _Imported()
    surgery: _Surgery | None = None
    ancestors: list[dict[str, Any]] = []
    fingerprint: dict[str, list[float]] = {}


def trouble(card: Any) -> str:
    """The first key of a card whose value is none that could be read, and why; empty where all is well."""
    try:
        _Card.model_validate(card)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            return f"lacks {key}"
        said = first["msg"].removeprefix("Input ")
        said = "should be a mapping" if first["type"] in ("dict_type", "model_type") else said
        return f"{key} {said}, not {shorten(repr(first['input']), 80, placeholder='..')}"
    return ""
