import json
from dataclasses import dataclass, fields

import numpy as np
import pytest

from simreal.strategies import OWN, Strategy, described, make_strategy
from simreal.strategies.settings import choice, count, names, number, switch, widths
from simreal_envs.errors import UserError


@dataclass(frozen=True)
class Settled(Strategy):
    share: float = number(0.5, 0.0, 1.0)
    states: int | None = count(None, 1, 9)
    new: bool = switch(False)
    way: str = choice("fast", ("fast", "slow"), "way to go")
    pace: str = choice("fast", ("fast", "slow"), "way to go", named=True)
    parts: tuple[str, ...] = names(("heads",))
    hidden: tuple[int, ...] | None = widths(None)

    name = "settled"

    def begin(self, agent, target):
        raise NotImplementedError


def test_settings_are_kept_as_plain_values():
    one = Settled(states=np.int64(3), parts="trunk", hidden=[8, 8])
    assert (one.states, one.parts, one.hidden) == (3, ("trunk",), (8, 8))
    assert type(one.states) is int and one == Settled(states=3, parts=["trunk"], hidden=(8, 8))
    assert Settled(states=None, hidden=None) == Settled()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"share": 1.5}, "settled: share must be a number from 0 to 1, not 1.5"),
        ({"share": None}, "settled: share must be a number from 0 to 1, not None"),
        ({"states": 0}, "settled: states must be a whole number from 1 to 9, not 0"),
        ({"new": 1}, "settled: new must be true or false, not 1"),
        ({"way": "slo"}, "settled: unknown way to go 'slo'; did you mean 'slow'? valid: fast, slow"),
        ({"pace": "slo"}, "settled: pace: unknown way to go 'slo'; did you mean 'slow'? valid: fast, slow"),
        ({"parts": ()}, "settled: parts must be a list of at least one name, each once, not ()"),
        ({"hidden": ()}, "settled: hidden must list the widths of 1 to 16 layers, not ()"),
        ({"hidden": (0,)}, "settled: hidden: a width must be a whole number from 1 to 8192, not 0"),
    ],
)
def test_a_setting_out_of_its_bounds_is_told(given, says):
    with pytest.raises(UserError) as told:
        Settled(**given)
    assert str(told.value) == says


@pytest.mark.parametrize("own", OWN, ids=lambda own: own.name)
def test_whole_numbers_of_numpy_go_into_a_config(own):
    given = {}
    for one in fields(own):
        try:
            own(**{one.name: np.int64(64)})
        except UserError:
            continue
        given[one.name] = np.int64(64)
    plain = json.loads(json.dumps(described(own(**given))))
    assert make_strategy([plain]) == own(**{name: int(value) for name, value in given.items()})


