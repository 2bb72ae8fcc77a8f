import subprocess
import sys

import pytest

import simreal
from simreal_envs.registration import ANY, IDS


def test_importing_simreal_imports_no_torch_and_no_engine():
    heavy = ("torch", "stable_baselines3", "mujoco", "pybullet", "wandb", "plotly", "pandas", "matplotlib")
    code = f"import sys, simreal; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


@pytest.mark.parametrize("name", simreal.__all__)
def test_every_public_name_exists_and_is_documented(name):
    assert getattr(simreal, name).__doc__
    assert name in dir(simreal)


def test_completion_offers_the_public_names_alone():
    assert [name for name in dir(simreal) if not name.startswith("__")] == simreal.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'simreal' has no attribute 'fine_tune'"):
        simreal.fine_tune  # noqa: B018


def test_importing_simreal_registers_the_gymnasium_ids():
    code = "import gymnasium, simreal; print(sorted(i for i in gymnasium.registry if i.startswith('simreal/')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(sorted([*IDS, ANY])) and "simreal/CartpoleSwingup-v0" in IDS
