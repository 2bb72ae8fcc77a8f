import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_the_race_compares_both_learners_and_says_where_time_goes(algorithm, tmp_path):
    sizes = ("--tasks", "cartpole_swingup", "--algorithms", algorithm, "--widths", "8", "--worlds", "2")
    command = [sys.executable, str(ROOT / "scripts/bench_offpolicy.py"), *sizes, "--seconds", "0.01", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "rows.json")], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "rows.json").read_text())
    prefix = f"cartpole_swingup/{algorithm.upper()} 8x8, 2 worlds/"
    rows = {(row["name"].removeprefix(prefix), row["against"]): row for row in data["rows"]}
    assert {("simreal", "SB3"), ("SB3", None), ("simreal: update", None), ("simreal: physics", None)} <= set(rows)
    assert all(row["value"] > 0 for row in data["rows"])
    assert rows["simreal", "SB3"]["ratio"] > 0
