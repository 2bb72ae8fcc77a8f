"""What is in a bundle, as data and as a person wants to read it: `simreal inspect`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from simreal.report.heat import spaced


def inspect(bundle: str | Path) -> dict[str, Any]:
    """Read and verify a bundle, and describe it as plain data. Nothing in it is executed.

    Returns ``bundle``, ``files`` (bytes of each), ``parameters`` (their number in ``actor``, ``critic`` and an encoder
    that both have, ``shared``), ``reward_scale``, ``observation`` and ``action`` (fields of the schema; with the
    normalizer's mean and standard deviation and the action noise per element, where the agent has them) and ``card`` (all
    of it). A bundle whose checksums do not agree is refused.

    Raises:
        UserError: when it is missing, damaged, or of a kind that this version does not read.
    """
    import numpy as np
    import torch

    from simreal_agents.bundle import load
    from simreal_agents.networks import groups_of
    from simreal_agents.zoo import located

    folder = located(bundle)
    agent = load(folder)
    normalizer, schema = agent.policy.encoder.normalizer, agent.schema.to_dict()
    elements = {
        "mean": normalizer.mean.numpy(), "std": np.sqrt(normalizer.var.numpy() + normalizer.EPSILON), "rows": normalizer.count.numpy()
    } if normalizer.enabled else {}  # fmt: skip
    log_std = getattr(agent.policy.heads, "log_std", None)
    fixed = isinstance(log_std, torch.nn.Parameter)  # SAC's depends on what is observed
    noise = {"noise_std": np.exp(np.atleast_2d(log_std.detach().numpy()).mean(0))} if fixed else {}
    sizes: dict[str, int] = {}
    for group, members in groups_of(agent.policy).items():
        part = group.rpartition(".")[2]
        part = part if part in ("shared", "critic") else "actor"
        sizes[part] = sizes.get(part, 0) + sum(p.numel() for _, p in members)
    return {
        "bundle": str(bundle),
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()},
        "verified": True,
        "parameters": sizes,
        "reward_scale": agent.reward_scale,
        "observation": list(_split(schema["observation"], elements)),
        "action": list(_split(schema["action"], noise)),
        "control_period": schema["control_period"],
        "card": {**{k: v for k, v in agent.card.items() if k != "schema"}, "network": agent.policy.network},
    }


def _split(fields: Sequence[Mapping[str, Any]], elements: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The fields, each with its part of arrays that run over all elements of what is no picture."""
    start = 0
    for field in fields:
        if field.get("grid"):
            yield dict(field)
            continue
        end = start + len(field["labels"])
        yield {**field, **{name: [float(v) for v in values[start:end]] for name, values in elements.items()}}
        start = end


