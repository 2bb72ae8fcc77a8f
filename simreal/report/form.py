"""The form of a report.json that somebody may have edited: of what a comparison reads, and no more."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simreal.report.words import VERDICTS
from simreal_envs.errors import UserError

Number = Annotated[float, Field(ge=-1e100, le=1e100)]  # as returns of curves are


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Effect(_Part):
    value: Number | None
    low: Number | None = None
    high: Number | None = None


class _Arm(_Part):
    source: str
    strategy: str
    target: str
    verdict: Literal[VERDICTS]
    area: _Effect
    jumpstart: _Effect | None = None
    asymptotic: _Effect | None = None
    final_return_raw: _Effect | None = None


class _Parameter(_Part):
    name: str
    text: str


class _Target(_Part):
    task: str
    engine: str | None = None
    preset: str | None = None
    parameters: list[_Parameter] | None = None


class _Scale(_Part):
    random: Number | None = None
    reference: Number | None = None


class _Curve(_Part):
    source: str
    strategy: str
    target: str
    env_steps: list[Number]
    return_mean: list[Number | None] | None = None
    stochastic_return_mean: list[Number | None] | None = None
    success_rate: list[Number | None] | None = None


class _Budget(_Part):
    seeds: int | None = None


class _Reproduce(_Part):
    command: str = ""
    config: str = ""


class _Report(_Part):
    experiment: str
    arms: list[_Arm]
    targets: dict[str, _Target] | None = None
    normalization: dict[str, _Scale] | None = None
    curves: list[_Curve] | None = None
    strategies: dict[str, str] | None = None
    budget: _Budget | None = None
    reproduce: _Reproduce | None = None


def require_report(data: Mapping[str, Any], name: str) -> None:
    """Raise a UserError for the first thing in a report, called `name`, that is of another form than ours.

    What is in it besides is nobody's business.
    """
    try:
        _Report.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place, says = ".".join(map(str, problem["loc"])), problem["msg"].replace("Input should be", "must be")
        raise UserError(
            f"{name} is not a report.json that simreal wrote: {place}: {says[0].lower()}{says[1:]}"
        ) from None
