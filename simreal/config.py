"""An experiment as validated data, which is never edited.

    Experiment
    ├── agent: AgentConfig          the learner and its network
    │   └── hyperparameters: Hyperparameters     those of the algorithm
    ├── sources: {name: SourceConfig}     domains to pretrain in
    ├── targets: {name: TargetConfig}     domains to transfer to
    ├── strategies: {name: StrategyConfig}  ways to transfer, single or combined
    ├── sequence: (target, ..)      a chain of targets, each begun with the agent of the one before
    ├── evaluation, verdict, tracking
    └── workers

Every field has one sentence, a range and a default; command-line help and the documentation are made from them.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from simreal.hyperparameters import HYPERPARAMETERS, Float, Hyperparameters, Int, OffPolicyHyperparameters, Section
from simreal_envs.errors import UserError, nearest

if TYPE_CHECKING:
    from simreal_envs.variation import Domain

CONTROL_ARM = "scratch"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

Name = Annotated[str, StringConstraints(pattern=NAME, max_length=80)]

Where = Callable[..., str]
"""where("targets", "heavy") -> "configs/quickstart.yaml:12: targets.heavy", to begin an error sentence with."""


def _empty(value: Any) -> Any:
    # `scratch:` with nothing behind it means "with the defaults".
    return {} if value is None else value


class AgentConfig(Section):
    """The learner: algorithm, network and how many worlds it collects from."""

    algorithm: Literal["ppo", "sac", "td3", "tqc", "crossq", "dqn", "qrdqn"] = Field(
        "ppo", description="The learning algorithm."
    )
    hidden: tuple[Annotated[Int, Field(ge=1, le=8192)], ...] = Field(
        (64, 64), min_length=1, max_length=16, description="Units of each hidden layer."
    )
    activation: Literal["tanh", "elu", "relu"] = Field("tanh", description="What the hidden layers apply.")
    cnn: Literal["nature", "small", "grid"] | None = Field(
        None,
        description="The convolutions that see pictures (null: by their size, from 64 pixels nature, from 16 small).",
    )
    num_worlds: Int = Field(64, ge=1, le=65_536, description="Worlds that are stepped together.")
    torch_threads: Int = Field(
        1,
        ge=1,
        le=256,
        description="Threads of torch in updates; wide networks and pictures gain from two, and bits depend on it.",
    )
    replay: Literal["drop", "keep"] = Field(
        "drop", description="Whether the replay buffer goes with an agent: into its bundle, and to the target."
    )
    hyperparameters: SerializeAsAny[Hyperparameters] = Field(
        default_factory=dict, description="Settings of the algorithm."
    )

    @field_validator("hyperparameters", mode="wrap")
    @classmethod
    def _of_this_algorithm(cls, value: Any, handler: Any, info: ValidationInfo) -> Any:
        # Of an algorithm that does not exist, nothing is said but that.
        model = HYPERPARAMETERS.get(info.data.get("algorithm", ""))
        if model is None:
            return value
        return value if type(value) is model else model.model_validate(_empty(value))

    @model_validator(mode="after")
    def _fits(self) -> "AgentConfig":
        if self.replay == "keep" and not isinstance(self.hyperparameters, OffPolicyHyperparameters):
            raise ValueError(f"replay: {self.algorithm} has no replay buffer to keep")
        if problem := self.hyperparameters.problem(self.num_worlds):
            raise ValueError(f"hyperparameters.{problem}")
        return self


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
    def names(self) -> tuple[str, ...]:
        """The strategy, or those that are combined."""
        return (self.type,) if isinstance(self.type, str) else tuple(map(name_of, self.type))

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        kind = self.type if isinstance(self.type, str) else list(self.type)
        extra = {"sources": list(self.sources) if self.sources else None, "teacher": self.teacher}
        return {"type": kind, **self.settings, **{key: value for key, value in extra.items() if value is not None}}


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
    variation: dict[str, Any] = Field(
        default_factory=dict, description="Parameters that differ from nominal: numbers (SI) or distributions."
    )
    observe: ObserveConfig | None = Field(
        None, description="What agents see beyond the task's own observation (null: nothing)."
    )
    bridge: BridgeConfig | None = Field(
        None, description="In which terms a game is shown and played; default: the experiment's bridge."
    )

    @field_validator("variation", mode="before")
    @classmethod
    def _no_variation_is_nominal(cls, value: Any) -> Any:
        return _empty(value)


class SourceConfig(DomainConfig):
    """A domain to pretrain in."""

    steps: Int = Field(200_000, ge=1, le=10**11, description="Steps of experience for pretraining.")
    curriculum: CurriculumConfig | None = Field(None, description="Widen the randomization during pretraining.")
    strategy: StrategyConfig | None = Field(
        None, description="How to pretrain: a name, its settings beside `type`, or a list (null: plainly)."
    )

    @field_validator("strategy", mode="before")
    @classmethod
    def _written_shortly(cls, value: Any) -> Any:
        return None if value is None else _strategy(value)

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


class EvaluationConfig(Section):
    """When and how thoroughly the agents are evaluated."""

    points: Int = Field(9, ge=2, le=10_000, description="Evaluations on the way, the one before any update included.")
    episodes: Int = Field(20, ge=1, le=100_000, description="Episodes per evaluation.")


class VerdictConfig(Section):
    """When a transfer counts as positive or negative."""

    margin: Float = Field(0.05, ge=0, le=1, description="Differences in normalized return below this are neutral.")
    min_seeds: Int = Field(5, ge=2, le=1000, description="With fewer seeds every verdict is inconclusive.")
    confidence: Float = Field(0.95, gt=0.5, lt=1, description="Confidence of all intervals.")
    threshold: Float = Field(0.8, gt=0, le=1, description="Normalized return for the time to threshold.")
    paired: StrictBool | Literal["auto"] = Field(
        False, description="Compare arms seed by seed: false, true, or auto: where their areas go together over seeds."
    )


class EarlyWarningConfig(Section):
    """What is done when a transfer will probably turn out negative."""

    on_negative: Literal["off", "warn", "stop", "fall_back"] = Field(
        "off", description="At 0, 5, 10, 20 % of the budget: say so, stop learning, or go on from scratch."
    )
    threshold: Float = Field(0.7, gt=0, lt=1, description="The probability from which on it is done.")


class TrackingConfig(Section):
    """Where runs are mirrored; the files on disk are always written."""

    wandb: Literal["auto", "offline", "online", "disabled"] = Field(
        "auto", description="Weights & Biases: auto is online if logged in, else offline."
    )
    project: Annotated[str, Field(min_length=1, max_length=128)] = Field("simreal", description="The W&B project.")
    entity: str | None = Field(None, description="The W&B user or team (null: your default).")
    tensorboard: StrictBool = Field(False, description="Whether to write event files for TensorBoard, too.")
    csv: StrictBool = Field(False, description="Whether to write tables for a spreadsheet, too.")


class Experiment(Section):
    """Sources x strategies x targets x seeds."""

    name: Name = Field(
        "experiment",
        description="Names the experiment in folders, tables and W&B groups; by default as the config's file is called.",
    )
    task: str | None = Field(None, description="The task of all sources and targets that name none themselves.")
    bridge: BridgeConfig | None = Field(
        None, description="The bridge of all sources and targets that name none themselves (null: native)."
    )
    seeds: tuple[Annotated[Int, Field(ge=0, lt=2**31)], ...] = Field(
        (0, 1, 2, 3, 4), min_length=1, max_length=10_000, description="A list of seeds, or how many (5 is 0 to 4)."
    )
    agent: AgentConfig = Field(default_factory=AgentConfig, description="The learner and its network.")
    sources: dict[Name, SourceConfig] = Field(min_length=1, description="The domains to pretrain in, by name.")
    targets: dict[Name, TargetConfig] = Field(min_length=1, description="The domains to transfer to, by name.")
    strategy: StrategyConfig | None = Field(
        None,
        exclude=True,
        description="One more of the strategies, named after its parts: a name, or a list to combine.",
    )
    strategies: dict[Name, StrategyConfig] = Field(
        default_factory=lambda: {"zero_shot": {}, "fine_tune": {}},
        min_length=1,
        description="The ways to transfer, by name; the control arm scratch is always among them.",
    )
    sequence: tuple[Name, ...] = Field(
        (), description="Targets that every strategy also goes through one after the other, each with the agent before."
    )
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="How agents are evaluated.")
    verdict: VerdictConfig = Field(default_factory=VerdictConfig, description="When a transfer counts as one.")
    early_warning: EarlyWarningConfig = Field(
        default_factory=EarlyWarningConfig, description="What is done about transfers that will probably harm."
    )
    tracking: TrackingConfig = Field(default_factory=TrackingConfig, description="Where runs are mirrored.")
    video: Float = Field(6.0, ge=0, le=600, description="Seconds of video per target in the report (0: none).")
    robustness: Int = Field(
        5, ge=0, le=25, description="Values per side of the grid of parameters in the report, at least 2 (0: none)."
    )
    workers: Int = Field(0, ge=0, le=1024, description="Processes that work at a time (0: one per core).")

    @field_validator("agent", "evaluation", "verdict", "early_warning", "tracking", mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        return _empty(value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, value: Any) -> Any:
        if isinstance(value, bool | str | Mapping) or value is None:
            raise ValueError(f"must be a number of seeds or a list of seeds, not {value!r}")
        if isinstance(value, int | float):
            if value != int(value) or not 1 <= value <= 10_000:
                raise ValueError(f"must be 1 to 10000 seeds, not {value!r}")
            return tuple(range(int(value)))
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        twice = sorted({seed for seed in value if value.count(seed) > 1})
        if twice:
            raise ValueError(f"seed {twice[0]} is given twice")
        return value

    @field_validator("robustness")
    @classmethod
    def _more_than_a_cell(cls, value: int) -> int:
        if value == 1:
            raise ValueError("a grid has at least 2 values per side, or 0 for none")
        return value

    @field_validator("strategy", mode="before")
    @classmethod
    def _written_shortly(cls, value: Any) -> Any:
        return None if value is None else _strategy(value)

    @field_validator("strategies", mode="before")
    @classmethod
    def _with_control_arm(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, Mapping):
            return value
        strategies = {str(name): _strategy(given, str(name)) for name, given in value.items()}
        if more := info.data.get("strategy"):
            if (name := "-".join(more.names)) in strategies:
                raise ValueError(f"there is a {name!r} already, which `strategy` would add")
            strategies[name] = more
        return strategies if CONTROL_ARM in strategies else {CONTROL_ARM: {"type": CONTROL_ARM}, **strategies}

    @field_validator("sequence", mode="before")
    @classmethod
    def _no_sequence(cls, value: Any) -> Any:
        return () if value is None else value

    @field_validator("sequence")
    @classmethod
    def _of_targets(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        targets = info.data.get("targets", value)
        for name in value:
            if name not in targets:
                raise ValueError(f"unknown target {name!r}; {nearest(name, targets)}")
        if len(value) == 1:
            raise ValueError(f"a sequence has at least two targets, not only {value[0]!r}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_domains(cls, data: Any) -> Any:
        """Give the experiment's task and bridge to every domain without one."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        given = {key: data[key] for key in ("task", "bridge") if data.get(key) is not None}
        for kind in ("sources", "targets"):
            if isinstance(data.get(kind), Mapping):
                data[kind] = {name: _with_defaults(spec, given) for name, spec in data[kind].items()}
        return data

    @model_validator(mode="after")
    def _names(self) -> "Experiment":
        if "none" in self.sources:
            raise ValueError("a source cannot be called 'none', which stands for the control arm's missing source")
        if "sequence" in self.targets:
            raise ValueError("a target cannot be called 'sequence', which is where the steps of a sequence lie")
        control = self.strategies[CONTROL_ARM]
        if control.type != CONTROL_ARM:
            raise ValueError(f"the strategy named {CONTROL_ARM!r} is the control arm; it cannot be a {control.type!r}")
        for kind in ("sources", "targets", "strategies"):
            folded = [name.casefold() for name in getattr(self, kind)]
            if len(set(folded)) < len(folded):
                raise ValueError(f"{kind} differ only in upper and lower case, which not every disk can tell apart")
        # It is among the strategies now, and what is dumped must not add it again.
        object.__setattr__(self, "strategy", None)
        return self

    @model_validator(mode="after")
    def _learns_everywhere(self) -> "Experiment":
        starts = getattr(self.agent.hyperparameters, "learning_starts", 0)
        for name, spec in {**self.sources, **self.targets}.items():
            if spec.steps <= starts:
                raise ValueError(
                    f"agent.hyperparameters.learning_starts {starts} leaves no update in the {spec.steps} steps of "
                    f"{name!r}: give it less, or more steps"
                )
        return self


