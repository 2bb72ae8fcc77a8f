"""Bundles go to the Hub and come back equal, over HTTP; without the package, a login or the network one sentence says so."""

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from kinds import agent_of, observed

from simreal_agents import hub
from simreal_agents.bundle import load
from simreal_envs.errors import Unsupported, UserError

TOKEN = "hf_" + "a1B2" * 8


class Shelf(BaseHTTPRequestHandler):
    """As much of the Hub as a commit and a download need: repositories of small files, one commit after the other."""

    def log_message(self, *_):
        pass

    def answer(self, status, data=b"", **headers):
        content = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers.get("Authorization"), self.headers.get("User-Agent")))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": f"Invalid credentials in {self.headers.get('Authorization')}"})
        shelf = self.server.shelf
        if self.path == "/api/repos/create":
            name = "/".join(filter(None, (json.loads(body).get("organization"), json.loads(body)["name"])))
            shelf.setdefault(name, [])
            return self.answer(200, {"url": f"http://{self.headers['Host']}/{name}"})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        name, action = re.fullmatch(r"/api/models/(.+?)/(preupload|commit)/main", unquote(self.path)).groups()
        if action == "preupload":
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer(200, {"files": files})
        lines = [json.loads(line)["value"] for line in body.splitlines() if json.loads(line)["key"] == "file"]
        files = {line["path"]: base64.b64decode(line["content"]) for line in lines}
        sha = hashlib.sha1(body).hexdigest()
        shelf[name].append((sha, files))
        self.answer(
            200,
            {
                "success": True,
                "commitOid": sha,
                "commitUrl": f"http://{self.headers['Host']}/{name}/commit/{sha}",
                "hookOutput": "",
            },
        )

    def do_GET(self):
        path = unquote(self.path.partition("?")[0])
        self.server.seen.append((path, self.headers.get("Authorization"), self.headers.get("User-Agent")))
        found = re.fullmatch(r"/(?:api/models/(.+?)(?:/revision/(.+))?|(.+?)/resolve/(.+?)/(.+))", path)
        if found is None:
            return self.answer(404, {"error": f"no {path}"})
        name = found[1] or found[3]
        commits, revision = self.server.shelf.get(name), found[2] or found[4] or "main"
        if commits is None:
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        chosen = next((c for c in reversed(commits) if revision in ("main", c[0])), None)
        if chosen is None:
            return self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        sha, files = chosen
        if found[1]:
            return self.answer(
                200, {"_id": "1", "id": name, "sha": sha, "siblings": [{"rfilename": f} for f in files], "tags": []}
            )
        if found[5] not in files:
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        content = files[found[5]]
        self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=sha)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def server(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="pip install 'simreal[hub]'")
    package = hub._package()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    server.shelf, server.seen = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"  # what HF_ENDPOINT sets when the package is imported
    monkeypatch.setattr(package.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(package.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(package.constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(package.constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def bundle(tmp_path):
    card = {"domain": {"task": "walk|run", "engine": "mujoco", "variation": {"mass": 2.0}}, "env_steps": 4096}
    returns = [{"return_mean": 1.25, "return_std": 0.5, "episodes": 8}]
    return agent_of("sac").save(tmp_path / "bundle", {**card, "returns": returns})


def test_a_bundle_comes_back_from_the_hub_as_it_was_sent(server, bundle, capfd):
    assert hub.push(bundle, "ann/walker") == f"http://127.0.0.1:{server.server_port}/ann/walker"
    ((_, files),) = server.shelf["ann/walker"]
    assert sorted(files) == ["README.md", "card.json", "weights.safetensors"]
    agent, again = load(bundle), load("hf:ann/walker")
    seen = observed(agent.schema)
    np.testing.assert_array_equal(again.act(seen), agent.act(seen))
    assert again.card == agent.card
    folder = hub.pull("hf:ann/walker")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in bundle.iterdir()}
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert TOKEN not in "".join(capfd.readouterr())


def test_a_revision_is_a_commit_that_stays(server, bundle, tmp_path):
    hub.push(bundle, "ann/walker")
    first = server.shelf["ann/walker"][0][0]
    agent = load(bundle)
    with torch.no_grad():
        agent.policy.heads.actor.bias += 1.0
    hub.push(agent.save(tmp_path / "second"), "ann/walker")
    assert load("hf:ann/walker").card["sha256"] == load(tmp_path / "second").card["sha256"]
    assert load(f"hf:ann/walker@{first}").card["sha256"] == load(bundle).card["sha256"]
    with pytest.raises(UserError, match="there is no such revision"):
        hub.pull("ann/walker@v9")
    with pytest.raises(UserError, match=r"hf:ann/runner: there is no such repository"):
        load("hf:ann/runner")


def test_a_replay_buffer_and_experience_that_were_kept_go_along(server, bundle, tmp_path):
    seen = observed(load(bundle).schema, 3)
    flat = np.zeros(3, dtype=np.float32)
    columns = {"observations": seen, "next_observations": seen, "actions": np.zeros((3, 3), np.float32)}
    columns |= {"rewards": flat + np.arange(3, dtype=np.float32), "terminated": flat.astype(bool)}
    experience = columns | {"truncated": flat.astype(bool), "episode": np.arange(3)}
    agent = replace(load(bundle), replay=columns, experience=experience)
    hub.push(agent.save(tmp_path / "kept"), "ann/walker")
    assert {"replay.safetensors", "experience.safetensors"} <= set(server.shelf["ann/walker"][0][1])
    again = load("hf:ann/walker")
    np.testing.assert_array_equal(again.replay["rewards"], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(again.experience["episode"], [0, 1, 2])


def test_what_was_changed_or_is_no_bundle_is_refused(server, bundle):
    hub.push(bundle, "ann/walker")
    _, files = server.shelf["ann/walker"][0]
    server.shelf["ann/bad"] = [
        ("b" * 40, {**files, "weights.safetensors": files["weights.safetensors"][:-4] + b"evil"})
    ]
    with pytest.raises(UserError, match="does not match its sha256"):
        load("hf:ann/bad")
    server.shelf["ann/other"] = [("c" * 40, {"model.bin": b"1", "card.json": b"{}"})]
    with pytest.raises(
        UserError, match=r"hf:ann/other: it is no bundle of simreal, which has the files card\.json and weights"
    ):
        load("hf:ann/other")


def test_without_a_login_or_a_network_one_sentence_says_so_and_no_token(server, bundle, monkeypatch):
    wrong = "hf_" + "zZ9y" * 8
    monkeypatch.setenv("HF_TOKEN", wrong)
    with pytest.raises(UserError, match=r"hub:ann/walker: the Hub refuses: .* login with rights") as refusal:
        hub.push(bundle, "ann/walker")
    assert wrong not in str(refusal.value) and "\n" not in str(refusal.value)
    server.shutdown()
    server.server_close()
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"hf:ann/unseen: the Hub could not be reached"):
        load("hf:ann/unseen")


def test_who_waits_for_the_hub_is_told_and_does_not_wait_for_repetitions(server, bundle, caplog):
    hub.push(bundle, "ann/walker")
    first = server.shelf["ann/walker"][0][0]
    load("hf:ann/walker")
    server.shutdown()
    server.server_close()
    address = f"http://127.0.0.1:{server.server_port}"
    assert caplog.messages == [f"simreal: connecting to {address}, {what} ann/walker" for what in ("to send", "for")]
    caplog.clear()
    assert load(f"hf:ann/walker@{first}").card == load(bundle).card and not caplog.messages  # nobody is asked
    assert load("hf:ann/walker").card == load(bundle).card  # the Hub is away: what is there serves
    began = time.monotonic()
    with pytest.raises(UserError, match=r"hf:ann/unseen: the Hub could not be reached"):
        load("hf:ann/unseen")
    with pytest.raises(UserError, match=r"hub:ann/walker: the Hub could not be reached"):
        hub.push(bundle, "ann/walker")
    assert time.monotonic() - began < 5  # repetitions took 23 s
    assert caplog.messages[1] == f"simreal: connecting to {address}, for ann/unseen"


@pytest.mark.parametrize(
    "name",
    [
        "../..",
        "walker",
        "ann/../etc",
        "ann/walker/x",
        "/etc/passwd",
        "ann/walker@",
        "ann/walker@../v1",
        "ann/wal ker",
        "-a/b",
        "",
    ],
)
def test_names_that_are_no_repository_are_refused_before_anything_is_asked(name, monkeypatch):
    monkeypatch.setattr(hub, "_package", lambda: pytest.fail("asked the Hub"))
    for call in (hub.pull, lambda n: hub.push(None, n), lambda n: load(f"hf:{n}")):
        with pytest.raises(UserError, match="names no repository of the Hugging Face Hub; expected user/name"):
            call(name)


def test_without_the_package_one_sentence_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(Unsupported, match=r"needs huggingface_hub; install it with: pip install 'simreal\[hub\]'"):
        load("hf:ann/walker")


def test_a_model_card_of_an_agent_whose_author_calls_its_domain_otherwise_names_no_task(bundle):
    assert "unknown task on unknown engine" in hub.model_card({**load(bundle).card, "domain": "home"}, "ann/walker")


def test_a_model_card_says_what_the_agent_sees_and_does_and_where_it_is_from(bundle):
    text = hub.model_card(load(bundle).card, "ann/walker")
    head = text.split("---\n")[1]
    assert 'library_name: "simreal"' in head and '"walk|run"' in head and '"sac"' in head
    assert "| observation | angle | hip, knee, ankle | rad | -3.0 to 3.0 |" in text
    assert "| action | torque | hip, knee | N m | -5.0 to 5.0 |" in text
    assert (
        "walk\\|run on mujoco" in text
        and "| steps | 4096 |" in text
        and "1.25 ± 0.5 (deterministic, 8 episodes)" in text
    )
    assert 'sr.load("hf:ann/walker")' in text
    seen = hub.model_card({**load(bundle).card, "schema": agent_of("dqn", "mixed", "choice").schema.to_dict()}, "a/b")
    assert "| observation | camera | red, green | 1 | 40 x 36 pixels, 0.0 to 255.0 |" in seen and "| one of 3 |" in seen
