"""What `simreal parity` and `simreal audit` print and write."""

import contextlib
import html
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("pybullet")

import simreal as sr
from simreal.parity_report import (
    audit_sentence,
    headline,
    identified,
    markdown,
    matrix,
    percent,
    print_audit,
    print_parity,
    ratio,
    render,
    si,
)  # fmt: skip
from simreal_agents.bundle import Agent
from simreal_envs.parity import run

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def report():
    return run("cartpole_swingup").to_dict()


def printed(show, *arguments):
    console = Console(width=80, record=True, file=io.StringIO())
    show(*arguments, console)
    return console.export_text()


AUDITED = {
    "name": "pole/mass", "unit": "kg", "support": "exact", "through": "engine", "nominal": 1.0, "applied": 2.0, "read": 2.0,
    "effect": 0.25, "noise": 0.0, "twice": 0.3, "left": 0.0, "flags": [],
}  # fmt: skip


# ---- tables ------------------------------------------------------------------------------------------------------------


def test_the_table_fits_80_columns_and_says_where_and_why(report):
    text = printed(print_parity, report)
    assert max(map(len, text.splitlines())) <= 80
    assert "matched: mujoco and bullet agree in every probe." in text
    row = next(line for line in text.splitlines() if line.startswith("free swing") and "≠" in line)
    assert "> 10 % mass" in row and "slider" in row
    assert "link damping: every body loses this share of its velocity" in re.sub(r"\s+", " ", text)


def test_figures_read_as_people_write_them():
    assert [si(v, "rad") for v in (0.0, 1e-12, 4.2e-3, 0.5, 2.0, 3e-5, None)] == [
        "0",
        "0",
        "4.2 mrad",
        "500 mrad",
        "2 rad",
        "30 µrad",
        "–",
    ]
    assert [ratio(v) for v in (None, 0.0, 0.004, 0.5, 12.3)] == ["–", "0", "<0.01", "0.50", "12"]
    assert [percent(v) for v in (0.0, 1e-6, 0.0234, 0.5, 2.0, 100.0, None)] == [
        "0",
        "<0.01 %",
        "2.3 %",
        "50 %",
        "200 %",
        "> 500 %",
        "> 500 %",
    ]


def test_an_audit_says_what_is_wrong_with_which_parameter():
    good, bad = AUDITED, AUDITED | {"name": "friction", "unit": "1", "flags": ["compounding"]}
    text = printed(print_audit, [good, bad], "task on mujoco")
    assert re.search(r"pole/mass +1 +2 kg +25 % +ok", text)
    assert re.search(r"friction +1 +2 +25 % +compounding 30 %", text)
    assert "1 of 2 parameters are flagged: friction." in text
    assert "all 1 parameters act" in audit_sentence([good], "x")


def test_an_audit_says_what_hardly_acts_and_what_only_chance_could_show():
    faint, unseen = AUDITED | {"effect": 2e-7}, AUDITED | {"effect": 0.0, "flags": ["no-op"], "through": "chance"}
    text = printed(print_audit, [faint], "x")
    assert "ok, faint" in text and "faint: it acts, but changes less than 1e-05 of the motion" in text
    assert "nothing but random actions" in printed(print_audit, [unseen], "x")
    assert "nothing but random actions" not in printed(print_audit, [unseen | {"through": "engine"}], "x")
    refused = AUDITED | {"effect": 0.0, "flags": ["refused"], "applied": 0.0}
    text = printed(print_audit, [refused], "x")
    assert "refused" in text and "faint" not in text
    long = printed(print_audit, [unseen | {"name": f"kwargs/{'very_' * 12}long"}], "x")
    assert "no-op" in long.split("effect:")[0]  # however long the name


def test_the_headline_counts_where_engines_agree(report):
    assert (
        headline(report)
        == "The engines agree in 5 of 5 probes under matched and in 1 of 5 probes under engine_default."
    )
    assert headline(report | {"presets": report["presets"][:1]}) == "The engines agree in every probe."


def test_tables_of_the_page_hold_every_coordinate_and_every_joint(report):
    cells = matrix(report["presets"][0])
    assert [name for name, _ in cells["rows"]] == ["slider", "hinge"]
    step = cells["probes"].index("step response")
    assert cells["rows"][1][1][step] is None  # the hinge has no drive
    table = identified(report, report["presets"][1])
    apart = {
        (joint, label)
        for joint, row in table["rows"]
        for label, cell in zip(table["labels"], row, strict=True)
        if cell["apart"]
    }
    assert {("slider", "damping"), ("hinge", "damping")} <= apart and ("slider", "inertia") not in apart


# ---- the page ----------------------------------------------------------------------------------------------------------


def test_the_same_report_gives_the_same_page_and_what_it_holds_is_escaped(report):
    assert render(report) == render(json.loads(json.dumps(report)))
    page = render(report | {"task": "<script>alert(1)</script>"}, "simreal parity <x>")
    assert "<script>alert(1)" not in page and "simreal parity &lt;x&gt;" in page


def test_the_page_asks_for_nothing_from_elsewhere(report):
    page = render(report)
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "default-src 'none'" in html.unescape(page) and not re.search(r"(src|href)=[\"']https?:", outside)


