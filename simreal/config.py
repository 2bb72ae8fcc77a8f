"""An experiment as validated data: read from YAML once, then never edited.

    experiment = load("configs/quickstart.yaml", ["targets.heavy.steps=1000", "seeds=[0, 1]"])

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

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SerializeAsAny,
    StrictBool,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from simreal import yaml_strict
from simreal_envs.errors import UserError, nearest, require_known

if TYPE_CHECKING:
    from simreal_envs.variation import Domain

CONTROL_ARM = "scratch"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


def _number(value: Any) -> Any:
    # pydantic would read true as 1 and "5" as 5: both are mistakes here.
    if not isinstance(value, bool | str):
        return value
    raise ValueError(f"must be a number, not {value!r}")


def _empty(value: Any) -> Any:
    # `scratch:` with nothing behind it means "with the defaults".
    return {} if value is None else value


Int = Annotated[int, BeforeValidator(_number)]
Float = Annotated[float, BeforeValidator(_number)]
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=80)]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


PARTS = (
    "encoder", "trunk", "heads", "actor", "critic", "encoder.shared", "encoder.actor", "encoder.critic", "trunk.actor",
    "trunk.critic", "heads.actor", "heads.critic", "heads.log_std", "heads.temperature",
)  # fmt: skip
"""The modules, towers and groups of a network, as users address them."""


def _parts(value: Mapping[str, float]) -> Mapping[str, float]:
    for name in value:
        if name not in PARTS:
            raise ValueError(f"unknown module {name!r}; {nearest(name, PARTS)}")
    return value


def _entropy(value: Any) -> Any:
    if isinstance(value, str):
        word, _, start = value.partition("_")
        if word == "auto" and (not start or (re.fullmatch(r"[0-9]*\.?[0-9]+", start) and float(start) > 0)):
            return value
    elif not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 100:
        return float(value)
    raise ValueError(f"must be a number from 0 to 100, auto, or auto_0.1 (learned from 0.1 on), not {value!r}")


def _number_or_auto(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ValueError(f"must be a number or auto, not {value!r}")


ByPart = Annotated[dict[str, Annotated[Float, Field(ge=0)]], AfterValidator(_parts)]


class Hyperparameters(_Config):
    """What every algorithm may be told; the names are those of Stable-Baselines3 where it has them.

    Attributes:
        says, actions, observations: what the algorithm is for, in lists.
        has_actor: whether it has an actor beside its critic.
    """

    says: ClassVar[str]
    has_actor: ClassVar[bool] = True
    actions: ClassVar[tuple[str, ...]]
    observations: ClassVar[tuple[str, ...]] = ("vector",)

    learning_rate: Float = Field(7e-4, gt=0, le=1, description="Step size of Adam.")
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="How the learning rate falls over the training run: not at all, or to 0."
    )
    lr_scale: ByPart = Field(
        default_factory=dict, description="Multiples of the learning rate, by module, tower or group ({encoder: 0.1})."
    )
    weight_decay: Float = Field(
        0.0, ge=0, le=1, description="Decoupled weight decay (AdamW) of all weights but the action noise's."
    )
    group_max_grad_norm: ByPart = Field(
        default_factory=dict,
        description="Bounds of the gradient norm of single modules, towers or groups ({critic: 0.5}).",
    )

    def problem(self, num_worlds: int) -> str:
        """One sentence about settings that do not fit each other; empty where they do."""
        return ""


class PPOHyperparameters(Hyperparameters):
    """What PPO may be told; the names are those of Stable-Baselines3."""

    says = "learns from what it has just done and forgets it; robust, and the fastest where worlds are cheap"
    actions = ("box", "discrete")
    observations = ("vector", "image", "dict")

    n_steps: Int = Field(16, ge=1, le=100_000, description="Steps of every world between two updates.")
    batch_size: Int = Field(256, ge=2, le=1_000_000, description="Transitions per minibatch.")
    n_epochs: Int = Field(10, ge=1, le=1000, description="Passes over the collected transitions per update.")
    gamma: Float = Field(0.98, ge=0, le=1, description="Discount per control step.")
    gae_lambda: Float = Field(
        0.95, ge=0, le=1, description="Trade-off between bias (0) and variance (1) of advantages."
    )
    clip_range: Float = Field(0.2, gt=0, le=10, description="How far the probability ratio may move in one update.")
    ent_coef: Float = Field(0.0, ge=0, le=10, description="Weight of the entropy bonus.")
    vf_coef: Float = Field(0.5, ge=0, le=100, description="Weight of the value loss.")
    max_grad_norm: Float = Field(0.5, gt=0, le=1e6, description="Longer gradients are shortened to this norm.")
    target_kl: Float | None = Field(0.03, gt=0, description="Stop an update beyond this KL divergence (null: never).")
    log_std_init: Float = Field(0.0, ge=-10, le=3, description="Logarithm of the initial action standard deviation.")
    normalize_advantage: StrictBool = Field(True, description="Whether advantages are standardized per minibatch.")
    dropout: Float = Field(0.0, ge=0, lt=1, description="Share of the trunk's units that an update leaves out.")

    def problem(self, num_worlds: int) -> str:
        """A minibatch cannot be more than what is collected."""
        collected = num_worlds * self.n_steps
        return "" if self.batch_size <= collected else (
            f"batch_size {self.batch_size} is more than the {collected} transitions "
            f"between two updates (num_worlds {num_worlds} x n_steps {self.n_steps})"
        )  # fmt: skip


class OffPolicyHyperparameters(Hyperparameters):
    """What every algorithm with a replay buffer may be told."""

    buffer_size: Int = Field(300_000, ge=1, le=10**9, description="Transitions in the replay buffer, of all worlds.")
    learning_starts: Int = Field(1_000, ge=0, le=10**9, description="Environment steps before the first update.")
    batch_size: Int = Field(256, ge=2, le=1_000_000, description="Transitions per minibatch.")
    gamma: Float = Field(0.99, ge=0, le=1, description="Discount per control step.")
    tau: Float = Field(
        0.005, gt=0, le=1, description="How much of the network each update of the target copies takes over."
    )
    train_freq: Int = Field(1, ge=1, le=100_000, description="Steps of every world between two rounds of updates.")
    gradient_steps: Int = Field(
        -1, ge=-1, le=1_000_000, description="Updates in a round (-1: one for each new transition)."
    )
    max_grad_norm: Float | None = Field(
        None, gt=0, le=1e6, description="Longer gradients are shortened to this norm (null: never)."
    )

    def problem(self, num_worlds: int) -> str:
        """The replay buffer holds a batch, and a step of all worlds."""
        if self.batch_size > self.buffer_size:
            return f"batch_size {self.batch_size} is more than the buffer_size of {self.buffer_size} transitions"
        if num_worlds * self.train_freq > self.buffer_size:
            collected = num_worlds * self.train_freq
            return f"buffer_size {self.buffer_size} is less than the {collected} transitions between two updates"
        return ""


class SACHyperparameters(OffPolicyHyperparameters):
    """What SAC may be told; the names are those of Stable-Baselines3."""

    says = "learns from everything it ever did and explores by itself; needs the fewest steps where worlds are slow"
    actions = ("box",)

    learning_rate: Float = Field(3e-4, gt=0, le=1, description="Step size of Adam.")
    ent_coef: Annotated[float | str, PlainValidator(_entropy)] = Field(
        "auto", description="Weight of the entropy: a number, or auto (learned)."
    )
    target_entropy: Annotated[float | str, PlainValidator(_number_or_auto)] = Field(
        "auto", description="Entropy that an ent_coef of auto aims at (auto: minus the number of actions)."
    )
    target_update_interval: Int = Field(1, ge=1, le=10**6, description="Updates between two of the target copies.")
    n_critics: Int = Field(2, ge=1, le=100, description="Critics, of which the most careful counts.")


class TQCHyperparameters(SACHyperparameters):
    """What TQC may be told; the names are those of sb3-contrib."""

    says = "SAC whose critics tell whole distributions of the return and leave out the highest hopes"

    n_quantiles: Int = Field(25, ge=1, le=1000, description="Quantiles that each critic tells.")
    top_quantiles_to_drop_per_net: Int = Field(
        2, ge=0, le=999, description="Quantiles per critic that the target leaves out."
    )

    def problem(self, num_worlds: int) -> str:
        """Something must be left of the quantiles."""
        if self.top_quantiles_to_drop_per_net >= self.n_quantiles:
            return (
                f"top_quantiles_to_drop_per_net {self.top_quantiles_to_drop_per_net} leaves none of the "
                f"n_quantiles {self.n_quantiles}"
            )
        return super().problem(num_worlds)


class TD3Hyperparameters(OffPolicyHyperparameters):
    """What TD3 may be told; the names are those of Stable-Baselines3."""

    says = "learns a policy without noise from everything it ever did, and explores with noise of a fixed size"
    actions = ("box",)

    learning_rate: Float = Field(1e-3, gt=0, le=1, description="Step size of Adam.")
    policy_delay: Int = Field(2, ge=1, le=1000, description="Updates of the critics for one of the actor.")
    target_policy_noise: Float = Field(0.2, ge=0, le=10, description="Noise on the target's actions, of 1.")
    target_noise_clip: Float = Field(0.5, ge=0, le=10, description="Bound of that noise.")
    exploration_noise: Float = Field(0.1, gt=0, le=10, description="Standard deviation of the exploration noise, of 1.")
    n_critics: Int = Field(2, ge=1, le=100, description="Critics, of which the most careful counts.")


class DQNHyperparameters(OffPolicyHyperparameters):
    """What DQN may be told; the names are those of Stable-Baselines3."""

    says = "learns what each of several actions is worth from everything it ever did, and takes the best"
    has_actor = False
    actions = ("discrete",)
    observations = ("vector", "image", "dict")

    learning_rate: Float = Field(5e-4, gt=0, le=1, description="Step size of Adam.")
    batch_size: Int = Field(128, ge=2, le=1_000_000, description="Transitions per minibatch.")
    tau: Float = Field(
        1.0, gt=0, le=1, description="How much of the network each update of the target copy takes over."
    )
    gradient_steps: Int = Field(
        16, ge=-1, le=1_000_000, description="Updates in a round (-1: one for each new transition)."
    )
    max_grad_norm: Float | None = Field(
        10.0, gt=0, le=1e6, description="Longer gradients are shortened to this norm (null: never)."
    )
    target_update_interval: Int = Field(
        5_000, ge=1, le=10**9, description="Environment steps between two updates of the target copy."
    )
    exploration_fraction: Float = Field(
        0.2, ge=0, le=1, description="Share of the run over which random actions become rare."
    )
    exploration_initial_eps: Float = Field(1.0, ge=0, le=1, description="Share of random actions at the beginning.")
    exploration_final_eps: Float = Field(0.05, ge=0, le=1, description="Share of random actions from then on.")


class QRDQNHyperparameters(DQNHyperparameters):
    """What QR-DQN may be told; the names are those of sb3-contrib."""

    says = "DQN that learns quantiles of the return of each action instead of its mean"

    n_quantiles: Int = Field(50, ge=1, le=1000, description="Quantiles that are told for each action.")


HYPERPARAMETERS: dict[str, type[Hyperparameters]] = {
    "ppo": PPOHyperparameters,
    "sac": SACHyperparameters,
    "td3": TD3Hyperparameters,
    "tqc": TQCHyperparameters,
    "dqn": DQNHyperparameters,
    "qrdqn": QRDQNHyperparameters,
}
"""What each algorithm may be told, by the name that users type."""


class AgentConfig(_Config):
    """The learner: algorithm, network and how many worlds it collects from."""

    algorithm: Literal["ppo", "sac", "td3", "tqc", "dqn", "qrdqn"] = Field("ppo", description="The learning algorithm.")
    hidden: tuple[Annotated[Int, Field(ge=1, le=8192)], ...] = Field(
        (64, 64), min_length=1, max_length=16, description="Units of each hidden layer."
    )
    activation: Literal["tanh", "elu", "relu"] = Field("tanh", description="What the hidden layers apply.")
    num_worlds: Int = Field(64, ge=1, le=65_536, description="Worlds that are stepped together.")
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


class StrategyConfig(_Config):
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
                f"as in [{_name_of(given[0]) or 'fine_tune'}, {{l2sp: {{alpha: 0.1}}}}]"
            )
        parts = [_part(place, part) for place, part in enumerate(given, start=1)]
        if len(parts) > 1:
            return {**data, "type": tuple(parts)}
        ((name, inner),) = parts[0].items() if isinstance(parts[0], Mapping) else ((parts[0], {}),)
        return {**data, "type": name, "settings": inner}

    @property
    def names(self) -> tuple[str, ...]:
        """The strategy, or those that are combined."""
        return (self.type,) if isinstance(self.type, str) else tuple(map(_name_of, self.type))

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        kind = self.type if isinstance(self.type, str) else list(self.type)
        extra = {"sources": list(self.sources) if self.sources else None, "teacher": self.teacher}
        return {"type": kind, **self.settings, **{key: value for key, value in extra.items() if value is not None}}


class CurriculumConfig(_Config):
    """A linear widening of the randomization while pretraining."""

    start: Float = Field(0.0, ge=0, le=1, description="Share of the full randomization at the beginning.")
    until: Float = Field(0.5, gt=0, le=1, description="Share of pretraining after which the randomization is full.")


class ObserveConfig(_Config):
    """What agents see beyond the task's own observation."""

    history: Int = Field(1, ge=1, le=10_000, description="Steps of which they see the observation (1: the present).")
    actions: StrictBool = Field(False, description="Whether they see the actions of the past steps, too.")
    rewards: StrictBool = Field(False, description="Whether they see the rewards of the past steps, too.")
    parameters: Literal["all"] | tuple[str, ...] = Field(
        (), description="Parameters whose values in this world they know: names, patterns, or all that vary."
    )
    trial: Int = Field(1, ge=1, le=10_000, description="Episodes over which a history goes on.")