def _strategy(given: Any, name: str = "") -> Any:
    """The fields of a StrategyConfig from any form that a user may write; `name` stands where no type is given."""
    if isinstance(given, str | list | tuple):
        return {"type": given}
    given = _empty(given)
    if not isinstance(given, Mapping):
        return given
    fields = {key: given[key] for key in ("sources", "teacher") if key in given}
    settings = {key: value for key, value in given.items() if key != "type" and key not in fields}
    return {"type": given.get("type", name or None), "settings": settings, **fields}


def _part(place: int, given: Any) -> str | dict[str, dict[str, Any]]:
    """A part of a combination: its name, or its name with its settings."""
    if isinstance(given, Mapping) and isinstance(given.get("type"), str):
        given = {given["type"]: {key: value for key, value in given.items() if key != "type"}}
    if isinstance(given, Mapping) and len(given) == 1:
        ((name, settings),) = given.items()
        if isinstance(name, str) and (settings is None or isinstance(settings, Mapping)):
            return {name: dict(settings)} if settings else name
    if isinstance(given, str):
        return given
    raise ValueError(f"part {place} must be a strategy or a strategy with its settings {{name: {{..}}}}, not {given!r}")


def name_of(part: Any) -> str:
    """The strategy that a part of a combination names."""
    if isinstance(part, Mapping):
        part = part.get("type") or next(iter(part), "")
    return part if isinstance(part, str) else ""


def _with_defaults(spec: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(spec, DomainConfig):
        return spec
    spec = _empty(spec)
    if not isinstance(spec, Mapping):
        return spec
    # What is not given anywhere is to be told as missing, not as null.
    rest = {key: value for key, value in spec.items() if key not in ("task", "bridge") or value is not None}
    return {**given, **rest}


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


def domains(experiment: Experiment, where: Where | None = None) -> dict[tuple[str, str], "Domain"]:
    """Return all domains of an experiment by ("sources" or "targets", name).

    Raises:
        UserError: one sentence for every source or target that describes no domain.
    """
    found: dict[tuple[str, str], Domain] = {}
    wrong = []
    for kind in ("sources", "targets"):
        for name, spec in getattr(experiment, kind).items():
            try:
                found[kind, name] = domain_of(spec, where(kind, name) if where else f"{kind}.{name}")
            except UserError as error:
                wrong.append(str(error))
    if wrong:
        raise UserError("\n".join(wrong))
    return found
