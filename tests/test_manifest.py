"""Who computed it, when, with what."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import simreal

PROGRAM = "import json; from simreal.manifest import manifest; print(json.dumps(manifest('')['git']))"


def test_somebody_elses_repository_is_not_simreals(tmp_path):
    """Where a project keeps its environment inside of its own checkout, its commit is not that of simreal."""
    environment = tmp_path / "environment"
    shutil.copytree(Path(simreal.__file__).parent, environment / "simreal")
    (tmp_path / ".gitignore").write_text("environment\n")
    me = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for words in (["init", "-q"], ["add", "."], [*me, "commit", "-q", "-m", "theirs"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    given = {**os.environ, "PYTHONPATH": os.pathsep.join([str(environment), *sys.path])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=given, capture_output=True, check=True)
    assert json.loads(done.stdout) == {}
