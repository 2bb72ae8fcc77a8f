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


def inspect(bundle: str | Path) -> dict[str, Any]:
    """Read and verify a bundle, and describe it as plain data. Nothing in it is executed.

    Returns ``bundle``, ``files`` (bytes of each), ``parameters`` (their number per tower), ``reward_scale``,
    ``observation`` and ``action`` (fields of the schema; with the normalizer's mean and standard deviation and the
    action noise per element) and ``card`` (all of it). A bundle whose checksums do not agree is refused.

    Raises:
        UserError: when it is missing, damaged, or of a kind that this version does not read.
    """
    import numpy as np

    from simreal_agents.bundle import load

    folder = Path(bundle)
    agent = load(folder)
    normalizer, schema = agent.policy.encoder.normalizer, agent.schema.to_dict()
    elements = {
        "mean": normalizer.mean.numpy(), "std": np.sqrt(normalizer.var.numpy() + normalizer.EPSILON), "rows": normalizer.count.numpy()
    } if normalizer.enabled else {}  # fmt: skip
    noise = {"noise_std": np.exp(agent.policy.heads.log_std.detach().numpy())}
    sizes = {
        tower: sum(p.numel() for layer in agent.policy.linears(tower) for p in layer.parameters())
        for tower in ("actor", "critic")
    }
    return {
        "bundle": str(folder),
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()},
        "verified": True,
        "parameters": sizes,
        "reward_scale": agent.reward_scale,
        "observation": list(_split(schema["observation"], elements)),
        "action": list(_split(schema["action"], noise)),
        "control_period": schema["control_period"],
        "card": {key: value for key, value in agent.card.items() if key != "schema"},
    }


def _split(fields: Sequence[Mapping[str, Any]], elements: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The fields, each with its part of arrays that run over all elements."""
    start = 0
    for field in fields:
        end = start + len(field["labels"])
        yield {**field, **{name: [float(v) for v in values[start:end]] for name, values in elements.items()}}
        start = end


def print_inspection(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `inspect` found: what it is, what it sees and does, how it was trained, where it comes from."""
    card = found["card"]
    parts: list[Any] = [_clean(found["bundle"], "bold"), _clean(_what(card)), "", _facts(found)]
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


def _what(card: Mapping[str, Any]) -> str:
    """One line: which algorithm, where, how long, with which strategy and seed."""
    return "an agent that has not been trained" if "algorithm" not in card else ", ".join(_origin(card))


def _origin(card: Mapping[str, Any]) -> Iterator[str]:
    yield str(card.get("algorithm", "?")).upper()
    if isinstance(domain := card.get("domain"), dict):
        yield f"{domain.get('task')} on {domain.get('engine')} ({domain.get('preset')})"
        yield f"variation {json.dumps(domain['variation'])}" if domain.get("variation") else "no variation"
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
    network, sizes = card["network"], found["parameters"]
    widths = [
        sum(len(f["labels"]) for f in found["observation"]),
        *network["hidden"],
        sum(len(f["labels"]) for f in found["action"]),
    ]
    period = found["control_period"]
    rows = {
        "network": f"{' - '.join(map(str, widths))}, {network['activation']}; a value function of the same shape",
        "parameters": f"{sizes['actor']:,} in the actor, {sizes['critic']:,} in the critic",
        "acts every": f"{period:g} s ({1 / period:g} Hz)",
        "normalizer": "running mean and variance, below" if "mean" in found["observation"][0] else "none",
        "rewards times": f"{found['reward_scale']:.4g} are what the value function predicts",
        "files": ", ".join(f"{name} {_bytes(size)}" for name, size in found["files"].items()),
        "checksums": f"verified: weights {card['sha256'][:12]}, card {card['card_sha256'][:12]}",
        "made with": ", ".join(f"{name} {version}" for name, version in dict(card.get("versions", {})).items()),
        "format": f"{card['format']}; made on {card.get('torch_threads', '?')} torch thread(s)",
    }
    for name, value in rows.items():
        table.add_row(_clean(name, "dim"), _clean(value))
    return table


def _observation(fields: Sequence[Mapping[str, Any]]) -> Table:
    normalized = "mean" in fields[0]
    table = _table("field", "unit", "elements", *(("mean", "std", "rows seen") if normalized else ()))
    for field in fields:
        moments = [_range(field["mean"]), _range(field["std"]), _range(field["rows"])] if normalized else []
        _add(table, field["name"], field["unit"], _labels(field["labels"]), *moments)
    return table


def _action(fields: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("field", "unit", "elements", "bounds", "noise (std)")
    for field in fields:
        low, high = ("unbounded" if bound is None else f"{bound:g}" for bound in (field["low"], field["high"]))
        _add(
            table,
            field["name"],
            field["unit"],
            _labels(field["labels"]),
            f"{low} to {high}",
            _range(field["noise_std"]),
        )
    return table


def _returns(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The curve, of a long one nine evenly spaced points."""
    shown = sorted({round(i * (len(rows) - 1) / 8) for i in range(9)}) if len(rows) > 9 else range(len(rows))
    table = _table("steps", "return", "success")
    for row in (rows[i] for i in shown):
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


# Key of the card, what it is called here, and who draws it.
SECTIONS = (
    ("returns", "learned", _returns),
    ("hyperparameters", "hyperparameters", _hyperparameters),
    ("ancestors", "made of", _ancestors),
    ("surgery", "surgery on the last of these", _surgery),
)
SHOWN = (
    "algorithm", "card_sha256", "domain", "env_steps", "format", "network", "normalizer", "seed", "sha256", "steps", "strategy",
    "torch_threads", "versions", *(key for key, _, _ in SECTIONS),
)  # fmt: skip