def print_inspection(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `inspect` found: what it is, what it sees and does, how it was trained, where it comes from."""
    card = found["card"]
    what = ", ".join(_origin(card)) if "algorithm" in card else "an agent that has not been trained"
    parts: list[Any] = [_clean(found["bundle"], "bold"), _clean(what), "", _facts(found)]
    parts += ["", Text("observes", style="bold"), _observation(found["observation"])]
    parts += ["", Text("acts", style="bold"), _action(found["action"])]
    further = {key: value for key, value in card.items() if key not in SHOWN}
    for key, title, render in SECTIONS:
        try:
            parts += ["", Text(title, style="bold"), render(card[key])] if key in card else []
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            further[key] = card[key]  # a card may hold anything: what is not ours is shown as it is
    if further:
        parts += [
            "",
            Text("also in the card", style="bold"),
            *(_clean(f"{k}: {json.dumps(v)}") for k, v in further.items()),
        ]
    (console or Console(highlight=False)).print(Group(*parts))


def _origin(card: Mapping[str, Any]) -> Iterator[str]:
    """Which algorithm, where, how long, with which strategy and seed."""
    yield str(card.get("algorithm", "?")).upper()
    if isinstance(domain := card.get("domain"), dict):
        yield f"{domain.get('task')} on {domain.get('engine')} ({domain.get('preset')})"
        yield f"variation {json.dumps(domain['variation'])}" if domain.get("variation") else "no variation"
        if bridge := domain.get("bridge"):
            yield f"bridge {json.dumps(bridge)}"
    if isinstance(card.get("strategy"), dict):
        settings = {name: value for name, value in card["strategy"].items() if name != "name"}
        yield f"strategy {card['strategy'].get('name')}" + (f" {json.dumps(settings)}" if settings else "")
    if isinstance(steps := card.get("steps", card.get("env_steps")), int):
        yield f"{steps:,} steps"
    if "seed" in card:
        yield f"seed {card['seed']}"


def _ancestors(chain: Sequence[Mapping[str, Any]]) -> Group:
    return Group(*(_clean(_ancestor(one)) for one in chain))


def _ancestor(one: Mapping[str, Any]) -> str:
    made = [", ".join(_origin(one))]
    made += [f"return {one['return_mean']:.4g}"] if one.get("return_mean") is not None else []
    made += ["by surgery"] if "surgery" in one else []
    return "; ".join([*made, f"weights {one.get('sha256', '?')[:12]}"])


def _facts(found: Mapping[str, Any]) -> Table:
    card, table = found["card"], _table(header=False)
    sizes = found["parameters"]
    period = found["control_period"]
    rows = {
        "network": _network(found),
        "parameters": ", ".join(f"{size:,} in the {PARTS[part]}" for part, size in sizes.items()),
        "acts every": f"{period:g} s ({1 / period:g} Hz)",
        "normalizer": "running mean and variance, below" if _normalized(found["observation"]) else "none",
        "rewards times": f"{found['reward_scale']:.4g} are what the value function predicts",
        "files": ", ".join(f"{name} {_bytes(size)}" for name, size in found["files"].items()),
        "checksums": f"verified: weights {card['sha256'][:12]}, card {card['card_sha256'][:12]}",
        "made with": ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
        "format": f"{card['format']}; made on {card.get('torch_threads', '?')} torch thread(s)",
    }
    if card.get("algorithm", "ppo") != "ppo":
        kept = card.get("replay")
        rows["replay buffer"] = f"{kept['transitions']:,} transitions" if kept else "not kept"
    if kept := card.get("experience"):
        rows["experience"] = f"{kept['transitions']:,} transitions from the end of its training, to compare with"
    for name, value in rows.items():
        table.add_row(_clean(name, "dim"), _clean(value))
    return table


def _network(found: Mapping[str, Any]) -> str:
    """Widths from observation to action, and what else there is."""
    network, parameters = found["card"]["network"], found["parameters"]
    pictures = any(field.get("grid") for field in found["observation"])
    inputs = "pictures" if pictures else sum(len(f["labels"]) for f in found["observation"])
    outputs = sum(len(f["labels"]) for f in found["action"])
    shape = f"{' - '.join(map(str, (inputs, *network['hidden'], outputs)))}, {network['activation']}"
    if "actor" not in parameters:
        return f"{shape}; the value of every action" + (f", {n} quantiles" if (n := network.get("n_quantiles")) else "")
    critics = network.get("n_critics", 1)
    wide = f"with layers of {network['critic_width']}" if "critic_width" in network else "of the same shape"
    shape += f"; {'a value function' if critics == 1 else f'{critics} critics'} {wide}"
    if columns := network.get("columns"):
        shape += f"; beside {len(columns['networks'])} frozen networks of sources ({columns['kind']})"
    if memory := network.get("memory"):
        shape += f"; a memory of {memory['steps']} steps ({memory['kind']})"
    return shape + (f"; heads for {network['tasks']} tasks" if "tasks" in network else "")


def _normalized(fields: Sequence[Mapping[str, Any]]) -> bool:
    return any("mean" in field for field in fields)


def _observation(fields: Sequence[Mapping[str, Any]]) -> Table:
    normalized = _normalized(fields)
    table = _table("field", "unit", "elements", *(("mean", "std", "rows seen") if normalized else ()))
    for field in fields:
        moments = (
            [_range(field[name]) if name in field else "" for name in ("mean", "std", "rows")] if normalized else []
        )
        _add(table, field["name"], field["unit"], _size(field), *moments)
    return table


def _size(field: Mapping[str, Any]) -> str:
    grid = field.get("grid")
    return (f"{grid[0]} x {grid[1]} pixels: " if grid else "") + _labels(field["labels"])


def _action(fields: Sequence[Mapping[str, Any]]) -> Table:
    noise = "noise_std" in fields[0]
    table = _table(
        "field",
        "unit",
        "one of" if fields[0].get("discrete") else "elements",
        "bounds",
        *(["noise (std)"] if noise else []),
    )
    for field in fields:
        low, high = ("unbounded" if bound is None else f"{bound:g}" for bound in (field["low"], field["high"]))
        noise_std = [_range(field["noise_std"])] if noise else []
        absent = field.get("absent", ())
        labels = _labels([label for label in field["labels"] if label not in absent])
        labels += f"; absent: {', '.join(absent)}" if absent else ""
        _add(table, field["name"], field["unit"], labels, f"{low} to {high}", *noise_std)
    return table


def _returns(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The curve, of a long one nine evenly spaced points."""
    table = _table("steps", "return", "success")
    for row in (rows[i] for i in spaced(len(rows), 9)):
        success = row.get("success_rate")
        _add(
            table,
            f"{row['env_steps']:,}",
            f"{row['return_mean']:.4g} (std {row['return_std']:.2g})",
            "" if success is None else f"{success:.0%}",
        )
    return table


def _hyperparameters(settings: Mapping[str, Any]) -> Text:
    return _clean(", ".join(f"{name} {_plain(value)}" for name, value in settings.items()))


def _surgery(record: Mapping[str, Any]) -> Group:
    table = _table("", "field", "elements", "unit", "", "")
    for row in record["rows"]:
        _add(table, row["kind"], row["field"], _labels(row["labels"]), row["unit"], row["fate"], row["says"])
    return Group(table, _clean(record["says"]))


def _table(*columns: str, header: bool = True) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD if header else None, show_header=header, show_edge=False, pad_edge=False, header_style="dim"
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*map(_clean, cells))


def _clean(text: Any, style: str = "") -> Text:
    """Text without markup or control characters: a card comes from anywhere, and must not steer the terminal."""
    return Text("".join(c if c.isprintable() else "?" for c in str(text)), style=style)


def _labels(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) <= 4 else f"{labels[0]} .. {labels[-1]} ({len(labels)})"


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.3g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _bytes(size: int) -> str:
    return f"{size / 1000:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


PARTS = {"actor": "actor", "critic": "critic", "shared": "encoder of both"}
# Key of the card, what it is called here, and who draws it.
SECTIONS = (
    ("returns", "learned", _returns),
    ("hyperparameters", "hyperparameters", _hyperparameters),
    ("ancestors", "made of", _ancestors),
    ("surgery", "surgery on the last of these", _surgery),
)
SHOWN = (
    "algorithm", "card_sha256", "domain", "env_steps", "experience", "fingerprint", "format", "network", "normalizer",
    "replay", "seed", "sha256", "steps", "strategy", "torch_threads", "versions", *(key for key, _, _ in SECTIONS),
)  # fmt: skip