class DomainConfig(_Config):
    """A domain: task, engine and how the world differs from nominal."""

    task: Annotated[str, Field(min_length=1)] = Field(description="What is to be done; default: the experiment's task.")
    engine: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="What computes the world; by default the first that the task runs on, mujoco for ours."
    )
    preset: Literal["matched", "engine_default"] = Field(
        "matched", description="Engine settings that agree across engines, or each engine's own."
    )
    variation: dict[str, Any] = Field(
        default_factory=dict, description="Parameters that differ from nominal: numbers (SI) or distributions."
    )
    observe: ObserveConfig | None = Field(
        None, description="What agents see beyond the task's own observation (null: nothing)."
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


class EvaluationConfig(_Config):
    """When and how thoroughly the agents are evaluated."""

    points: Int = Field(9, ge=2, le=10_000, description="Evaluations on the way, the one before any update included.")
    episodes: Int = Field(20, ge=1, le=100_000, description="Episodes per evaluation.")


class VerdictConfig(_Config):
    """When a transfer counts as positive or negative."""

    margin: Float = Field(0.05, ge=0, le=1, description="Differences in normalized return below this are neutral.")
    min_seeds: Int = Field(5, ge=2, le=1000, description="With fewer seeds every verdict is inconclusive.")
    confidence: Float = Field(0.95, gt=0.5, lt=1, description="Confidence of all intervals.")
    threshold: Float = Field(0.8, gt=0, le=1, description="Normalized return for the time to threshold.")


class TrackingConfig(_Config):
    """Where runs are mirrored; the files on disk are always written."""

    wandb: Literal["auto", "offline", "online", "disabled"] = Field(
        "auto", description="Weights & Biases: auto is online if logged in, else offline."
    )
    project: Annotated[str, Field(min_length=1, max_length=128)] = Field("simreal", description="The W&B project.")
    entity: str | None = Field(None, description="The W&B user or team (null: your default).")


class Experiment(_Config):
    """Sources x strategies x targets x seeds."""

    name: Name = Field("experiment", description="Names the experiment in folders, tables and W&B groups.")
    task: str | None = Field(None, description="The task of all sources and targets that name none themselves.")
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
    tracking: TrackingConfig = Field(default_factory=TrackingConfig, description="Where runs are mirrored.")
    video: Float = Field(6.0, ge=0, le=600, description="Seconds of video per target in the report (0: none).")
    workers: Int = Field(0, ge=0, le=1024, description="Processes that work at a time (0: one per core).")

    @field_validator("agent", "evaluation", "verdict", "tracking", mode="before")
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
    def _default_task(cls, data: Any) -> Any:
        """Give the experiment's task to every domain without one."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        for kind in ("sources", "targets"):
            if isinstance(data.get(kind), Mapping):
                data[kind] = {name: _with_task(spec, data.get("task")) for name, spec in data[kind].items()}
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


def _name_of(part: Any) -> str:
    """The strategy that a part of a combination names."""
    return part if isinstance(part, str) else str(next(iter(part))) if isinstance(part, Mapping) and part else ""


def _with_task(spec: Any, task: Any) -> Any:
    if isinstance(spec, DomainConfig):
        return spec
    spec = _empty(spec)
    if isinstance(spec, Mapping) and spec.get("task") is None:
        rest = {key: value for key, value in spec.items() if key != "task"}
        return rest if task is None else {"task": task, **rest}
    return spec


# ------------------------------------------------------------------------------------------------ reading and writing


Where = Callable[..., str]
"""where("targets", "heavy") -> "configs/quickstart.yaml:12: targets.heavy", to begin an error sentence with."""


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a YAML file.

    Args:
        path: a file, or the bare name of one in `configs/` ("quickstart").
        overrides: "key=value" with a dotted key ("targets.heavy.steps=1000"); the value is YAML.

    Raises:
        UserError: one sentence per mistake, each with `file:line`, the dotted key and the nearest valid name.
    """
    return resolve(path, overrides)[0]


def resolve(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Experiment, Where]:
    """Like `load`, and also return a function that says where each key was written."""
    file = find(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{file}: cannot be read: {reason}") from None
    return parse(text, str(file), overrides)


def parse(text: str, file: str = "config", overrides: Sequence[str] = ()) -> tuple[Experiment, Where]:
    """Like `resolve`, from YAML text; `file` is the name used in error sentences."""
    document = yaml_strict.read(text, file)
    if not isinstance(document.value, dict):
        raise UserError(f"{file}: expected a mapping with the keys {', '.join(Experiment.model_fields)}")
    marks = dict(document.marks)
    data: dict[str, Any] = document.value
    for override in overrides:
        data = _override(data, override, marks)
    if (place := marks.get(("strategy",))) and isinstance(more := data.get("strategy"), str | list | dict):
        kinds = more.get("type") if isinstance(more, dict) else more
        names = "-".join(map(_name_of, kinds)) if isinstance(kinds, list) else str(kinds)
        marks.setdefault(("strategies", names), place)

    def where(*key: str | int) -> str:
        known = next((key[:n] for n in range(len(key), 0, -1) if key[:n] in marks), ())
        place = marks.get(known, file) if known else file
        return f"{place}: {yaml_strict.dotted(key)}" if key else file

    try:
        return Experiment.model_validate(data), where
    except ValidationError as error:
        agent = data.get("agent")
        algorithm = agent.get("algorithm", "ppo") if isinstance(agent, Mapping) else "ppo"
        raise UserError("\n".join(_sentences(error, where, str(algorithm)))) from None


def dump(experiment: Experiment) -> str:
    """Return the whole resolved experiment as YAML; `parse` of it gives an equal experiment."""
    return yaml_strict.dumps(experiment.model_dump(mode="json"))


def find(path: str | Path) -> Path:
    """Return the file that `path` means: itself, or `configs/NAME.yaml` for a bare name. Raises UserError."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.suffix and path.parent == Path() and (shipped := Path("configs") / f"{path}.yaml").is_file():
        return shipped
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected the YAML file of an experiment")
    nearby = [*Path("configs").glob("*.yaml"), *path.parent.glob("*.yaml")]
    raise UserError(f"there is no config {str(path)!r}; {nearest(str(path), {str(file) for file in nearby})}")


def domain_of(spec: DomainConfig, where: str = "") -> "Domain":
    """Return the domain that a source (with its curriculum) or a target describes.

    Args:
        where: begins error sentences ("quickstart.yaml:12: targets.heavy").

    Raises:
        UserError: an unknown task, engine or parameter, or a value out of bounds.
    """
    from simreal_envs.variation import Domain

    try:
        return Domain.from_dict(spec.model_dump(), f"{where}.variation" if where else "variation")
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


# ------------------------------------------------------------------------------------------------ overrides

_NAMED = {"sources": "source", "targets": "target", "strategies": "strategy"}


def _override(data: dict[str, Any], override: str, marks: dict[yaml_strict.Path, str]) -> dict[str, Any]:
    """Return a copy of `data` with one "key=value" applied, and note the place in `marks`."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"override {override!r}: expected key=value, such as targets.heavy.steps=1000")
    place = f"override {override!r}"
    document = yaml_strict.read(text, place, lines=False)
    path = _split(key, data, place)
    for known in [known for known in marks if known[: len(path)] == path]:
        del marks[known]
    marks.update({(*path, *inner): place for inner in document.marks} | {path: place})
    for length in range(1, len(path)):
        marks.setdefault(path[:length], place)
    return _replaced(data, path, document.value, place)


def _split(key: str, data: Any, place: str) -> yaml_strict.Path:
    """Split a dotted key; names and parameters may contain dots themselves, so existing keys win."""
    parts = key.split(".")
    path: list[str] = []
    while parts:
        known = data if isinstance(data, Mapping) else {}
        size = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known), 1)
        if len(path) == 1 and path[0] in _NAMED and len(parts) > size:
            # Without this a misspelt name would quietly become one more source, target or strategy.
            require_known(".".join(parts[:size]), known, _NAMED[path[0]], place)
        path.append(".".join(parts[:size]))
        data, parts = known.get(path[-1]), parts[size:]
    if not all(path):
        raise UserError(f"{place}: empty name in the key {key!r}")
    return tuple(path)