def test_the_page_draws_its_charts_without_an_error(report, tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    page = tmp_path / "parity.html"
    page.write_text(render(report))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--types-data-dir={tmp_path / 'chrome'}", "--enable-logging=stderr",
         "--virtual-time-budget=20000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert not re.findall(r"CONSOLE.*(?:Error|Refused)", done.stderr)
    assert done.stdout.count('class="main-svg"') >= 2 and done.stdout.count("<option") == 2 * (5 + 2)


# ---- commands ----------------------------------------------------------------------------------------------------------


def test_parity_prints_writes_and_shows_progress_on_stderr(types, tmp_path):
    status, out, err = types("parity", "cartpole_swingup", "--preset", "matched", "--out", "found")
    assert status == 0 and "agree in every probe" in out and "report: found/parity.html" in out
    assert "[100 %]" in err and "matched" in err
    found = json.loads((tmp_path / "found/parity.json").read_text())
    assert found["format"] == 1 and [c["preset"] for c in found["presets"]] == ["matched"]
    assert found["presets"][0]["probes"][0]["traces"]
    assert "simreal parity cartpole_swingup" in (tmp_path / "found/parity.html").read_text()


def test_parity_looks_whether_it_can_write_before_it_computes(types, tmp_path):
    (tmp_path / "taken/parity.html").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for out, says in (("taken", "it is a folder"), ("file", "file is not a folder that you may write to")):
        status, said, err = types("parity", "cartpole_swingup", "--out", out)
        assert (status, said) == (2, "") and says in err and len(err.splitlines()) == 1


def test_parity_prints_json_alone_on_stdout(types):
    with pytest.warns(UserWarning, match="mujoco is compared with itself: that tells whether it repeats itself"):
        status, out, _ = types(
            "parity", "cartpole_swingup", "--preset", "matched", "--engines", "mujoco,mujoco", "--json"
        )
    assert status == 0 and json.loads(out)["engines"] == ["mujoco", "mujoco"]
    assert "traces" not in json.loads(out)["presets"][0]["probes"][0]


def test_parity_lets_a_saved_agent_act(types, finished):
    bundle = finished.out / "agents/plain/seed-0"
    status, out, _ = types("parity", "cartpole_swingup", "--preset", "matched", "--agent", bundle, "--json")
    names = [p["name"] for p in json.loads(out)["presets"][0]["probes"]]
    assert status == 0 and {"policy (open loop)", "policy (closed loop)"} <= set(names)


def test_parity_says_that_an_agent_with_a_history_sees_more_than_the_task_shows(types, tmp_path):
    domain = sr.Domain("cartpole_swingup", observe=sr.Observe(history=2))
    with contextlib.closing(sr.make(domain)) as worlds:
        bundle = Agent.new(worlds.schema, {"hidden": [4]}).save(tmp_path / "agent")
    status, _, err = types("parity", "cartpole_swingup", "--agent", bundle)
    assert status == 2 and "also sees history/cart_position, history/pole_direction, " in err and "(`observe`)" in err


def test_audit_prints_a_row_for_every_parameter(types):
    status, out, err = types("audit", "cartpole_swingup", "--json")
    rows = json.loads(out)
    assert status == 0 and {"pole/mass", "latency", "gravity"} <= {row["name"] for row in rows}
    assert all(row["flags"] == [] for row in rows) and "[100 %]" in err


def test_audit_takes_environments_of_gymnasium(types):
    status, out, _ = types("audit", "gymnasium:Pendulum-v1")
    assert status == 0 and "kwargs/g" in out and re.search(r"gymnasium:Pendulum-v1: all \d+ parameters\s+act", out)


def test_an_audit_that_finds_something_exits_with_1(types, monkeypatch):
    from simreal_envs.engines.mujoco import MujocoEngine

    def deaf(self, ids, values):
        return apply(self, ids, {name: value for name, value in values.items() if name != "gravity"})

    apply = MujocoEngine.apply
    monkeypatch.setattr(MujocoEngine, "apply", deaf)
    status, out, _ = types("audit", "cartpole_swingup")
    assert status == 1 and re.search(r"gravity.*no-op, read-back", out)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("parity", "cartpole"), "unknown task 'cartpole'; did you mean 'cartpole_swingup'"),
        (("parity", "cartpole_swingup", "--engines", "mujoco,bulet"), "unknown engine 'bulet'; did you mean 'bullet'"),
        (("parity", "cartpole_swingup", "--engines", "mujoco"), "takes two engines"),
        (("parity", "cartpole_swingup", "--agent", "nowhere"), "there is no bundle at nowhere"),
        (
            ("parity", "gymnasium:Hopper-v5"),
            "runs on mujoco alone: there is nothing to compare it with; whether its parameters do what",
        ),
        (
            ("audit", "gymnasium:Hopper-v5", "--engine", "bullet"),
            "unknown engine of gymnasium:Hopper-v5 'bullet'; valid: mujoco",
        ),
        (
            ("audit", "cartpole_swingup", "--preset", "matchd"),
            "unknown preset of cartpole_swingup 'matchd'; did you mean 'matched'",
        ),
        (("audit", "cartpole_swingup", "--engine", "mujco"), "unknown engine 'mujco'; did you mean 'mujoco'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(types, words, sentence):
    status, out, err = types(*words)
    assert (status, out) == (2, "") and sentence in err.splitlines()[-1] and "Traceback" not in err


# ---- documentation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["cartpole_swingup", "quadruped"])
def test_the_tables_of_the_documentation_are_those_of_its_data(task):
    data = json.loads((ROOT / f"docs/results/parity_{task}.json").read_text())
    assert markdown(data) in (ROOT / "docs/parity.md").read_text()


def test_the_documented_cart_pole_is_what_a_run_gives(report):
    data = json.loads((ROOT / "docs/results/parity_cartpole_swingup.json").read_text())
    if data["versions"] != report["versions"]:
        pytest.skip(f"measured with {data['versions']}")
    assert markdown(report) == markdown(data)
