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

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, StrictBool, ValidationInfo, field_validator, model_validator

from simreal.config_domains import BridgeConfig, DomainConfig, SourceConfig, TargetConfig, domain_of
from simreal.config_strategies import OneStrategy, StrategyConfig, fields_of
from simreal.hyperparameters import (
    HYPERPARAMETERS,
    Float,
    Hyperparameters,
    Int,
    Name,
    OffPolicyHyperparameters,
    OfKey,
    Section,
    or_empty,
)
from simreal_envs.errors import UserError, nearest

if TYPE_CHECKING:
    from simreal_envs.variation import Domain

CONTROL_ARM = "scratch"
MOST_WORLDS, MOST_THREADS = 65_536, 256

Where = Callable[..., str]
"""where("targets", "heavy") -> "configs/quickstart.yaml:12: targets.heavy", to begin an error sentence with."""


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
    num_worlds: Int = Field(64, ge=1, le=MOST_WORLDS, description="Worlds that are stepped together.")
    torch_threads: Int = Field(
        1,
        ge=1,
        le=MOST_THREADS,
        description="Threads of torch in updates; pictures and, on Intel's processors, wide networks gain from two; bits depend on it.",
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
        return value if type(value) is model else model.model_validate(or_empty(value))

    @model_validator(mode="after")
    def _fits(self) -> "AgentConfig":
        if self.replay == "keep" and not isinstance(self.hyperparameters, OffPolicyHyperparameters):
            raise OfKey(f"{self.algorithm} has no replay buffer to keep", "replay")
        if problem := self.hyperparameters.problem(self.num_worlds):
            name, _, says = problem.partition(" ")
            raise OfKey(says, "hyperparameters", name)
        return self


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
    strategy: OneStrategy = Field(
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
        return or_empty(value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, value: Any) -> Any:
        if isinstance(value, bool | str | Mapping) or value is None:
            raise ValueError(f"must be a number of seeds or a list of seeds, not {value!r}")
        if isinstance(value, int | float):
            if value % 1 or not 1 <= value <= 10_000:  # of infinity and NaN the rest is NaN
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

    @field_validator("strategies", mode="before")
    @classmethod
    def _with_control_arm(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, Mapping):
            return value
        strategies = {str(name): fields_of(given, str(name)) for name, given in value.items()}
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
            raise OfKey(
                "a source cannot be called 'none', which stands for the control arm's missing source", "sources", "none"
            )
        if "sequence" in self.targets:
            raise OfKey(
                "a target cannot be called 'sequence', which is where the steps of a sequence lie",
                "targets",
                "sequence",
            )
        control = self.strategies[CONTROL_ARM]
        if control.type != CONTROL_ARM:
            says = f"the strategy named {CONTROL_ARM!r} is the control arm; it cannot be a {control.type!r}"
            raise OfKey(says, "strategies", CONTROL_ARM)
        for kind in ("sources", "targets", "strategies"):
            for one, other in itertools.combinations(getattr(self, kind), 2):
                if one.casefold() == other.casefold():
                    says = f"differs from {one!r} only in upper and lower case, which not every disk can tell apart"
                    raise OfKey(says, kind, other)
        # It is among the strategies now, and what is dumped must not add it again.
        object.__setattr__(self, "strategy", None)
        return self

    @model_validator(mode="after")
    def _learns_everywhere(self) -> "Experiment":
        starts = getattr(self.agent.hyperparameters, "learning_starts", 0)
        for kind in ("sources", "targets"):
            for name, spec in getattr(self, kind).items():
                if spec.steps <= starts:
                    says = f"{spec.steps} leave no update after agent.hyperparameters.learning_starts {starts}"
                    raise OfKey(f"{says}: give it more, or that less", kind, name, "steps")
        return self


def _with_defaults(spec: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(spec, DomainConfig):
        return spec
    spec = or_empty(spec)
    if not isinstance(spec, Mapping):
        return spec
    # What is not given anywhere is to be told as missing, not as null.
    rest = {key: value for key, value in spec.items() if key not in ("task", "bridge") or value is not None}
    return {**given, **rest}


def by_key(*key: str) -> str:
    """Where something stands in an experiment that no file holds: ``targets.heavy``."""
    return ".".join(key)


def domains(experiment: Experiment, where: Where = by_key) -> dict[tuple[str, str], "Domain"]:
    """Return all domains of an experiment by ("sources" or "targets", name).

    Raises:
        UserError: one sentence for every source or target that describes no domain.
    """
    found: dict[tuple[str, str], Domain] = {}
    wrong = []
    for kind in ("sources", "targets"):
        for name, spec in getattr(experiment, kind).items():
            try:
                found[kind, name] = domain_of(spec, where(kind, name))
            except UserError as error:
                wrong.append(str(error))
    if wrong:
        raise UserError("\n".join(wrong))
    return found
