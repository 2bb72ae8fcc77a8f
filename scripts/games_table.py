"""Run game experiments and write their verdicts, the measured table of docs/games.md.

    python scripts/games_table.py [configs/games/grid_quick.yaml [key=value ...] ...] [--json docs/results/games.json]

Every config runs as `simreal run` runs it, with the overrides that follow it. What is done stays in --out and is not repeated;
rows of other configs stay in the file.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_common import say

from simreal import config_files
from simreal.arms import NO_SOURCE, Arm
from simreal.config import CONTROL_ARM
from simreal.experiment import run
from simreal.files import write_text
from simreal.manifest import manifest
from simreal.stages import CARD
from simreal_envs.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs/games"


def runs_of(words: Sequence[str]) -> list[tuple[Path, list[str]]]:
    """Configs, each with the overrides that follow it."""
    runs: list[tuple[Path, list[str]]] = []
    for word in words:
        if "=" in word and runs:
            runs[-1][1].append(word)
        else:
            runs.append((Path(word), []))
    return runs


def rows_of(path: Path, out: Path) -> list[dict[str, Any]]:
    """A row for every arm of a finished experiment."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))

    def cpu(folders: Sequence[Path]) -> float:
        """Minutes of processor time, a mean over seeds."""
        seconds = [json.loads((folder / CARD).read_text(encoding="utf-8"))["cpu_s"] for folder in folders]
        return sum(seconds) / len(seconds) / 60

    rows = []
    for arm in report["arms"]:
        source, strategy, target, seeds = (arm[key] for key in ("source", "strategy", "target", "seeds"))
        steps = report["budget"]["target_steps"][target]
        rows.append({
            "config": f"configs/games/{path.name}", "source": source, "strategy": strategy, "target": target,
            "verdict": arm["verdict"], "area": arm["area"], "jumpstart": arm["jumpstart"],
            "final_return": arm["final_return_raw"], "scratch_return": report["scratch"][target]["final_return_raw"],
            "random_return": report["normalization"][target]["random"], "seeds": len(seeds),
            "source_steps": report["budget"]["source_steps"][source], "env_steps": steps,
            "minutes": cpu([out / Arm(source, strategy, target, seed).path for seed in seeds]),
            "scratch_minutes": cpu([out / Arm(NO_SOURCE, CONTROL_ARM, target, seed).path for seed in seeds]),
            "source_minutes": cpu([out / "agents" / source / f"seed-{seed}" for seed in seeds]),
        })  # fmt: skip
    return rows


def ways_of(path: Path, out: Path) -> list[dict[str, Any]]:
    """What is left and what is lost along a finished experiment's sequence of targets, by strategy; none without one."""
    sequence = json.loads((out / "report.json").read_text(encoding="utf-8")).get("sequence")
    measured = ("accuracy", "forgetting", "backward_transfer", "forward_transfer")
    return [
        {"config": f"configs/games/{path.name}", "source": way["source"], "strategy": way["strategy"]}
        | {"targets": sequence["targets"], "seeds": len(way["seeds"]), "returns": way["returns"]}
        | {name: way[name] for name in measured}
        for way in (sequence or {}).get("ways", ())
    ]


def main() -> int:
    """Run what is not done, print the rows, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", help="all of configs/games by default")
    parser.add_argument("--out", type=Path, default=Path("runs/games"), help="what is done")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    made = manifest(shlex.join(["python", "scripts/games_table.py", *options.configs]))
    measured = {"started": made["started"], "commit": made["git"]["commit"]}
    rows, ways, names = [], [], []
    for path, overrides in runs_of(options.configs or sorted(map(str, CONFIGS.glob("*.yaml")))):
        try:
            run(config_files.load(path, overrides), options.out / path.stem)
        except UserError as error:
            parser.error(str(error))
        names.append(f"configs/games/{path.name}")
        more = ({"overrides": overrides} if overrides else {}) | {"measured": measured}
        rows += [row | more for row in rows_of(path, options.out / path.stem)]
        ways += ways_of(path, options.out / path.stem)
    for row in rows:
        area = row["area"]
        say(f"{row['source']} -> {row['target']:21} {row['strategy']:15} {row['verdict']:13} area {area['value']:+.2f}")
    if options.json:
        machine = {**made["machine"], **{key: made[key] for key in ("command", "started", "versions", "git")}}
        before = json.loads(options.json.read_text(encoding="utf-8")) if options.json.is_file() else {}
        order = list(dict.fromkeys([*(row["config"] for row in before.get("rows", ())), *names]))
        found = {
            key: sorted(
                [*(row for row in before.get(key, ()) if row["config"] not in names), *new],
                key=lambda row: order.index(row["config"]),
            )
            for key, new in (("rows", rows), ("sequences", ways))
        }
        write_text(options.json, json.dumps({"machine": machine, **found}, indent=1, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
