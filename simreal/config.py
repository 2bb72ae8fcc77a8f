"""An experiment as validated data: read from YAML once, then never edited.

    experiment = load("configs/quickstart.yaml", ["targets.heavy.steps=1000", "seeds=[0, 1]"])

    Experiment
    ├── agent: AgentConfig          the learner and its network
    │   └── hyperparameters: PPOHyperparameters
    ├── sources: {name: SourceConfig}     domains to pretrain in
    ├── targets: {name: TargetConfig}     domains to transfer to
    ├── strategies: {name: StrategyConfig}
    ├── evaluation, verdict, tracking
    └── workers

Every field has one sentence, a range and a default; command-line help and the documentation are made from them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
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


class PPOHyperparameters(_Config):
    """What PPO may be told; the names are those of Stable-Baselines3."""

    learning_rate: Float = Field(7e-4, gt=0, le=1, description="Step size of Adam.")
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


class AgentConfig(_Config):
    """The learner: algorithm, network and how many worlds it collects from."""

    algorithm: Literal["ppo"] = Field("ppo", description="The learning algorithm.")
    hidden: tuple[Annotated[Int, Field(ge=1, le=8192)], ...] = Field(
        (64, 64), min_length=1, max_length=16, description="Units of each hidden layer."
    )
    activation: Literal["tanh", "elu", "relu"] = Field("tanh", description="What the hidden layers apply.")
    num_worlds: Int = Field(64, ge=1, le=65_536, description="Worlds that are stepped together.")
    hyperparameters: PPOHyperparameters = Field(
        default_factory=PPOHyperparameters, description="Settings of the algorithm."
    )

    @model_validator(mode="after")
    def _batch_fits(self) -> "AgentConfig":
        collected = self.num_worlds * self.hyperparameters.n_steps
        if self.hyperparameters.batch_size > collected:
            raise ValueError(
                f"hyperparameters.batch_size {self.hyperparameters.batch_size} is more than the {collected} transitions "
                f"between two updates (num_worlds {self.num_worlds} x n_steps {self.hyperparameters.n_steps})"
            )
        return self


class CurriculumConfig(_Config):
    """A linear widening of the randomization while pretraining."""

    start: Float = Field(0.0, ge=0, le=1, description="Share of the full randomization at the beginning.")
    until: Float = Field(0.5, gt=0, le=1, description="Share of pretraining after which the randomization is full.")


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

    @field_validator("variation", mode="before")
    @classmethod
    def _no_variation_is_nominal(cls, value: Any) -> Any:
        return _empty(value)


class SourceConfig(DomainConfig):
    """A domain to pretrain in."""

    steps: Int = Field(200_000, ge=1, le=10**11, description="Steps of experience for pretraining.")
    curriculum: CurriculumConfig | None = Field(None, description="Widen the randomization during pretraining.")

    @model_validator(mode="after")
    def _curriculum_widens_something(self) -> "SourceConfig":
        if self.curriculum and not self.variation:
            raise ValueError("a curriculum needs a variation to widen")
        return self


class TargetConfig(DomainConfig):
    """A domain to transfer to."""

    steps: Int = Field(60_000, ge=1, le=10**11, description="Steps of target experience of every arm.")


class StrategyConfig(_Config):
    """How an agent is moved across. In YAML the settings stand beside `type`."""

    type: Name = Field(description="The strategy; default: the name it is given in the config.")
    settings: dict[str, Any] = Field(default_factory=dict, description="What this strategy may be told.")

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"type": self.type, **self.settings}


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
    strategies: dict[Name, StrategyConfig] = Field(
        default_factory=lambda: {"zero_shot": {}, "fine_tune": {}},
        min_length=1,
        description="The ways to transfer, by name; the control arm scratch is always among them.",
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

    @field_validator("strategies", mode="before")
    @classmethod
    def _with_control_arm(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        strategies = {str(name): _strategy(str(name), given) for name, given in value.items()}
        return strategies if CONTROL_ARM in strategies else {CONTROL_ARM: {"type": CONTROL_ARM}, **strategies}

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
        control = self.strategies[CONTROL_ARM]
        if control.type != CONTROL_ARM:
            raise ValueError(f"the strategy named {CONTROL_ARM!r} is the control arm; it cannot be a {control.type!r}")
        for kind in ("sources", "targets", "strategies"):
            folded = [name.casefold() for name in getattr(self, kind)]
            if len(set(folded)) < len(folded):
                raise ValueError(f"{kind} differ only in upper and lower case, which not every disk can tell apart")
        return self


def _strategy(name: str, given: Any) -> Any:
    given = _empty(given)
    if not isinstance(given, Mapping):
        return given
    settings = {key: value for key, value in given.items() if key != "type"}
    return {"type": given.get("type", name), "settings": settings}


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
    data = document.value
    for override in overrides:
        data = _override(data, override, marks)

    def where(*key: str | int) -> str:
        known = next((key[:n] for n in range(len(key), 0, -1) if key[:n] in marks), ())
        place = marks.get(known, file) if known else file
        return f"{place}: {yaml_strict.dotted(key)}" if key else file

    try:
        return Experiment.model_validate(data), where
    except ValidationError as error:
        raise UserError("\n".join(_sentences(error, where))) from None


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


def _sentences(error: ValidationError, where: Where) -> list[str]:
    """One sentence per problem: unknown keys first, since a typo also shows up as a missing key; missing keys last."""
    rank = {"extra_forbidden": 0, "missing": 2}
    problems = error.errors(include_url=False)
    # A list whose only item is wrong is reported as empty, too.
    inner = {problem["loc"][:n] for problem in problems for n in range(len(problem["loc"]))}
    problems = [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in inner]
    problems.sort(key=lambda problem: rank.get(problem["type"], 1))
    return list(dict.fromkeys(_sentence(problem, where) for problem in problems))


def _sentence(problem: Mapping[str, Any], where: Where) -> str:
    path = tuple(part for part in problem["loc"] if part != "[key]")
    given, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{where(*path)}: unknown key {path[-1]!r}; {_valid_keys(path)}"
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
        return f"{where(*path)}: must not be empty"
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


def _valid_keys(path: yaml_strict.Path) -> str:
    if path[0] == "targets" and path[-1] == "curriculum":
        return "a curriculum belongs to a source, because only pretraining is scheduled"
    model = model_at(path[:-1])
    return nearest(str(path[-1]), model.model_fields if model else ())


def _description(path: yaml_strict.Path) -> str:
    model = model_at(path[:-1])
    field = model.model_fields.get(str(path[-1])) if model else None
    return (field.description or "") if field else ""


def model_at(path: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model that describes the keys at `path` (("agent",) -> AgentConfig), or None for free mappings."""
    annotation: Any = Experiment
    for part in path:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            annotation = _unwrapped(field.annotation) if field else None
        elif get_origin(annotation) is dict:
            annotation = _unwrapped(get_args(annotation)[1])
        else:
            return None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _unwrapped(annotation: Any) -> Any:
    """Return the model inside `Model | None`; anything else as it is."""
    models = [kind for kind in get_args(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return models[0] if models and get_origin(annotation) is not dict else annotation
