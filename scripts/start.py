"""Set up `.venv` and run one of the main jobs. Needs Python 3.11 or newer with pip, and nothing else.

    python3 scripts/start.py demo    # pretrain in MuJoCo, transfer to PyBullet and MuJoCo, verdicts and a report
    python3 scripts/start.py test    # the test suite
    python3 scripts/start.py setup   # only the environment

The environment is made on the first call, with what constraints.txt pins, and again when that file or pyproject.toml changes.

PyPI's Linux build of PyTorch is a CUDA build of several GB, and nothing here computes on a GPU. So Linux asks for the CPU build
by name: from what pip has at hand, else from PyTorch's own index (set TORCH_INDEX for another one). If there is none this stops;
TORCH=torch==2.13.0 takes PyPI's build all the same.
"""

import hashlib
import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / ".installed"
JOBS = {
    "demo": [BIN / "simreal", "run", "configs/quickstart.yaml"],
    "test": [BIN / "python", "-m", "pytest", "-n", "2"],
    "lint": [BIN / "ruff", "check", "."],
    "setup": [],
}
WITHOUT_BULLET = ["targets.heavy_pole.engine=mujoco"]  # overrides that keep the demo's other engine out


def main() -> int:
    """Run the job named on the command line, with any further arguments; return its exit status."""
    if len(sys.argv) < 2 or sys.argv[1] not in JOBS:
        print(f"usage: python3 scripts/start.py {{{'|'.join(JOBS)}}}", file=sys.stderr)
        return 2
    if sys.version_info < (3, 11):
        print(f"simreal needs Python 3.11 or newer, this is {platform.python_version()}", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    if not installed() and not install():
        return 1
    job = JOBS[sys.argv[1]]
    if sys.argv[1] == "demo" and not has_bullet():
        print("PyBullet is not installed, so all of the demo runs in MuJoCo", file=sys.stderr)
        job = [*job, *WITHOUT_BULLET]
    return subprocess.call([*map(str, job), *sys.argv[2:]]) if job else 0


def wanted() -> str:
    """Return what the environment depends on, as a checksum."""
    files = (ROOT / "pyproject.toml", ROOT / "constraints.txt")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def installed() -> bool:
    """Return whether `.venv` is what pyproject.toml and constraints.txt ask for."""
    return STAMP.is_file() and STAMP.read_text(encoding="utf-8") == wanted()


def has_bullet() -> bool:
    """Return whether `.venv` has PyBullet, which publishes no wheels for Pythons after 3.11."""
    return subprocess.run([str(BIN / "python"), "-c", "import pybullet"], capture_output=True).returncode == 0


def install() -> bool:
    """Make or update `.venv`; return whether that worked."""
    print("setting up .venv, about 2 minutes", file=sys.stderr)
    if not (BIN / "python").exists():
        venv.create(VENV, with_pip=True)
    if not install_torch() or not pip("--editable", ".[dev]"):
        return False
    STAMP.write_text(wanted(), encoding="utf-8")
    return True


def install_torch() -> bool:
    """Install the pinned PyTorch, on Linux its CPU build."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pin = next(line for line in pins if line.startswith("torch=="))
    torch = os.environ.get("TORCH") or (f"{pin}+cpu" if platform.system() == "Linux" else pin)
    index = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
    # --no-deps: only torch itself is ever looked for at that index.
    if pip("--no-deps", torch, quiet=True) or pip("--no-deps", "--extra-index-url", index, "--retries", "1", torch):
        return True
    print(
        f"no build {torch} found: set TORCH_INDEX to an index that has it, or TORCH={pin} for PyPI's", file=sys.stderr
    )
    return False


def pip(*arguments: str, quiet: bool = False) -> bool:
    """Install something under the constraints; return whether that worked."""
    command = [
        BIN / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        "constraints.txt",
    ]
    return subprocess.call([*map(str, command), *arguments], stderr=subprocess.DEVNULL if quiet else None) == 0


if __name__ == "__main__":
    sys.exit(main())
