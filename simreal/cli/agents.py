"""What is done to a saved agent: `inspect` it, `fit` it to other fields, `export` and `import` it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from simreal.cli.arguments import Bundle, Config, Json, Overrides, domain_of, opened, require_apart
from simreal.cli.output import note, print_json, tell
from simreal_envs.errors import UserError

if TYPE_CHECKING:
    from simreal_agents.bundle import Agent


def inspect(bundle: Bundle, /, *, json: Json = False) -> None:
    """Show what is in a saved agent: what it sees and does, how it was trained, where it comes from; verifies it."""
    from simreal.inspection import inspect as look_into
    from simreal.inspection import print_inspection

    found = look_into(bundle)
    print_json(found) if json else print_inspection(found)


def fit(
    bundle: Bundle, config: Config, overrides: Overrides = (), /, *, out: Path, target: str = "",
    encoder: Literal["keep", "new"] = "keep", json: Json = False,
) -> None:  # fmt: skip
    """Fit a saved agent to what a target observes and takes, by field, element and unit; says what was matched and what not.

    Args:
        out: folder of the fitted agent's bundle.
        target: name of the target in the config (default: the first).
        encoder: new starts with a fresh one where the old one cannot be fitted, e.g. from a vector to a picture.
    """
    from simreal.experiment import SAME
    from simreal.experiment_folder import require_free
    from simreal_agents.bundle import load
    from simreal_agents.surgery import fit as fit_agent
    from simreal_envs.view import schema_of

    _, _, domains = opened(config, overrides)
    name, domain = domain_of(domains, target, "targets")
    given = load(bundle)
    agent, surgery = fit_agent(given, schema_of(domain.seen_by(given.card.get("domain"))), encoder=encoder)
    require_apart(out, bundle)
    require_free(out, lambda: _holds(out, agent), SAME)
    agent.save(out)
    if json:
        return print_json({"bundle": str(out), "target": name, **surgery.to_dict()})
    print(f"{surgery}\nbundle: {out}")


def export(bundle: Bundle, /, *, to: str, out: Path | None = None, json: Json = False) -> None:
    """Write a saved agent for other programs: ONNX for a robot, a zip for Stable-Baselines3, or the Hugging Face Hub.

    Args:
        to: onnx (checked against the agent in onnxruntime before it is written), sb3, or hub:user/name.
        out: a new file, .onnx or .zip.
    """
    from simreal.exchange import export_bundle

    tell(export_bundle(bundle, to, out), json)


def import_(
    path: Annotated[Positional[Path], arg(metavar="ZIP", help="model of Stable-Baselines3, or a folder of RL Zoo")], /, *,
    out: Path, task: str = "", config: str = "", domain: str = "", vec_normalize: Path | None = None, trust: bool = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Turn the policy of a zip of Stable-Baselines3 into a bundle. Runs nothing of it unless trusted.

    Args:
        out: folder of the bundle, which must not exist.
        task: name of the task that the policy is for; or give a config.
        config: an experiment that has the policy's task.
        domain: a source or target of the config (default: the first source).
        vec_normalize: file written by VecNormalize.save; a folder's own is found.
        trust: read pickles (VecNormalize, clip range), which can run any code.
    """
    from simreal.exchange import import_agent
    from simreal_envs.variation import Domain

    if bool(task) == bool(config):
        raise UserError("import needs --task or --config, one of them, to know what observations and actions mean")
    if config:
        _, _, domains = opened(config)
        _, chosen = domain_of(domains, domain, "sources", "targets")
    elif domain:
        raise UserError("--domain names a source or target of a config: give --config, too")
    else:
        chosen = Domain(task)
    result = import_agent(path, chosen, out, vec_normalize, trust)
    if not json:
        for sentence in result.pop("notes"):
            note(sentence)
    tell(result, json)


def _holds(folder: Path, agent: Agent) -> bool:
    """Whether a folder is the bundle of this very agent."""
    from simreal_agents.bundle import load

    try:
        kept = load(folder)
    except UserError:
        return False
    return (kept.schema, kept.lineage) == (agent.schema, agent.lineage)