def _replaced(data: Any, path: yaml_strict.Path, value: Any, place: str, done: int = 0) -> Any:
    if done == len(path):
        return value
    data = _empty(data)
    if not isinstance(data, Mapping):
        parent = yaml_strict.dotted(path[:done])
        raise UserError(f"{place}: {parent} is {data!r}, which has no keys; set it as a whole: {parent}=...")
    return {**data, path[done]: _replaced(data.get(path[done]), path, value, place, done + 1)}


# ------------------------------------------------------------------------------------------------ error sentences


def _sentences(error: ValidationError, where: Where, algorithm: str) -> list[str]:
    """One sentence per problem: unknown keys first, since a typo also shows up as a missing key; missing keys last."""
    rank = {"extra_forbidden": 0, "missing": 2}
    problems = error.errors(include_url=False)
    # A list whose only item is wrong is reported as empty, too.
    inner = {problem["loc"][:n] for problem in problems for n in range(len(problem["loc"]))}
    problems = [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in inner]
    problems.sort(key=lambda problem: rank.get(problem["type"], 1))
    return list(dict.fromkeys(_sentence(problem, where, algorithm) for problem in problems))


def _sentence(problem: Mapping[str, Any], where: Where, algorithm: str) -> str:
    path = tuple(part for part in problem["loc"] if part != "[key]")
    given, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{where(*path)}: unknown key {path[-1]!r}; {_valid_keys(path, algorithm)}"
    if kind == "missing":
        says = _description(path)
        return f"{where(*path)}: is missing{': ' + says if says else ''}"
    if kind == "literal_error":
        return f"{where(*path)}: unknown value {given!r}; {nearest(str(given), _options(context['expected']))}"
    if kind == "value_error":
        return f"{where(*path)}: {context['error']}" if path else f"{where()}: {context['error']}"
    if kind == "string_pattern_mismatch":
        return (
            f"{where(*path)}: the name {given!r} must start with a letter or digit, then letters, digits, '_', '-', '.'"
        )
    if kind == "too_short":
        least = context["min_length"]
        return f"{where(*path)}: must " + (f"have at least {least} entries" if least > 1 else "not be empty")
    if kind == "tuple_type":
        return f"{where(*path)}: must be a list, not {given!r}"
    if kind == "int_from_float":
        return f"{where(*path)}: must be a whole number, not {given!r}"
    if kind in ("model_type", "dict_type"):
        return f"{where(*path)}: must be a mapping of keys to values, not {given!r}"
    message = problem["msg"].replace("Input should be", "must be")
    return f"{where(*path)}: {message[0].lower()}{message[1:]}, not {_short(given)}"


