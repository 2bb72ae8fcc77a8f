"""Experiments in YAML: read, overridden and written back.

    experiment = load("configs/quickstart.yaml", ["targets.heavy.steps=1000", "seeds=[0, 1]"])

Every mistake gets a sentence, with the file and line, or the override, that it comes from.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from simreal import yaml_strict
from simreal.config import Experiment, Where
from simreal.config_strategies import name_of
from simreal.hyperparameters import HYPERPARAMETERS, Hyperparameters
from simreal_envs.errors import UserError, nearest, require_known

T = TypeVar("T")
OWN = Path("configs")
# A wheel has them inside of the package, a clone beside it.
SHIPPED = next(filter(Path.is_dir, (folder / OWN for folder in Path(__file__).parents[:2])), OWN)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a YAML file.

    Args:
        path: a file, or the bare name of one in `configs/` or among those that come with simreal ("quickstart").
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
    return parse(text, str(file), overrides, _name_of(file))


def _name_of(file: Path) -> str:
    """What an experiment is called whose file does not say it, so that two of them do not share a folder."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", file.stem).strip("_.-")[:80]


def parse(text: str, file: str = "config", overrides: Sequence[str] = (), name: str = "") -> tuple[Experiment, Where]:
    """Like `resolve`, from YAML text; `file` is how error sentences call it, `name` is for an experiment without one."""
    document = yaml_strict.read(text, file)
    if not isinstance(document.value, dict):
        raise UserError(f"{file}: expected a mapping with the keys {', '.join(Experiment.model_fields)}")
    marks = dict(document.marks)
    data: dict[str, Any] = document.value
    for override in overrides:
        data = _override(data, override, marks)
    if name:
        data.setdefault("name", name)
    if (place := marks.get(("strategy",))) and isinstance(more := data.get("strategy"), str | list | dict):
        kinds = more.get("type") if isinstance(more, dict) else more
        names = "-".join(map(name_of, kinds)) if isinstance(kinds, list) else str(kinds)
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
        problems = _written(error.errors(include_url=False), marks)
        raise UserError("\n".join(sentences(problems, where, str(algorithm)))) from None


def dump(experiment: Experiment) -> str:
    """Return the whole resolved experiment as YAML; `parse` of it gives an equal experiment."""
    return yaml_strict.dumps(experiment.model_dump(mode="json"))


def find(path: str | Path) -> Path:
    """Return the file that `path` means.

    That is the file itself, or the one of this name, with or without its folder, below `configs/` of the current
    folder, or else among those that come with simreal.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    bare = path.relative_to(OWN).with_suffix("") if path.is_relative_to(OWN) and path.suffix == ".yaml" else path
    for folder in (OWN, SHIPPED):
        named = _below(folder)
        called = [file for file in named.values() if file.stem == str(bare)]
        if found := named.get(str(bare)) or (called[0] if len(called) == 1 else None):
            return found
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected the YAML file of an experiment")
    names = available()
    nearby = {
        *((f"{OWN / name}.yaml" for name in names) if path.suffix else names),
        *map(str, path.parent.glob("*.yaml")),
    }
    raise UserError(f"there is no config {str(path)!r}; {nearest(str(path), nearby)}")


def available() -> dict[str, Path]:
    """Every config that goes by a name: those of the current folder before those of simreal that are called the same."""
    return dict(sorted({**_below(SHIPPED), **_below(OWN)}.items()))


def _below(folder: Path) -> dict[str, Path]:
    return {str(file.relative_to(folder).with_suffix("")): file for file in folder.rglob("*.yaml")}


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


def with_blame(attempt: Callable[[Sequence[str]], T], overrides: Sequence[str]) -> T:
    """Return what `attempt` makes of all overrides; a mistake is the override's without which there was none.

    Only the keys of a config know where they were written, and many a mistake is one of several keys together: of a value and
    its parameter, of two domains. So the overrides are tried in turn.

    Raises:
        UserError: the sentences of `attempt`; those that an override brought begin with it.
    """
    try:
        return attempt(overrides)
    except UserError as error:
        kind, sentences = type(error), str(error).splitlines()
    told = [_told(attempt, overrides[:count]) for count in range(len(overrides))]
    right = [count for count, said in enumerate(told) if not said]
    if right:
        told = [*told[right[-1] + 1 :], sentences]
        first = [next(n for n, said in enumerate(told, start=right[-1]) if line in said) for line in sentences]
        sentences = [_blaming(overrides[n], line) for n, line in zip(first, sentences, strict=True)]
    raise kind("\n".join(sentences))


def _told(attempt: Callable[[Sequence[str]], Any], overrides: Sequence[str]) -> list[str]:
    try:
        attempt(overrides)
    except UserError as error:
        return str(error).splitlines()
    return []


def _blaming(override: str, sentence: str) -> str:
    place = f"override {override!r}: "
    if sentence.startswith(place):
        return sentence
    # The line where the keys around the override's were written says nothing; that of others says what it contradicts.
    around = re.match(r".*?:\d+: (?=(\S+): )", sentence)
    return place + (sentence[around.end() :] if around and override.startswith(around[1]) else sentence)


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
    data = {} if data is None else data
    if not isinstance(data, Mapping):
        parent = yaml_strict.dotted(path[:done])
        raise UserError(f"{place}: {parent} is {data!r}, which has no keys; set it as a whole: {parent}=...")
    return {**data, path[done]: _replaced(data.get(path[done]), path, value, place, done + 1)}


# ------------------------------------------------------------------------------------------------ error sentences


def _written(problems: Sequence[Mapping[str, Any]], marks: Mapping[yaml_strict.Path, str]) -> list[Mapping[str, Any]]:
    """The problems of what somebody wrote, without those of sources and targets that inherited it."""
    said = {problem["loc"] for problem in problems} - {()}
    return [problem for problem in problems if problem["loc"][2:] not in said or problem["loc"][:3] in marks]


def sentences(problems: Sequence[Mapping[str, Any]], where: Where, algorithm: str) -> list[str]:
    """One sentence per problem: unknown keys first, since a typo also shows up as a missing key; missing keys last."""
    rank = {"extra_forbidden": 0, "missing": 2}
    # A list whose only item is wrong is reported as empty, too.
    inner = {problem["loc"][:n] for problem in problems for n in range(len(problem["loc"]))}
    problems = [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in inner]
    problems = sorted(problems, key=lambda problem: rank.get(problem["type"], 1))
    return list(dict.fromkeys(_sentence(problem, where, algorithm) for problem in problems))


def _sentence(problem: Mapping[str, Any], where: Where, algorithm: str) -> str:
    given, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    path = tuple(part for part in problem["loc"] if part != "[key]") + getattr(context.get("error"), "key", ())
    if kind == "extra_forbidden":
        name, colon, value = str(path[-1]).partition(":")
        if colon and given is None:
            return f"{where(*path)}: YAML wants a space after the colon: '{name}: {value}'"
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
    if kind == "too_long":
        return f"{where(*path)}: must have at most {context['max_length']} entries, not {context['actual_length']}"
    if kind == "tuple_type":
        return f"{where(*path)}: must be a list, not {_short(given)}"
    if kind == "int_from_float":
        return f"{where(*path)}: must be a whole number, not {_short(given)}"
    if kind in ("model_type", "dict_type"):
        return f"{where(*path)}: must be a mapping of keys to values, not {_short(given)}"
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
