import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
import tiny

from simreal import cli, experiment, experiment_folder
from simreal.arms import check
from simreal.config_files import parse
from simreal.execution import StageError
from simreal.experiment_folder import read_manifest, require_free
from simreal.plan import finished_stages, plan
from simreal.progress import SilentProgress
from simreal.stages import versions
from simreal.tracking import mirror
from simreal.tracking.base import TrackingError
from simreal.tracking.mirror import mirror_experiment
from simreal_envs.errors import UserError


def parsed(*overrides):
    return parse(tiny.CONFIG, "tiny.yaml", overrides)[0]


def weights(out):
    files = sorted(out.rglob("weights.safetensors"))
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def without_circumstances(report):
    """A report without what may differ between two runs: circumstances, and the command that names the folder."""
    return {**report, "manifest": None, "reproduce": report["reproduce"]["config"]}


@contextlib.contextmanager
def running(cwd, *words):
    """`simreal run tiny.yaml` in a group of its own; kills what is left of it."""
    process = subprocess.Popen(
        tiny.command("run", "tiny.yaml", *words), cwd=cwd, env=tiny.environment(cwd), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_every_file_of_the_design_is_there(finished):
    for name in ("config.yaml", "manifest.json", "report.json", "report.html"):
        assert (finished.out / name).stat().st_size > 0
    for seed in (0, 1):
        for name in ("weights.safetensors", "card.json", "curve.csv", "metrics.jsonl"):
            assert (finished.out / "agents/plain" / f"seed-{seed}" / name).is_file()
        for arm in ("none/scratch", "plain/zero_shot", "plain/fine_tune"):
            folder = finished.out / "arms" / arm / "light" / f"seed-{seed}"
            names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
            files = {"curve.csv", "metrics.jsonl", "evidence.json", "stage.json", "agent/card.json"}
            assert names == {*files, "agent/weights.safetensors", "agent/experience.safetensors"}
    assert not [path for path in finished.out.rglob(".*") if path.name != ".lock"]


def test_the_manifest_names_circumstances_but_neither_user_nor_host(finished):
    manifest = json.loads((finished.out / "manifest.json").read_text())
    assert manifest["command"] == "simreal run tiny.yaml --out out --json"
    assert manifest["versions"]["simreal"] and manifest["machine"]["cores"] >= 1
    assert manifest["wall_s"] > 0
    # As a word: a host called vm is in "llvmlite".
    assert not re.search(rf"\b{re.escape(os.uname().nodename)}\b", json.dumps(manifest))


def test_the_manifest_has_the_version_of_whoever_brings_the_task(tmp_path, monkeypatch):
    pytest.importorskip("minatar", reason="needs MinAtar, of the extra games")
    found = parse(tiny.CONFIG.replace("pole/mass: 0.8", "sticky: 0.2"), "tiny.yaml", ["task=minatar:breakout"])[0]
    monkeypatch.setattr(experiment, "run_stages", lambda *_, **__: pytest.fail("stop"))
    with pytest.raises(pytest.fail.Exception, match="stop"):
        experiment.run(found, tmp_path / "out")
    assert {*read_manifest(tmp_path / "out")["versions"]} - {*versions()} == {"MinAtar"}


def test_without_an_account_every_arm_gets_an_offline_wandb_run(finished):
    runs = list((finished.out / "wandb").glob("offline-run-*"))
    assert len(runs) == 2 + 6 + 1  # source agents, arms and verdicts
    assert not (finished.cwd / "wandb").exists()


def test_a_rerun_repeats_nothing_and_gives_the_same_report(finished):
    def times():
        kept = [*finished.out.glob("arms/**/*"), *finished.out.glob("agents/**/*"), *finished.out.glob("wandb/off*")]
        return {path: path.stat().st_mtime_ns for path in kept}

    before, report = times(), {**finished.report, "manifest": None}
    done = tiny.cli("run", "tiny.yaml", "--out", "out", "--json", cwd=finished.cwd)
    assert done.returncode == 0, done.stderr
    assert "11 of them done before" in done.stderr
    assert times() == before
    assert {**finished.report, "manifest": None} == report
    assert len(json.loads((finished.out / "manifest.json").read_text())["starts"]) == 2


def done_in(folder):
    """The cards of stages that are done; that of one in the making lies in a hidden folder."""
    return [path for path in folder.glob("elsewhere/**/stage.json") if not path.parent.name.startswith(".")]


def test_after_kill_9_the_rerun_gives_the_bits_of_an_uninterrupted_run(finished, tmp_path):
    (tmp_path / "tiny.yaml").write_text(tiny.CONFIG)
    with running(tmp_path, "workers=1", "--out", "elsewhere") as process:
        wait_for(lambda: list(tmp_path.glob("elsewhere/agents/*/seed-*/stage.json")))
        os.kill(process.pid, signal.SIGKILL)
    assert not list(tmp_path.glob("elsewhere/report.json"))
    kept = {path: path.stat().st_mtime_ns for path in done_in(tmp_path)}

    done = tiny.cli("run", "tiny.yaml", "--out", "elsewhere", "--json", cwd=tmp_path, closed=True)

    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert without_circumstances(json.loads(done.stdout)) == without_circumstances(finished.report)
    assert weights(tmp_path / "elsewhere") == weights(finished.out)
    assert not list(tmp_path.glob("elsewhere/**/.*.tmp-*"))


def test_ctrl_c_ends_with_130_and_one_sentence(tmp_path):
    (tmp_path / "tiny.yaml").write_text(tiny.CONFIG)
    with running(tmp_path, "sources.plain.steps=10000000", "workers=1", "--out", "out") as process:
        wait_for(lambda: list(tmp_path.glob("out/agents/plain/.seed-*/metrics.jsonl")))
        os.kill(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert [line for line in stderr.splitlines() if line.startswith("simreal: ")] == [
        "simreal: interrupted; the same command continues where it stopped"
    ]
    assert "Traceback" not in stderr and stdout == ""
    assert not list(tmp_path.glob("out/agents/**/seed-*"))


def test_arms_of_an_earlier_config_do_not_count(finished):
    same, other = parsed(), parsed("targets.light.steps=256")
    assert len(finished_stages(same, check(same), finished.out)) == 11
    done = finished_stages(other, check(other), finished.out)
    assert done == {
        name for name in finished_stages(same, check(same), finished.out) if not name.startswith(("arms/", "robust"))
    }


def test_an_arm_with_a_missing_file_does_not_count(finished, tmp_path):
    shutil.copytree(finished.out, tmp_path / "out")
    (tmp_path / "out/arms/plain/fine_tune/light/seed-1/curve.csv").unlink()
    same = parsed()
    lost = finished_stages(same, check(same), finished.out) - finished_stages(same, check(same), tmp_path / "out")
    assert lost == {"arms/plain/fine_tune/light/seed-1"}


def test_wandb_that_refuses_costs_a_warning_and_no_results(finished, tmp_path):
    shutil.copytree(finished.out, tmp_path / "out")
    (tmp_path / "tiny.yaml").write_text(tiny.CONFIG)
    shutil.rmtree(tmp_path / "out/wandb")
    for name in ("report.json", "report.html"):
        (tmp_path / "out" / name).unlink()
    no_key = {"WANDB_API_KEY": "too short", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = tiny.cli("run", "tiny.yaml", "tracking.wandb=online", "--out", "out", "--json", cwd=tmp_path, **no_key)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"simreal: warning: W&B run .* could not be written", done.stderr)
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["arms"] == finished.report["arms"]
    assert (tmp_path / "out/report.json").is_file() and (tmp_path / "out/report.html").is_file()


@pytest.mark.parametrize(
    ("problem", "raised"), [(TrackingError("the service is away"), None), (UserError("no such mode"), UserError)]
)
def test_only_trouble_with_the_service_is_forgiven(finished, tmp_path, monkeypatch, caplog, problem, raised):
    def fails(*args, **kwargs):
        raise problem

    shutil.copytree(finished.out, tmp_path / "out")
    monkeypatch.setattr(mirror, "mirror_experiment", fails)
    with pytest.raises(raised) if raised else contextlib.nullcontext():
        experiment.run(parsed("tracking.wandb=offline"), tmp_path / "out", progress=SilentProgress())
    assert (str(problem) in caplog.text) == (raised is None)


def test_online_without_a_key_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match="needs an API key"):
        experiment.run(parsed("tracking.wandb=online"), tmp_path / "out", progress=SilentProgress())
    assert not (tmp_path / "out").exists()


def test_disabled_wandb_leaves_no_trace(tmp_path, finished):
    assert mirror_experiment(tmp_path, finished.report, wandb="disabled") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is neither empty nor the folder of an experiment; give another --out"):
        experiment.run(parsed(), tmp_path, progress=SilentProgress())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    other = tmp_path / "extension/manifest.json"  # of a browser's extension: others' files have that name, too
    other.parent.mkdir()
    other.write_text('{"manifest_version": 3}')
    with pytest.raises(UserError, match="is neither empty nor the folder of an experiment"):
        experiment.run(parsed(), other.parent, progress=SilentProgress())
    assert other.read_text() == '{"manifest_version": 3}'
    with pytest.raises(UserError, match=r"thesis\.tex is not a folder that you may write to"):
        require_free(tmp_path / "thesis.tex" / "out", lambda: True, "a bundle")
    require_free(tmp_path / "new" / "out", lambda: False, "a bundle")
    require_free(tmp_path, lambda: True, "a thesis")


@pytest.mark.parametrize("left", ["", '{"started": "2026-'])
def test_an_experiment_goes_on_without_its_manifest(tmp_path, finished, monkeypatch, left):
    monkeypatch.setattr(experiment, "plan", lambda *args: [])
    monkeypatch.setattr("simreal.results.write_report", lambda out: finished.report)
    out = tmp_path / "out"
    shutil.copytree(finished.out / "references", out / "references")
    (out / "manifest.json").write_text(left)
    experiment.run(parsed("tracking.wandb=disabled"), out, progress=SilentProgress())
    assert len(read_manifest(out)["starts"]) == 1


def test_the_folder_of_an_experiment_with_another_name_is_left_alone(tmp_path, finished, monkeypatch):
    monkeypatch.setattr(experiment, "plan", lambda *args: [])
    monkeypatch.setattr("simreal.results.write_report", lambda out: finished.report)
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(finished.out / "manifest.json", out)
    shutil.copy(finished.out / "config.yaml", out)
    before = (out / "config.yaml").read_bytes(), (out / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"out is that of the experiment 'tiny', not of 'other'; give another --out"):
        experiment.run(parsed("name=other"), out, progress=SilentProgress())
    assert before == ((out / "config.yaml").read_bytes(), (out / "manifest.json").read_bytes())
    for name, damage in (("tiny", None), ("other", "name: [")):  # settings may change, and what is damaged has no name
        if damage:
            (out / "config.yaml").write_text(damage)
        changed = parsed(f"name={name}", "evaluation.episodes=1", "tracking.wandb=disabled")
        experiment.run(changed, out, progress=SilentProgress())
        assert experiment_folder.load_experiment(out) == changed


def test_two_configs_without_names_go_into_folders_of_their_own(tmp_path, monkeypatch):
    nameless = tiny.CONFIG.replace("name: tiny", "")
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(nameless)
    (tmp_path / "runs").write_text("no folder, so that nothing is run")
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        with pytest.raises(UserError, match=rf"cannot write to the output folder runs/{name}: .*runs is not a folder"):
            cli.run(f"{name}.yaml")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/manifest.json").write_text('{"starts": []}')
    (tmp_path / "out/config.yaml").write_text("name: first\n")
    with pytest.raises(UserError, match="out is that of the experiment 'first', not of 'second'; give another --out"):
        cli.run("second.yaml", out=tmp_path / "out")


def test_results_of_other_settings_are_not_replaced_without_a_word(finished, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(experiment, "run_stages", lambda *args, **rest: None)
    monkeypatch.setattr("simreal.results.write_report", lambda out: finished.report)
    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    experiment.run(parsed("tracking.wandb=disabled"), out, progress=SilentProgress())
    assert not caplog.messages
    experiment.run(parsed("tracking.wandb=disabled", "sources.plain.steps=64"), out, progress=SilentProgress())
    assert caplog.messages == [
        f"simreal: note: 7 of the results in {out} are damaged, or not of this config and these versions; they are replaced"
    ]


def test_a_failing_stage_is_named_and_the_others_are_kept(tmp_path, monkeypatch):
    from simreal import stages

    def broken(one, domains, out, built):
        kept = [stage for stage in plan(one, domains, out, built) if stage.name.startswith("references")]
        bad = stages.Stage("arms/bad", out / "arms/bad", "0", "stage_functions:fail")
        return [*kept, bad]

    monkeypatch.setattr(experiment, "plan", broken)
    with pytest.raises(StageError, match="1 stage failed"):
        experiment.run(parsed("tracking.wandb=disabled", "workers=1"), tmp_path / "out", progress=SilentProgress())
    assert (tmp_path / "out/references/targets/light/stage.json").is_file()
    assert (tmp_path / "out/errors/arms/bad.txt").is_file()


def test_the_agents_of_a_sequence_are_measured_in_all_its_targets(several):
    for way in ("plain+robust/careful", "plain/taught"):
        for seed in (0, 1):
            place = several.out / "arms" / way
            returns = json.loads((place / f"sequence/returns/seed-{seed}/returns.json").read_text())["returns"]
            for step, arm in enumerate(("light", "sequence/2-heavy")):
                curve = (place / arm / f"seed-{seed}/curve.csv").read_text().splitlines()
                assert returns[step][step] == float(curve[-1].split(",")[1])  # what the arm's own last evaluation says
            assert len(returns) == len(returns[0]) == 2


def test_every_step_begins_with_the_agent_of_the_step_before(several):
    def card(place):
        return json.loads((several.out / place / "seed-0/agent/card.json").read_text())

    for way in ("plain+robust/careful", "plain/taught"):
        before, after = card(f"arms/{way}/light"), card(f"arms/{way}/sequence/2-heavy")
        assert after["ancestors"][-1]["sha256"] == before["sha256"]
    source = json.loads((several.out / "agents/robust/seed-0/card.json").read_text())
    assert source["strategy"]["name"] == "epopt" and source["strategy"]["fraction"] == 0.5
    assert card("arms/plain+robust/careful/light")["strategy"]["name"] == "weight_average-critic_warmup"
