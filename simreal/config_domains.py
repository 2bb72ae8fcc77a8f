"""A domain in a config: a source or a target, with all that is said of its worlds."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, model_validator

from simreal.config_strategies import OneStrategy
from simreal.hyperparameters import Float, Int, Name, Section, or_empty
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    from simreal_envs.variation import Domain


class CurriculumConfig(Section):
    """A linear widening of the randomization while pretraining."""

    start: Float = Field(0.0, ge=0, le=1, description="Share of the full randomization at the beginning.")
    until: Float = Field(0.5, gt=0, le=1, description="Share of pretraining after which the randomization is full.")


class ObserveConfig(Section):
    """What agents see beyond the task's own observation."""

    history: Int = Field(1, ge=1, le=10_000, description="Steps of which they see the observation (1: the present).")
    actions: StrictBool = Field(False, description="Whether they see the actions of the past steps, too.")
    rewards: StrictBool = Field(False, description="Whether they see the rewards of the past steps, too.")
    parameters: Literal["all"] | tuple[str, ...] = Field(
        (), description="Parameters whose values in this world they know: names, patterns, or all that vary."
    )
    trial: Int = Field(1, ge=1, le=10_000, description="Episodes over which a history goes on.")


class BridgeConfig(Section):
    """In which terms a game is shown and played, so that agents of one game fit another."""

    channels: Literal["native", "union", "padding"] = Field(
        "native",
        description="The game's own channels, one vocabulary for all games, or the own ones padded with zeros to as many.",
    )
    actions: Literal["native", "union"] = Field(
        "native", description="The game's own choices, or those of all games, of which absent ones are never chosen."
    )


class DomainConfig(Section):
    """A domain: task, engine and how the world differs from nominal."""

    task: Annotated[str, Field(min_length=1)] = Field(description="What is to be done; default: the experiment's task.")
    engine: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="What computes the world; by default the first that the task runs on, mujoco for ours."
    )
    preset: str | None = Field(
        None,
        description="matched or engine_default: settings that agree across engines, or each engine's own; "
        "of Atari games machado18 or nature15; by default the first.",
    )
    variation: Annotated[dict[str, Any], BeforeValidator(or_empty)] = Field(
        default_factory=dict, description="Parameters that differ from nominal: numbers (SI) or distributions."
    )
    observe: ObserveConfig | None = Field(
        None, description="What agents see beyond the task's own observation (null: nothing)."
    )
    bridge: BridgeConfig | None = Field(
        None, description="In which terms a game is shown and played; default: the experiment's bridge."
    )


class SourceConfig(DomainConfig):
    """A domain to pretrain in."""

    steps: Int = Field(200_000, ge=1, le=10**11, description="Steps of experience for pretraining.")
    curriculum: CurriculumConfig | None = Field(None, description="Widen the randomization during pretraining.")
    strategy: OneStrategy = Field(
        None, description="How to pretrain: a name, its settings beside `type`, or a list (null: plainly)."
    )

    @model_validator(mode="after")
    def _curriculum_widens_something(self) -> "SourceConfig":
        if self.curriculum and not self.variation:
            raise ValueError("a curriculum needs a variation to widen")
        return self


class TargetConfig(DomainConfig):
    """A domain to transfer to."""

    steps: Int = Field(60_000, ge=1, le=10**11, description="Steps of target experience of every arm.")
    sources: tuple[Name, ...] | None = Field(
        None, min_length=1, description="The sources whose agents are moved here (null: all)."
    )


def domain_of(spec: DomainConfig, where: str = "") -> "Domain":
    """Return the domain that a source (with its curriculum) or a target describes.

    Args:
        where: begins error sentences ("quickstart.yaml:12: targets.heavy").

    Raises:
        UserError: an unknown task, engine or parameter, or a value out of bounds.
    """
    from simreal_envs.variation.domain import KEYS, Domain

    try:
        return Domain.from_dict(spec.model_dump(include={*KEYS}), f"{where}.variation" if where else "variation")
    except UserError as error:
        if not where or str(error).startswith(where):
            raise
        raise type(error)(f"{where}: {error}") from None
