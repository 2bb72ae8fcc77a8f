"""What every algorithm may be told: one model per algorithm, whose fields have a sentence, a range and a default."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StringConstraints,
)

from simreal_envs.errors import nearest


def _number(value: Any) -> Any:
    # pydantic would read true as 1 and "5" as 5: both are mistakes here.
    if not isinstance(value, bool | str):
        return value
    raise ValueError(f"must be a number, not {value!r}")


Int = Annotated[int, BeforeValidator(_number)]
Float = Annotated[float, BeforeValidator(_number)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]


def or_empty(value: Any) -> Any:
    """A section as it was given; ``scratch:`` with nothing behind it means "with the defaults"."""
    return {} if value is None else value


class OfKey(ValueError):
    """A mistake of several keys together, told at the one of them that is likely to change; its path from the section."""

    def __init__(self, says: str, *key: str) -> None:
        super().__init__(says)
        self.key = key


class Section(BaseModel):
    """Keys and values that are checked once and then never edited; an unknown key is a mistake."""

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
    if value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e6):
        return value
    raise ValueError(f"must be a number from -1000000 to 1000000 or auto, not {value!r}")


ByPart = Annotated[dict[str, Annotated[Float, Field(ge=0, le=1000)]], AfterValidator(_parts)]


class Hyperparameters(Section):
    """What every algorithm may be told; the names are those of Stable-Baselines3 where it has them.

    Attributes:
        says, actions, observations: what the algorithm is for, in lists.
        has_actor: whether it has an actor beside its critic.
    """

    says: ClassVar[str]
    has_actor: ClassVar[bool] = True
    actions: ClassVar[tuple[str, ...]]
    observations: ClassVar[tuple[str, ...]] = ("vector", "image", "dict")

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


class TargetHyperparameters(OffPolicyHyperparameters):
    """What one with target copies may be told besides."""

    tau: Float = Field(
        0.005, gt=0, le=1, description="How much of the network each update of the target copies takes over."
    )


class SACHyperparameters(TargetHyperparameters):
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


class CrossQHyperparameters(OffPolicyHyperparameters):
    """What CrossQ may be told; the names are those of sb3-contrib."""

    says = "SAC without target networks: wide critics with batch renormalization need fewer updates, each of which takes longer"
    actions = ("box",)
    observations = ("vector",)

    learning_rate: Float = Field(1e-3, gt=0, le=1, description="Step size of Adam.")
    ent_coef: Annotated[float | str, PlainValidator(_entropy)] = Field(
        "auto", description="Weight of the entropy: a number, or auto (learned)."
    )
    target_entropy: Annotated[float | str, PlainValidator(_number_or_auto)] = Field(
        "auto", description="Entropy that an ent_coef of auto aims at (auto: minus the number of actions)."
    )
    policy_delay: Int = Field(3, ge=1, le=1000, description="Updates of the critics for one of the actor.")
    n_critics: Int = Field(2, ge=1, le=100, description="Critics, of which the most careful counts.")
    critic_width: Int = Field(1024, ge=1, le=8192, description="Width of the critics' hidden layers.")
    batch_norm_momentum: Float = Field(0.01, ge=0, le=1, description="How far the running moments follow each batch.")
    batch_norm_eps: Float = Field(0.001, gt=0, le=1, description="What is added to a variance.")
    renorm_warmup_steps: Int = Field(
        100_000, ge=0, le=10**9, description="Updates in which batches are normalized by their own moments alone."
    )


class TD3Hyperparameters(TargetHyperparameters):
    """What TD3 may be told; the names are those of Stable-Baselines3."""

    says = "learns a policy without noise from everything it ever did, and explores with noise of a fixed size"
    actions = ("box",)

    learning_rate: Float = Field(1e-3, gt=0, le=1, description="Step size of Adam.")
    policy_delay: Int = Field(2, ge=1, le=1000, description="Updates of the critics for one of the actor.")
    target_policy_noise: Float = Field(0.2, ge=0, le=10, description="Noise on the target's actions, of 1.")
    target_noise_clip: Float = Field(0.5, ge=0, le=10, description="Bound of that noise.")
    exploration_noise: Float = Field(0.1, gt=0, le=10, description="Standard deviation of the exploration noise, of 1.")
    n_critics: Int = Field(2, ge=1, le=100, description="Critics, of which the most careful counts.")


class DQNHyperparameters(TargetHyperparameters):
    """What DQN may be told; the names are those of Stable-Baselines3."""

    says = "learns what each of several actions is worth from everything it ever did, and takes the best"
    has_actor = False
    actions = ("discrete",)

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
    "crossq": CrossQHyperparameters,
    "dqn": DQNHyperparameters,
    "qrdqn": QRDQNHyperparameters,
}
"""What each algorithm may be told, by the name that users type."""
