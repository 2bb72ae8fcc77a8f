"""Online mode against a server on this machine that speaks as much of W&B's protocol as one run needs."""

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from simreal.tracking import Ledger

KEY = "0123456789abcdef" * 2 + "deadbeef"
MIRROR = """
import contextlib, sys
from simreal.tracking import replay
from simreal.tracking.wandb_tracker import WandbTracker
with contextlib.closing(WandbTracker("p", "n", group="g", directory=sys.argv[2], run_id="rid")) as tracker:
    replay(sys.argv[1], tracker)
"""

EXPERIMENT = """
import json, sys
from simreal.tracking.mirror import mirror_experiment
mirror_experiment(sys.argv[1], json.load(open(sys.argv[2])), project="p", wandb=sys.argv[3])
"""


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.seen.append((self.path, body))
        reply = json.dumps(self.graphql(json.loads(body)) if self.path == "/graphql" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def graphql(self, request):
        variables, base = request.get("variables") or {}, f"http://127.0.0.1:{self.server.server_port}"
        project = {"name": "p", "entity": {"name": "me"}}
        bucket = {
            "id": "x",
            "name": variables.get("name"),
            "displayName": variables.get("displayName"),
            "config": "{}",
            "historyLineCount": 0,
            "project": project,
        }
        files = [{"name": name, "uploadUrl": f"{base}/upload/{name}"} for name in variables.get("files") or []]
        return {
            "data": {
                "upsertBucket": {"bucket": bucket, "inserted": True},
                "createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files},
                # A server that has the content of an artifact already asks for no files.
                "project": {"artifact": None},
                "createArtifact": {
                    "artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}
                },
                "useArtifact": {"artifact": {"id": "a"}},
                "notifyScriptableRunAlert": {"success": True},
                "viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
            }
        }

    do_GET = do_POST = do_PUT = answer  # noqa: N815  http.server looks these names up


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "metrics.jsonl")
    for step in (0, 100, 200):
        ledger.log(step, {"evaluation/return": step / 2})
    ledger.alert("Negative transfer", "the critic is wrong")
    ledger.close()
    return ledger.path


def run(words, tmp_path, port):
    """Run Python as a user who is logged in at that port, in a process of its own; return what came of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "WANDB_API_KEY": KEY, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
    return subprocess.run(
        [sys.executable, *map(str, words)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip


def queries(server, name):
    """The variables of all calls of a GraphQL query or mutation."""
    sent = [json.loads(body) for path, body in server.seen if path == "/graphql"]
    return [one["variables"] for one in sent if f"{name}(" in one["query"]]


def history(server, run_id):
    """The rows of history that a run has sent."""
    streamed = [json.loads(body) for path, body in server.seen if path.endswith(f"/{run_id}/file_stream")]
    rows = [row for one in streamed for row in one.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])]
    return [json.loads(row) for row in rows]


def test_who_is_logged_in_gets_the_run_on_the_server(server, ledger, tmp_path):
    done = run(["-c", MIRROR, ledger, tmp_path / "out"], tmp_path, server.server_port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    upsert = queries(server, "upsertBucket")[0]
    assert (upsert["name"], upsert["project"], upsert["groupName"], upsert["displayName"]) == ("rid", "p", "g", "n")
    found = history(server, "rid")
    assert [(row["env_steps"], row["evaluation/return"]) for row in found] == [(0, 0), (100, 50), (200, 100)]
    assert queries(server, "notifyScriptableRunAlert")
    assert not (tmp_path / "wandb").exists()


def test_a_whole_experiment_goes_online_with_its_tables_film_page_and_alerts(server, experiment, tmp_path):
    out, report = experiment
    (tmp_path / "report.json").write_text(json.dumps(report))
    done = run(["-c", EXPERIMENT, out, tmp_path / "report.json", "online"], tmp_path, server.server_port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    started = [one for one in queries(server, "upsertBucket") if one["displayName"]]
    assert len({one["name"] for one in started}) == 9 and {one["groupName"] for one in started} == {"quick"}
    assert sorted(one["jobType"] for one in started) == ["arm"] * 6 + ["source"] * 2 + ["verdicts"]
    (arm,) = [one["name"] for one in started if one["displayName"] == "fine_tune heavy seed-1"]
    assert [(row["_step"], row["env_steps"], row["return/heavy"]) for row in history(server, arm)] == [
        (0, 0, 0), (100, 100, 200), (200, 200, 400),
    ]  # fmt: skip
    uploaded = [path.removeprefix("/upload/media/") for path, _ in server.seen if path.startswith("/upload/media/")]
    kinds = sorted(path.partition("_")[0] for path in uploaded)
    assert kinds == ["html/report", "table/curves/heavy", "table/early", "table/parameters", "table/reasons", "table/robustness",
                     "table/signals", "table/verdicts", "videos/video/heavy"]  # fmt: skip
    titles = {one["title"] for one in queries(server, "notifyScriptableRunAlert")}
    assert titles == {f"{what}: frozen_encoder on heavy" for what in ("Negative transfer", "Early warning")}
    assert not any(KEY.encode() in body for _, body in server.seen)


def test_an_offline_run_that_went_on_is_uploaded_as_one_run_with_one_step_axis(server, experiment, tmp_path):
    out, report = experiment
    (tmp_path / "report.json").write_text(json.dumps(report))
    words = ["-c", EXPERIMENT, out, tmp_path / "report.json", "offline"]
    assert run(words, tmp_path, server.server_port).returncode == 0
    first = {path.name.rpartition("-")[2] for path in (out / "wandb").glob("offline-run-*")}
    ledger = Ledger(out / "arms/none/scratch/heavy/seed-1/metrics.jsonl")
    ledger.log(300, {"eval/return_mean": 7.0})
    ledger.close()
    assert run(words, tmp_path, server.server_port).returncode == 0
    folders = sorted((out / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime)
    assert len(folders) == 9 and {path.name.rpartition("-")[2] for path in folders} == first
    assert not queries(server, "upsertBucket")
    done = run(["-m", "wandb", "sync", "--yes", folders[-1]], tmp_path, server.server_port)
    assert done.returncode == 0, done.stderr
    run_id = folders[-1].name.rpartition("-")[2]
    assert queries(server, "upsertBucket")[0]["name"] == run_id
    rows = history(server, run_id)
    assert [(row["_step"], row["return/heavy"]) for row in rows] == [(0, 0), (100, 100), (200, 200), (300, 7)]
    assert KEY not in done.stdout + done.stderr