def whole(high):
    return f"must be a whole number from 1 to {high}, not 0"


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("fine_tun", {}, "unknown strategy 'fine_tun'; did you mean 'fine_tune'?"),
        ("fine_tune", {"lr_scal": 1}, "unknown setting 'lr_scal' of the strategy fine_tune; did you mean 'lr_scale'?"),
        ("zero_shot", {"lr_scale": 1}, "unknown setting 'lr_scale' of the strategy zero_shot; valid: normalizer, prior"),
        ("zero_shot", {"normalizer": "fresh"}, "zero_shot: unknown normalizer setting 'fresh'"),
        ("zero_shot", {"prior": 5}, "zero_shot: prior belongs to normalizer: blend, not to keep"),
        ("zero_shot", {"normalizer": "blend", "prior": 0}, "zero_shot: prior must be a whole number from 1"),
        ("fine_tune", {"lr_scale": 11}, "fine_tune: lr_scale must be a number from 0 to 10, not 11"),
        ("fine_tune", {"lr_scale": float("nan")}, "not nan"),
        ("fine_tune", {"lr_scale": "1"}, "not '1'"),
        ("fine_tune", {"lr_scale": True}, "not True"),
        ("fine_tune", {"lr_scale": {"encodr": 1}}, "fine_tune: lr_scale: unknown module 'encodr'; did you mean 'encoder'?"),
        ("fine_tune", {"lr_scale": {"encoder": -1}}, "fine_tune: lr_scale.encoder must be a number from 0 to 10, not -1"),
        ("critic_warmup", {"until": 2}, "critic_warmup: until must be a number from 0 to 1, not 2"),
        ("critic_warmup", {"new_critic": 1}, "critic_warmup: new_critic must be true or false, not 1"),
        ("frozen_encoder", {"thaw_at": 2}, "frozen_encoder: thaw_at must be a number from 0 to 1, not 2"),
        ("frozen_encoder", {"new_heads": "no"}, "frozen_encoder: new_heads must be true or false, not 'no'"),
        ("frozen_encoder", {"depth": "heads"}, "frozen_encoder: unknown depth 'heads'"),
        ("frozen_encoder", {"depth": 0}, f"frozen_encoder: depth {whole(1000)}"),
        ("random_encoder", {"new_heads": 1}, "random_encoder: new_heads must be true or false, not 1"),
        ("top_layers", {"layers": True}, "top_layers: layers must be a whole number from 1 to 1000, not True"),
        ("gradual_unfreeze", {"by": "epoch"}, "gradual_unfreeze: by: unknown way to unfreeze 'epoch'"),
        ("gradual_unfreeze", {"until": 2}, "gradual_unfreeze: until must be a number from 0 to 1, not 2"),
        ("layerwise_lr", {"decay": 0.5}, "layerwise_lr: decay must be a number from 1 to 100, not 0.5"),
        ("l2sp", {"alpha": -1}, "l2sp: alpha must be a number from 0 to"),
        ("low_rank", {"rank": 0}, f"low_rank: rank {whole(1024)}"),
        ("low_rank", {"parts": ["head"]}, "low_rank: parts: unknown module 'head'; did you mean 'heads'"),
        ("low_rank", {"parts": []}, "low_rank: parts must be a list of at least one name, each once, not []"),
        ("low_rank", {"parts": 5}, "low_rank: parts must be a list"),
        ("coral", {"weight": -1}, "coral: weight must be a number from 0 to 1e+06, not -1"),
        ("mmd", {"layer": "trunc"}, "mmd: unknown layer 'trunc'; did you mean 'trunk'?"),
        ("dann", {"states": 1}, "dann: states must be a whole number from 64 to 1000000, not 1"),
        ("dann", {"units": 0}, f"dann: units {whole(4096)}"),
        ("tca", {"mu": 0}, "tca: mu must be a number from 0.0001 to 1000, not 0"),
        ("adaptive_normalization", {"train": 1}, "adaptive_normalization: train must be true or false, not 1"),
        ("darc", {"worlds": 0}, f"darc: worlds {whole(100000)}"),
        ("importance_weighting", {"clip": 0.5}, "importance_weighting: clip must be a number from 1 to 1000, not 0.5"),
        ("source_mix", {"until": 0}, "source_mix: until must be a number from 0.001 to 1, not 0"),
        ("source_replay", {"weight": -1}, "source_replay: weight must be a number from 0 to 1000, not -1"),
        ("source_replay", {"steps": 0}, f"source_replay: steps {whole(10000000)}"),
        ("source_replay", {"batch_size": True}, "source_replay: batch_size must be a whole number"),
        ("kickstart", {"weight": -1}, "kickstart: weight must be a number from 0 to 100, not -1"),
        ("kickstart", {"until": 0}, "kickstart: until must be a number from 0.01 to 1, not 0"),
        ("kickstart", {"copy": "yes"}, "kickstart: copy must be true or false, not 'yes'"),
        ("distill", {"hidden": 8}, "distill: hidden must list the widths of 1 to 16 layers, not 8"),
        ("distill", {"hidden": [0]}, "distill: hidden: a width must be a whole number from 1 to 8192, not 0"),
        ("distill", {"then": "fine_tun"}, "distill: then: unknown continuation 'fine_tun'; did you mean 'fine_tune'?"),
        ("distill", {"then": "zero_shot", "on_target": True}, "nothing is learned on the target, so on_target must be false"),
        ("distill", {"temperature": 0}, "distill: temperature must be a number from 0.001 to 1000, not 0"),
        ("distill", {"steps": 0.5}, "distill: steps must be a whole number"),
        ("reset_distill", {"steps": 0}, "reset_distill: steps must be a whole number from 1 to"),
        ("reset_distill", {"states": 0}, "reset_distill: states must be a whole number from 1 to"),
        ("reset_distill", {"epochs": 0}, "reset_distill: epochs must be a whole number from 1 to"),
        ("teacher_student", {"history": 1}, "teacher_student: history must be a whole number from 2 to 1000, not 1"),
        ("teacher_student", {"memory": "mpl"}, "teacher_student: memory: unknown memory 'mpl'; did you mean 'mlp'?"),
        ("teacher_student", {"then": "scratch"}, "teacher_student: then: unknown continuation 'scratch'"),
        ("teacher_student", {"latent": -1}, "teacher_student: latent must be a number from 0 to 1000, not -1"),
        ("surgery", {"hidden": []}, "surgery: hidden must list the widths of 1 to 16 layers, not []"),
        ("surgery", {"hidden": 64}, "surgery: hidden must list the widths of 1 to 16 layers, not 64"),
        ("surgery", {"hidden": [10**12]}, "surgery: hidden: a width must be a whole number from 1 to 8192, not 1000000000000"),
        ("surgery", {"encoder": "old"}, "surgery: unknown encoder setting 'old'"),
        ("surgery", {"keep": ["heads", "heads"]}, "surgery: keep must be a list of names, each once, not ['heads', 'heads']"),
        ("surgery", {"keep": 3}, "surgery: keep must be a list of names, each once, not 3"),
        ("surgery", {"keep": {"trunk.1": 2}}, "surgery: keep must be a mapping from layers of the new network to the agent's, not"),
        ("surgery", {"new": {"trunk.1": "trunk.2"}}, "surgery: new must be a list of names, each once, not {"),
        ("surgery", {"fill": {"speed": float("nan")}}, "surgery: fill.speed must be a number from -1e+30 to 1e+30, not nan"),
        ("surgery", {"fill": {"speed": {"x": 1}}}, "surgery: fill.speed must be a number from -1e+30 to 1e+30, not {'x': 1}"),
        ("surgery", {"fill": 0}, "surgery: fill must be a mapping from fields to numbers, not 0"),
        ("surgery", {"rename": 3}, "surgery: rename must be a mapping from the target's names to the agent's, not 3"),
        ("surgery", {"rename": ["a"]}, "surgery: rename must be a mapping from the target's names to the agent's, not ['a']"),
        ("surgery", {"rename": {"a": 3}}, "surgery: rename must be a mapping from the target's names to the agent's, not {'a': 3}"),
        ("multi_task", {"domains": 5}, "multi_task: domains must be a list of names, each once, not 5"),
        ("multi_task", {"domains": None}, "multi_task: domains must be a list of names, each once, not None"),
        ("multi_task", {"domains": ("moon", "moon")}, "multi_task: domains must be a list of names, each once, not ('moon', 'moon')"),
        ("multi_task", {"weights": "progres"}, "multi_task: weights: unknown way to weight 'progres'"),
        ("multi_task", {"weights": 2}, "multi_task: weights must be a mapping of names to numbers, not 2"),
        ("multi_task", {"worlds": {"moon": 0}}, "multi_task: worlds.moon must be a number from 0.01 to 100, not 0"),
        ("multi_task", {"worlds": "moon"}, "multi_task: worlds must be a mapping of names to numbers, not 'moon'"),
        ("multi_task", {"worlds": [1]}, "multi_task: worlds must be a mapping of names to numbers, not [1]"),
        ("multi_task", {"pcgrad": 1}, "multi_task: pcgrad must be true or false, not 1"),
        ("augmentation", {"pixels": 1.5}, "augmentation: pixels must be a whole number from 0 to 1000, not 1.5"),
        ("dropout", {"share": 1}, "dropout: share must be a number from 0 to 0.9, not 1"),
        ("epopt", {"fraction": 0}, "epopt: fraction must be a number from 0.01 to 1, not 0"),
        ("ewc", {"decay": 2}, "ewc: decay must be a number from 0 to 1, not 2"),
        ("rarl", {"how": "pus"}, "rarl: unknown way to disturb 'pus'; did you mean 'push'"),
        ("self_supervised", {"objective": "invers"}, "self_supervised: unknown objective 'invers'; did you mean 'inverse'"),
        ("multi_source", {"combine": "stack"}, "unknown way to combine 'stack'; did you mean 'stacked'"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_sentence(name, settings, says):
    with pytest.raises(UserError) as error:
        make_strategy(name, settings, "x.yaml:3")
    assert str(error.value).startswith("x.yaml:3: ") and says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("dropout", "sac"), ("epopt", "sac"), ("rarl", "sac"), ("self_supervised_target", "sac"), ("multi_source", "dqn")],
)
def test_a_strategy_says_which_algorithm_it_works_with(name, algorithm):
    with pytest.raises(UserError, match=f"{name} works with ppo, not with {algorithm}"):
        make_strategy(name).require(algorithm)