def _short(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _options(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _valid_keys(path: yaml_strict.Path, algorithm: str) -> str:
    if path[0] == "targets" and path[-1] == "curriculum":
        return "a curriculum belongs to a source, because only pretraining is scheduled"
    model, key = model_at(path[:-1], algorithm), str(path[-1])
    says = nearest(key, model.model_fields if model else ())
    others = [name for name, other in HYPERPARAMETERS.items() if key in other.model_fields]
    if path[:-1] == ("agent", "hyperparameters") and others:
        return f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} it, {algorithm} does not; {says}"
    return says


def _description(path: yaml_strict.Path) -> str:
    model = model_at(path[:-1])
    field = model.model_fields.get(str(path[-1])) if model else None
    return (field.description or "") if field else ""


def model_at(path: Sequence[str | int], algorithm: str = "ppo") -> type[BaseModel] | None:
    """Return the model that describes the keys at `path` (("agent",) -> AgentConfig), or None for free mappings.

    Args:
        algorithm: whose hyperparameters are meant.
    """
    annotation: Any = Experiment
    for part in path:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            annotation = _unwrapped(field.annotation) if field else None
            annotation = HYPERPARAMETERS.get(algorithm) if annotation is Hyperparameters else annotation
        elif get_origin(annotation) is dict:
            annotation = _unwrapped(get_args(annotation)[1])
        else:
            return None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _unwrapped(annotation: Any) -> Any:
    """Return the model inside `Model | None`; anything else as it is."""
    models = [kind for kind in get_args(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return models[0] if models and get_origin(annotation) is not dict else annotation
