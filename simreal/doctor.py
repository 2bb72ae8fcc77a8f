"""What is installed and what works on this machine, each with what to do where it does not.

Everything that could crash or print (engines, renderers, torch) is tried in a process of its own.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from simreal.tracking.wandb_tracker import logged_in
from simreal_envs.cores import cores
from simreal_envs.engines.bullet_import import INSTALL
from simreal_envs.errors import UserError

PYTHON = (3, 11)
SHOWN = (
    "simreal", "numpy", "scipy", "torch", "stable-baselines3", "gymnasium", "mujoco", "numba", "wandb", "safetensors",
)  # fmt: skip
MIN_FREE_DISK_GB = 2.0
MIN_FREE_MEMORY_GB = 2.0
_PROBE_TIMEOUT_S = 60


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        ok: whether simreal works as intended in this respect.
        says: what was found and, if not ok, what to do.
    """

    name: str
    ok: bool
    says: str


def checks(folder: Path = Path()) -> list[Check]:
    """Examine the installation and the machine; takes a few seconds and changes nothing.

    Args:
        folder: where results will be written, for the disk space.

    Returns:
        One `Check` for each of python, packages, torch, mujoco, bullet, rendering, games, wandb, disk, cores, memory.
    """
    named: dict[str, Callable[[], tuple[bool, str]]] = {
        "python": _python,
        "packages": _packages,
        "torch": _torch,
        "mujoco": _mujoco,
        "bullet": _bullet,
        "rendering": _rendering,
        "games": _games,
        "wandb": _wandb,
        "disk": lambda: _disk(folder),
        "cores": _cores,
        "memory": _memory,
    }
    with ThreadPoolExecutor() as pool:
        return [Check(name, *finding) for name, finding in zip(named, pool.map(_safely, named.values()), strict=True)]


def _safely(check: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
    try:
        return check()
    except UserError as error:
        return False, str(error)
    except Exception as error:
        return False, f"could not be examined: {type(error).__name__}: {error}"


def _python() -> tuple[bool, str]:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < PYTHON:
        return False, f"{found}; install Python {PYTHON[0]}.{PYTHON[1]} or newer"
    return True, f"{found} at {sys.executable}"


def _packages() -> tuple[bool, str]:
    """Hold what is installed against what simreal asks for."""
    wanted = {}
    for text in importlib.metadata.requires("simreal") or ():
        requirement = Requirement(text)
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            wanted[requirement.name] = requirement.specifier
    found: dict[str, str] = {}
    missing, wrong = [], []
    for package in ("simreal", *wanted):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
            continue
        if package in wanted and not wanted[package].contains(found[package], prereleases=True):
            wrong.append(f"{package} {found[package]} where {wanted[package]} is wanted")
    if missing or wrong:
        absent = [f"missing: {', '.join(missing)}"] if missing else []
        return False, f"{'; '.join(absent + wrong)}; run: pip install --upgrade simreal"
    return True, ", ".join(f"{name} {found[name]}" for name in SHOWN)


def _torch() -> tuple[bool, str]:
    found = _probe(
        "import json, torch; print(json.dumps([torch.__version__, torch.get_num_threads(), torch.cuda.is_available()"
        " and torch.cuda.get_device_name()]))"
    )
    version, threads, cuda = json.loads(found)
    return (
        True,
        f"{version}, {threads} threads, {f'CUDA on {cuda}' if cuda else 'CPU only (enough for small networks)'}",
    )


def _mujoco() -> tuple[bool, str]:
    found = _probe(
        "import mujoco, mujoco.batch as b; m = mujoco.MjModel.from_xml_string('<mujoco><worldbody/></mujoco>');"
        " b.Batch(m, 2, 1); print(mujoco.__version__)",
        advice="pip install 'mujoco>=4,<5'",
    )
    return True, f"{found}, batched simulation works"


def _bullet() -> tuple[bool, str]:
    version = _probe(
        "import pybullet as p, importlib.metadata as m; c = p.connect(p.DIRECT); assert c >= 0; p.stepSimulation();"
        " p.disconnect(c); print(m.version('pybullet'))",
        advice=f"the engine `bullet` cannot be used without it: {INSTALL}",
    )
    return True, f"{version}, DIRECT connection works"


def _rendering() -> tuple[bool, str]:
    """Try the backend that MUJOCO_GL names, then those that need no screen."""
    chosen = os.environ.get("MUJOCO_GL", "")
    code = (
        'import mujoco; m = mujoco.MjModel.from_xml_string(\'<mujoco><worldbody><light/><geom size="1"/></worldbody>'
        "</mujoco>'); d = mujoco.MjData(m); mujoco.mj_forward(m, d); r = mujoco.Renderer(m, 32, 32);"
        " r.update_scene(d); print(r.render().max())"
    )
    backends = list(dict.fromkeys(filter(None, (chosen, "egl", "osmesa"))))
    for backend in backends:
        try:
            _probe(code, {"MUJOCO_GL": backend})
        except UserError:
            continue
        if chosen in ("", backend):
            return True, f"MUJOCO_GL={backend} works"
        return False, f"MUJOCO_GL={chosen} does not work, but {backend} does: export MUJOCO_GL={backend}"
    return False, f"none of {', '.join(backends)} works; install libegl1 or libosmesa6 (only videos need it)"


def _games() -> tuple[bool, str]:
    """Games of other packages are extras: nothing is wrong without them."""
    found = []
    for family, package, extra in (("minatar", "MinAtar", "games"), ("ale", "ale-py", "atari")):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}, which {family}:GAME needs: pip install 'simreal[{extra}]'")
    return True, "; ".join(found)


def _wandb() -> tuple[bool, str]:
    mode = os.environ.get("WANDB_MODE", "")
    if mode:
        return True, f"WANDB_MODE={mode} decides"
    if logged_in():
        return True, "logged in; runs go online"
    return True, "not logged in; runs are kept offline on disk (wandb login, then wandb sync, to upload them)"


def _disk(folder: Path) -> tuple[bool, str]:
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if not os.access(existing, os.W_OK):
        return False, f"{existing} cannot be written to; choose another folder with --out"
    if free < MIN_FREE_DISK_GB:
        return False, f"{free:.1f} GB free at {existing}; free some, or choose another disk with --out"
    return True, f"{free:.0f} GB free at {existing}"


def _cores() -> tuple[bool, str]:
    usable = cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    busy = f"; the load is {load:.1f}, so timings will suffer" if load > usable else ""
    return True, f"{usable} usable{busy}"


def _memory() -> tuple[bool, str]:
    memory = psutil.virtual_memory()
    says = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if memory.available < MIN_FREE_MEMORY_GB * 1e9:
        return False, f"{says}; close other programs, or set workers=1"
    return True, says


def _probe(code: str, environment: Mapping[str, str] | None = None, advice: str = "") -> str:
    """Return the last line that `code` prints in a fresh interpreter. Raises UserError with its last word and advice."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            env={**os.environ, **(environment or {})},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"no answer within {_PROBE_TIMEOUT_S} s") from None
    if done.returncode == 0:
        return done.stdout.strip().splitlines()[-1]
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    raise UserError(f"{last}{f'; {advice}' if advice else ''}")
