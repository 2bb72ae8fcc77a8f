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
MIRROR = "import sys; from simreal.tracking.wandb_tracker import mirror; mirror(sys.argv[1], project='p', name='n', "
MIRROR += "group='g', directory=sys.argv[2], run_id='rid')"


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
            "name": "rid",
            "displayName": "n",
            "config": "{}",
            "historyLineCount": 0,
            "project": project,
        }
        files = [{"name": name, "uploadUrl": f"{base}/upload/{name}"} for name in variables.get("files") or []]
        return {
            "data": {
                "upsertBucket": {"bucket": bucket, "inserted": True},
                "createRunFiles": {"runID": "rid", "uploadHeaders": [], "files": files},
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


def run(code, ledger, tmp_path, port):
    """Run `code` as a user who is logged in at that port, in a process of its own; return what came of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "WANDB_API_KEY": KEY, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
    command = [sys.executable, "-c", code, str(ledger), str(tmp_path / "out")]
    return subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )


def test_who_is_logged_in_gets_the_run_on_the_server(server, ledger, tmp_path):
    done = run(MIRROR, ledger, tmp_path, server.server_port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    queries = [json.loads(body) for path, body in server.seen if path == "/graphql"]
    upsert = next(q["variables"] for q in queries if "upsertBucket" in q["query"])
    assert (upsert["name"], upsert["project"], upsert["groupName"], upsert["displayName"]) == ("rid", "p", "g", "n")
    streamed = [json.loads(body) for path, body in server.seen if path.endswith("/file_stream")]
    rows = [row for one in streamed for row in one.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])]
    found = [json.loads(row) for row in rows]
    assert [(row["env_steps"], row["evaluation/return"]) for row in found] == [(0, 0), (100, 50), (200, 100)]
    assert [q for q in queries if "notifyScriptableRunAlert" in q["query"]]
    assert not (tmp_path / "wandb").exists()
