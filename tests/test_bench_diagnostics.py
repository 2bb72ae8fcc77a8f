import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_benchmark_tells_what_signals_cost_in_an_arm(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/bench_diagnostics.py"), "--rounds", "1", "--shorter", "1000"]
    done = subprocess.run(
        [*command, "--cases", "cart-pole on MuJoCo, PPO", "--json", str(tmp_path / "rows.json")],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["name"].rpartition("/")[2]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert rows["share of an arm"]["unit"] == "%" and 0 < rows["share of an arm"]["value"] < 100
    assert rows["an arm with signals"]["against"] == "an arm without" and rows["an arm with signals"]["ratio"] > 0
    spent = [rows[f"signals at {when}"]["value"] for when in ("the handover", "another evaluation")]
    assert spent[0] > spent[1] > 0 and rows["what the agent carries along"]["value"] > 0
