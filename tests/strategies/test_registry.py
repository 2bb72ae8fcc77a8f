"""A strategy of another package: found through its entry point, checked by `check_strategy`, run like ours."""

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import pytest
import tiny

import simreal as sr
from simreal.arms import check
from simreal.check import check_strategy
from simreal.config_files import parse
from simreal.hyperparameters import HYPERPARAMETERS
from simreal.learner import Target
from simreal.plan import plan
from simreal.schedule import Schedule
from simreal.strategies import OWN, STRATEGIES, make_strategy
from simreal.training import train
from simreal_envs.errors import UserError

THEIRS = """
from dataclasses import dataclass
from simreal.strategies.base import Strategy, require_between

@dataclass(frozen=True)
class SlowHeads(Strategy):
    '''Fine-tuning whose heads learn slowly.'''
    scale: float = 0.1
    name = "slow_heads"
    says = "fine-tunes with slow heads"
    family = "fine-tuning"
    decides = frozenset({"learning rates"})

    def __post_init__(self):
        require_between(self.scale, 0.0, 1.0, "slow_heads: scale")

    def begin(self, agent, target):
        learner = target.learner(agent)
        learner.set_lr_scale({"heads": self.scale})
        return learner
"""
BROKEN = "raise ImportError('libmissing.so is not there')"
NO_STRATEGY = "class Nothing: name = 'nothing'"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder like site-packages with three distributions that offer strategies."""
    for module, text, entry in (
        ("slow_heads", THEIRS, "slow_heads = slow_heads:SlowHeads"),
        ("broken_one", BROKEN, "broken = broken_one:Broken"),
        ("no_strategy", NO_STRATEGY, "nothing = no_strategy:Nothing"),
    ):
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(text))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[simreal.strategies]\n{entry}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(STRATEGIES.__dict__, "_others", raising=False)
    yield tmp_path
    STRATEGIES.__dict__.pop("_others", None)


def test_an_entry_point_adds_a_strategy(installed):
    assert "slow_heads" in STRATEGIES and next(iter(STRATEGIES)) == "scratch"
    strategy = make_strategy("slow_heads", {"scale": 0.5})
    assert check_strategy(strategy).agent.card["strategy"] == {"name": "slow_heads", "scale": 0.5}
    with pytest.raises(UserError, match="slow_heads: scale must be a number from 0 to 1"):
        make_strategy("slow_heads", {"scale": 2})
    with pytest.raises(UserError, match="slow_heads and fine_tune contradict each other: both decide learning rates"):
        make_strategy(["slow_heads", "fine_tune"])


@pytest.mark.parametrize("algorithm", HYPERPARAMETERS)
def test_what_a_config_refuses_python_refuses_with_the_same_words(algorithm):
    for kind in OWN:
        if algorithm in kind.unfit or algorithm not in (kind.algorithms or HYPERPARAMETERS):
            here = Target(tiny.CARTPOLE, sr.Learning(algorithm=algorithm), 0)
            with pytest.raises(UserError, match=rf"^{kind.name} (does not work|works) with [^:]*{algorithm}$"):
                train(None, here, kind(), Schedule(64))


def test_what_cannot_be_loaded_says_so_and_harms_nobody_else(installed):
    assert make_strategy("fine_tune") == sr.FineTune()
    with pytest.raises(UserError, match="strategy broken of broken_one:Broken cannot be loaded: libmissing"):
        make_strategy("broken")
    with pytest.raises(UserError, match="no_strategy:Nothing is not a Strategy of that name"):
        make_strategy("nothing")


def test_one_whose_name_is_ours_is_told(installed):
    entry = "[simreal.strategies]\nslow_heads = slow_heads:SlowHeads\nfine_tune = slow_heads:SlowHeads\n"
    (installed / "slow_heads-1.0.dist-info" / "entry_points.txt").write_text(entry)
    with pytest.warns(UserWarning, match=r"'fine_tune' of slow_heads .*is not used: simreal has one of that name"):
        assert STRATEGIES["fine_tune"] is sr.FineTune and "slow_heads" in set(STRATEGIES)


def test_the_command_line_knows_it(installed):
    beside = filter(
        None, [os.environ.get("PYTHONPATH")]
    )  # the tree that is tested need not be the one that is installed
    done = subprocess.run(
        [sys.executable, "-m", "simreal", "list", "strategies"], text=True, capture_output=True, timeout=60,
        env={**tiny.environment(installed), "PYTHONPATH": os.pathsep.join([str(installed), *beside])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert ["slow_heads", "fine-tunes with slow heads"] in lines
    assert "libmissing.so is not there" in done.stdout.partition("unavailable\n")[2]


@dataclass(frozen=True)
class Failing(sr.Strategy):
    """Finds out too late that it cannot begin."""

    name = "failing"
    says = "fails"
    family = "wrong"

    def begin(self, agent, target):
        self.seen.append(target.learner(agent).env.worlds)
        raise UserError("not like this")

    seen = []


def test_worlds_are_closed_where_a_strategy_cannot_begin():
    agent = sr.pretrain(tiny.CARTPOLE, 64, learning=tiny.LEARNING, points=2, episodes=1)
    with pytest.raises(UserError, match="not like this"):
        sr.transfer(agent, tiny.CARTPOLE, Failing(), 64, learning=tiny.LEARNING)
    assert Failing.seen[0].closed


@dataclass(frozen=True)
class Meddling(sr.Strategy):
    """Changes the agent that it was given."""

    name = "meddling"
    says = "meddles"
    family = "wrong"

    def begin(self, agent, target):
        agent.policy.heads.log_std.data += 1.0
        return target.learner(agent)


@dataclass(frozen=True)
class Forgetful(sr.Strategy):
    """Keeps what decides the future where no checkpoint sees it."""

    name = "forgetful"
    says = "forgets"
    family = "wrong"

    def begin(self, agent, target):
        learner = target.learner(agent)
        learner.rollouts_seen = 0
        return learner

    def on_progress(self, learner, progress):
        learner.rollouts_seen += 1
        learner.set_lr_scale({"heads": learner.rollouts_seen})


@dataclass(frozen=True)
class Random(sr.Strategy):
    """Never does the same twice."""

    name = "random"
    says = "draws"
    family = "wrong"

    def begin(self, agent, target):
        learner = target.learner(agent)
        learner._order.seed()
        return learner


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        (Meddling(), "meddling changed an agent that it was given|meddling gives other bits"),
        (Forgetful(), "forgetful gives other bits when it is interrupted"),
        (Random(), "random gives other bits when it is run again"),
    ],
)
def test_the_contract_finds_what_is_wrong(strategy, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_strategy(strategy)


def test_its_version_is_in_the_keys_of_what_it_makes(installed):
    ways = "strategies={fine_tune: , slow_heads: , both: [slow_heads, {type: l2sp, alpha: 0.1}]}"
    experiment, _ = parse(tiny.CONFIG, "tiny.yaml", [ways])

    def keys():
        STRATEGIES.__dict__.pop("_others", None)
        return {stage.name: stage.key for stage in plan(experiment, check(experiment), installed / "out", {})}

    before, metadata = keys(), installed / "slow_heads-1.0.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    after = keys()
    changed = {name for name in before if before[name] != after[name] and name.startswith("arms/")}
    assert changed == {f"arms/plain/{way}/light/seed-{seed}" for way in ("slow_heads", "both") for seed in (0, 1)}


def test_a_run_does_not_continue_what_another_version_of_it_began(installed, tmp_path):
    learning = sr.Learning(num_worlds=4, hyperparameters={"n_steps": 16})
    target = Target(sr.Domain("cartpole_swingup"), learning, seed=0)
    agent = sr.Agent.of(target.learner())

    def transferred(report=lambda share, text: None):
        STRATEGIES.__dict__.pop("_others", None)
        schedule = Schedule(steps=256, points=2, episodes=1)
        return train(
            agent, target, make_strategy("slow_heads"), schedule, checkpoints=tmp_path / "state", report=report
        )

    def pull_the_plug(share, text):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transferred(pull_the_plug)
    metadata = installed / "slow_heads-1.0.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    note = transferred().note
    assert note.startswith("starts afresh") and note.endswith("was made with slow_heads 1.0, not 1.1")
