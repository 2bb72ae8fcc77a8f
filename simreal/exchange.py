"""Agents out of and into the suite: what the commands `export` and `import` do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simreal.evaluation import EVALUATION_SEED
from simreal_agents import hub, sb3
from simreal_agents.bundle import Agent, load
from simreal_agents.export import export_onnx
from simreal_agents.files import require_new
from simreal_agents.zoo import located
from simreal_envs.errors import UserError, require_known
from simreal_envs.schema import Observation
from simreal_envs.variation import Domain
from simreal_envs.worlds import make

WORLDS, STEPS = 8, 64


def export_bundle(bundle: str | Path, to: str, out: Path | None = None) -> dict[str, Any]:
    """Write a saved agent for other programs; returns what the command prints.

    Args:
        bundle: what `simreal_agents.bundle.load` takes.
        to: ``"onnx"``, ``"sb3"`` or ``"hub:user/name"``.
        out: a new file, ``.onnx`` or ``.zip``; none for the Hub.

    Raises:
        UserError: it cannot be written, or an ONNX file would not act like the agent; nothing is written then.
    """
    if to.startswith(hub.TO):
        if out is not None:
            raise UserError(f"--to {to} writes no file; leave --out away")
        load(bundle)  # verified
        return {"repository": hub.push(located(bundle), to), "opens_with": f"hf:{hub.parsed(to)[0]}"}
    require_known(to, ("onnx", "sb3", f"{hub.TO}user/name"), "format", "--to")
    if out is None:
        raise UserError(f"--to {to} writes a file: name it with --out")
    agent = load(bundle)
    if to == "sb3":
        model, *statistics = sb3.save_zip(agent, out)
        rows = {"file": str(model), "statistics": str(statistics[0]) if statistics else "none: raw observations"}
        actions = "choices" if agent.schema.choices else "from -1 to 1 over the range of the machine's"
        return {**rows, "actions": actions, "opens_with": sb3.opens_with(agent)}
    require_new(out, ".onnx")
    recorded, source = record(agent)
    done = export_onnx(agent, out, recorded)
    return {
        "file": str(done.path),
        "bytes": done.bytes,
        "difference": done.difference,
        "observations": done.observations,
        "recorded": WORLDS * STEPS if recorded is not None else 0,
        "recorded_in": source,
    }


def import_agent(path: Path, domain: Domain, out: Path, vec_normalize: Path | None, trust: bool) -> dict[str, Any]:
    """Turn the policy of an SB3 zip or RL Zoo folder into a bundle; returns what the command prints.

    Args:
        domain: where the agent is going to act; its task's schema says what observations and actions mean.
        out: a new folder.
        vec_normalize: pickle of the statistics; `trust` says that it may run code.

    Raises:
        UserError: the policy cannot be read or is for another task; nothing is written then.
    """
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already; give another name or remove it first")
    imported = sb3.load_zip(path, vec_normalize=vec_normalize, trust=trust)
    worlds = make(domain, 1, EVALUATION_SEED)
    worlds.close()
    agent = imported.agent(worlds.schema)
    card = {"imported": {**imported.card["imported"], "domain": domain.to_dict()}}
    agent.save(out, card)
    network = agent.policy.network
    return {
        "bundle": str(out),
        "task": domain.task,
        "network": f"{' x '.join(map(str, network['hidden']))} {network['activation']}",
        "normalizer": "VecNormalize" if network["normalize_observations"] else "none",
        "critic": "imported" if imported.critic else "new",
        "notes": list(imported.notes),
    }


def record(agent: Agent) -> tuple[Observation | None, str]:
    """A batch of what the agent observes, raw, where its card says it is from, and where that is.

    None where that domain cannot be made here (another machine's task, an engine that is not installed); the text says why.
    """
    data = agent.card.get("domain") or agent.card.get("imported", {}).get("domain")
    if not data:
        return None, "nowhere: the agent's card names no domain"
    try:
        domain = Domain.from_dict(data)
        worlds = make(domain, WORLDS, EVALUATION_SEED)
    except UserError as error:
        return None, f"nowhere: {error}"
    except (KeyError, TypeError, AttributeError):
        return None, "nowhere: the domain on the agent's card is none"
    try:
        worlds.progress = 1.0
        agent.schema.require_same(worlds.schema, "the agent", "its domain")
        seen = worlds.reset()[0]
        rows = [agent.schema.unpack(seen).copy()]
        for _ in range(STEPS - 1):
            seen = worlds.step(agent.act(seen))[0]
            rows.append(agent.schema.unpack(seen).copy())
    except UserError as error:
        return None, f"nowhere: {error}"
    finally:
        worlds.close()
    return agent.schema.pack(np.concatenate(rows)), f"{domain.task} on {domain.engine}"
