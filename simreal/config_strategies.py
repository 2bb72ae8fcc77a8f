"""A strategy in a config, in any form in which one would write it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from simreal.hyperparameters import Name, Section, or_empty


class StrategyConfig(Section):
    """How an agent is moved across. In YAML the settings stand beside `type`."""

    type: str | tuple[str | dict[str, dict[str, Any]], ...] = Field(
        description="The strategy, or a list of names and {name: settings}; default: the name it is given in the config."
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="What this strategy may be told.")
    sources: tuple[Name, ...] | None = Field(
        None, min_length=2, description="The sources of a strategy that learns from several (null: all)."
    )
    teacher: Name | None = Field(None, description="The source whose agents teach.")

    @model_validator(mode="before")
    @classmethod
    def _combined(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given, settings = data.get("type"), data.get("settings") or {}
        if isinstance(given, str):
            return data
        if given is None:
            raise ValueError("type is missing: the name of a strategy, or a list of strategies to combine")
        if not isinstance(given, list | tuple) or not given:
            raise ValueError(f"type must be the name of a strategy or a list of strategies to combine, not {given!r}")
        if settings:
            raise ValueError(
                f"{next(iter(settings))!r} stands beside a combination; give it to one of its parts, "
                f"as in [{name_of(given[0]) or 'fine_tune'}, {{l2sp: {{alpha: 0.1}}}}]"
            )
        parts = [_part(place, part) for place, part in enumerate(given, start=1)]
        if len(parts) > 1:
            return {**data, "type": tuple(parts)}
        ((name, inner),) = parts[0].items() if isinstance(parts[0], Mapping) else ((parts[0], {}),)
        return {**data, "type": name, "settings": inner}

    @property
    def parts(self) -> list[tuple[str, dict[str, Any]]]:
        """The strategy, or those that are combined, each with its settings."""
        if isinstance(self.type, str):
            return [(self.type, self.settings)]
        return [(part, {}) if isinstance(part, str) else next(iter(part.items())) for part in self.type]

    @property
    def names(self) -> tuple[str, ...]:
        """The strategy, or those that are combined."""
        return tuple(name for name, _ in self.parts)

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        kind = self.type if isinstance(self.type, str) else list(self.type)
        extra = {"sources": list(self.sources) if self.sources else None, "teacher": self.teacher}
        return {"type": kind, **self.settings, **{key: value for key, value in extra.items() if value is not None}}


def fields_of(given: Any, name: str = "") -> Any:
    """The fields of a StrategyConfig from any form that a user may write; `name` stands where no type is given."""
    if isinstance(given, str | list | tuple):
        return {"type": given}
    given = or_empty(given)
    if not isinstance(given, Mapping):
        return given
    fields = {key: given[key] for key in ("sources", "teacher") if key in given}
    settings = {key: value for key, value in given.items() if key != "type" and key not in fields}
    return {"type": given.get("type", name or None), "settings": settings, **fields}


OneStrategy = Annotated[
    StrategyConfig | None, BeforeValidator(lambda given: None if given is None else fields_of(given))
]
"""A strategy, or several combined, that no key names; or none."""


def _part(place: int, given: Any) -> str | dict[str, dict[str, Any]]:
    """A part of a combination: its name, or its name with its settings."""
    if (found := named(given)) is None:
        raise ValueError(
            f"part {place} must be a strategy or a strategy with its settings {{name: {{..}}}}, not {given!r}"
        )
    name, settings = found
    return {name: settings} if settings else name


def named(part: Any) -> tuple[str, dict[str, Any]] | None:
    """Name and settings of ``name``, ``{name: settings}`` or ``{"type": name, ..}``; None for anything else."""
    if isinstance(part, str):
        return part, {}
    if isinstance(part, Mapping) and isinstance(part.get("type"), str):
        return part["type"], {key: value for key, value in part.items() if key != "type"}
    if isinstance(part, Mapping) and len(part) == 1:
        ((name, settings),) = part.items()
        if isinstance(name, str) and (settings is None or isinstance(settings, Mapping)):
            return name, dict(settings or {})
    return None


def name_of(part: Any) -> str:
    """The strategy that a part of a combination names."""
    if isinstance(part, Mapping):
        part = part.get("type") or next(iter(part), "")
    return part if isinstance(part, str) else ""
