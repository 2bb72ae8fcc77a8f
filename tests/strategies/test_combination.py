import pytest
import tiny

import simreal as sr
from simreal.check import check_strategy
from simreal.strategies import Combination, LowRank, described, make_strategy
from simreal.strategies.combination import parts_of
from simreal_envs.errors import UserError


@pytest.fixture(scope="module")
def source():
    return sr.pretrain(tiny.CARTPOLE, 128, learning=tiny.LEARNING, points=2, episodes=1)


def test_parts_add_up():
    learner_lr = {"fine_tune": {"lr_scale": 0.5}}
    strategy = make_strategy([learner_lr, {"type": "critic_warmup", "until": 0.3}])
    assert strategy.name == "fine_tune-critic_warmup"
    run = check_strategy(strategy)
    assert run.agent.card["strategy"] == {"name": strategy.name, "parts": described(strategy)}


def test_both_parts_are_at_work(source):
    strategy = make_strategy([{"fine_tune": {"lr_scale": 0.5}}, "critic_warmup"])
    learner = strategy.begin(source, tiny.target())
    learner.env.close()
    assert {group["lr_scale"] for group in learner.optimizer.param_groups} == {0.5}
    assert learner.optimizer.group("heads.actor")["frozen"] and not learner.optimizer.group("heads.critic")["frozen"]
    strategy.on_progress(learner, 0.5)
    assert not learner.optimizer.group("heads.actor")["frozen"]


def test_what_one_part_leaves_behind_is_drawn_anew(source):
    strategy = make_strategy(["fine_tune", {"frozen_encoder": {"new_heads": True}}])
    learner = strategy.begin(source, tiny.target())
    fresh = tiny.target().learner()
    for one in (learner, fresh):
        one.env.close()
    mine = tiny.tensors(sr.Agent.of(learner))
    assert tiny.changed(mine, tiny.tensors(sr.Agent.of(fresh))).isdisjoint(
        {"heads.actor.weight", "heads.critic.weight", "heads.log_std"}
    )
    assert not [n for n in tiny.changed(mine, tiny.tensors(source)) if n.startswith("encoder")]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            ["frozen_encoder", "critic_warmup"],
            "frozen_encoder and critic_warmup contradict each other: both decide the normalizer and what is",
        ),
        (["zero_shot", "fine_tune"], "zero_shot does not combine with other strategies"),
        (["fine_tune", "fine_tune"], "fine_tune is given twice"),
        (["fine_tune", "fine_tun"], "unknown strategy 'fine_tun'"),
        (["fine_tune", {"l2sp": {}, "ewc": {}}], "a part of a combination is a name or"),
        (["pcgrad", "progressive"], "pcgrad and progressive contradict each other|progressive and pcgrad contradict"),
        (["tca", "l2sp"], "tca does not combine with other strategies"),
        (["low_rank", {"fine_tune": {"normalizer": "keep"}}], "both decide learning rates and the normalizer"),
        (["fine_tune", 3], "a part of a combination is a name or"),
        ([], "at least two"),
    ],
)
def test_contradictions_and_mistakes_get_a_sentence(parts, sentence):
    with pytest.raises(UserError, match=sentence):
        make_strategy(parts, where="x.yaml:3: strategies.a")


def test_settings_of_a_list_stand_beside_each_name():
    with pytest.raises(UserError, match="beside each name"):
        make_strategy(["fine_tune", "critic_warmup"], {"lr_scale": 1})


def test_a_list_of_one_is_that_one():
    assert make_strategy(["fine_tune"]) == sr.FineTune()
    assert make_strategy([{"fine_tune": None}]) == sr.FineTune()


def test_what_is_no_combination_is_its_only_part_whatever_its_settings_are_called():
    assert parts_of(LowRank(parts=["actor"])) == (LowRank(parts=["actor"]),)
    assert parts_of(make_strategy(["l2sp", "ewc"])) == (sr.L2SP(), sr.EWC())


def test_a_combination_is_data():
    strategy = Combination((sr.FineTune(), sr.CriticWarmup()))
    assert strategy == make_strategy(described(strategy)) and hash(strategy) == hash(make_strategy(described(strategy)))


def test_the_order_in_which_parts_are_given_does_not_matter():
    fresh = {"type": "frozen_encoder", "new_heads": True}
    pairs = [
        ("l2sp", "linear_probe"),
        ("low_rank", "kickstart"),
        ("l2sp", "progressive"),
        ("l2sp", fresh),
        ("ewc", "pcgrad"),
    ]
    for one, other in [*pairs, ("pcgrad", "source_mix")]:
        assert make_strategy([one, other]) == make_strategy([other, one])
        assert make_strategy([one, other]).parts[0].name == (other if isinstance(other, str) else other["type"])


def test_settings_that_are_mappings_combine():
    strategy = make_strategy(["l2sp", {"fine_tune": {"lr_scale": {"encoder": 0.1}}}])
    assert strategy.parts[1].lr_scale == {"encoder": 0.1}


def test_what_does_not_train_does_not_train_in_combination():
    assert make_strategy(["distill", "l2sp"]).trains
    assert not make_strategy([{"distill": {"then": "zero_shot"}}, "l2sp"]).trains


def test_kickstart_draws_the_weights_that_others_have_copied(source):
    strategy = make_strategy([{"fine_tune": {"lr_scale": 0.5}}, "kickstart"])
    learner = strategy.begin(source, tiny.target())
    learner.env.close()
    assert "heads.actor.weight" in tiny.changed(tiny.tensors(source), tiny.tensors(sr.Agent.of(learner)))
