from dataclasses import replace

import every
import numpy as np
import pytest
import tiny
import torch

import simreal as sr
from simreal.learner import Source, Target
from simreal.schedule import Schedule
from simreal.strategies import L2SP, GradualUnfreeze, LayerwiseLR, LowRank, make_strategy
from simreal.training import train
from simreal_agents.additions.depth import layers_of, places_of
from simreal_envs.errors import UserError

SCHEDULE = Schedule(128, points=2, episodes=1)
DEEP = sr.Learning((8, 7, 6), num_worlds=8, hyperparameters=tiny.LEARNING.hyperparameters)
MINE = ("gradual_unfreeze", "layerwise_lr", "l2sp", "low_rank", "top_layers", "linear_probe", "random_encoder")


@pytest.fixture(scope="module")
def source():
    return sr.pretrain(tiny.CARTPOLE, 64, seed=9, learning=DEEP, points=2, episodes=1)


def begun(source, strategy):
    learner = strategy.begin(source, tiny.target())
    learner.env.close()
    return learner


def learning(learner):
    """Which layers learn, from the encoder to the heads."""
    still = learner.additions["standing still"].shares
    return [
        not any(learner.optimizer.group(".".join(name.split(".")[:2]))["frozen"] or name in still for name in layer)
        for layer in layers_of(learner.policy)
    ]


# ---- gradual_unfreeze -------------------------------------------------------------------------------------------------


def test_layers_join_from_the_heads_down_at_even_shares_of_the_budget(source):
    strategy = GradualUnfreeze(until=0.6)
    learner, seen = begun(source, strategy), []
    for progress in (0.0, 0.19, 0.2, 0.39, 0.4, 0.6, 0.9):
        strategy.on_progress(learner, progress)
        seen.append(learning(learner))
    heads, two, three, all_ = ([False] * k + [True] * (4 - k) for k in (3, 2, 1, 0))
    assert seen == [heads, heads, two, two, three, all_, all_]
    assert not learner.policy.encoder.normalizer.frozen


def test_layers_join_when_the_return_stops_to_improve(source):
    strategy = GradualUnfreeze(by="plateau", patience=0.1)
    learner, seen = begun(source, strategy), []
    learner.ep_info_buffer = []
    for progress, mean in ((0.1, None), (0.2, 1.0), (0.3, 2.0), (0.35, 2.0), (0.45, 1.0), (0.5, 0.5), (0.6, 0.5)):
        learner.ep_info_buffer = [] if mean is None else [{"r": mean - 1}, {"r": mean + 1}]
        strategy.on_progress(learner, progress)
        seen.append(sum(learning(learner)))
    assert seen == [1, 1, 1, 1, 2, 2, 3]
    assert learner.policy.encoder.normalizer.frozen


# ---- layerwise_lr -----------------------------------------------------------------------------------------------------


def test_every_layer_learns_slower_than_the_one_above_it(source):
    learner = begun(source, LayerwiseLR(decay=2.0))
    scales = {group["name"]: group["lr_scale"] for group in learner.optimizer.param_groups}
    assert scales["heads.actor"] == scales["heads.log_std"] == 1 and scales["encoder.critic"] == 1 / 8
    assert scales["trunk.actor"] == 1 / 2  # that of its upper layer; the lower one takes half of each step
    assert learner.additions["layerwise_lr"].shares == dict.fromkeys(layers_of(learner.policy)[1], 0.5)


def test_the_first_step_of_adam_shows_the_rates(source):
    learner = begun(source, LayerwiseLR(decay=2.0))
    optimizer = learner.optimizer
    before = optimizer.parameters.clone()
    optimizer.gradients.fill_(1.0)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * group["lr_scale"]
    optimizer.step()
    steps = before - optimizer.parameters  # Adam's first step has the length of the learning rate
    for i, layer in enumerate(layers_of(learner.policy)):
        for name in layer:
            place = places_of(learner.policy, optimizer)[name]
            np.testing.assert_allclose(steps[place], 1e-3 * 2.0 ** (i - 3), rtol=1e-2)


# ---- l2sp -------------------------------------------------------------------------------------------------------------


def test_copied_weights_are_pulled_to_the_source_and_new_ones_to_zero(source):
    parts = make_strategy([{"frozen_encoder": {"new_heads": True}}, {"l2sp": {"alpha": 0.5, "beta": 0.25}}])
    learner = begun(source, parts)
    optimizer, places = learner.optimizer, places_of(learner.policy, learner.optimizer)
    optimizer.parameters.add_(1.0)
    optimizer.gradients.zero_()
    learner.additions["l2sp"].gradient(optimizer)
    for name, place in places.items():
        weight = optimizer.parameters[place]
        if name == "heads.log_std":
            assert not optimizer.gradients[place].any()
        elif name in ("heads.actor.weight", "heads.critic.weight"):
            np.testing.assert_allclose(optimizer.gradients[place], 0.25 * weight)
        elif name.startswith(("encoder", "trunk")):
            np.testing.assert_allclose(optimizer.gradients[place], 0.5, rtol=1e-5)


def test_a_strong_pull_keeps_the_agent_at_the_source(source):
    def distance(alpha):
        after = train(source, tiny.target(), L2SP(alpha=alpha), SCHEDULE).agent.policy.state_dict()
        before = source.policy.state_dict()
        return sum(float((after[n] - before[n]).square().sum()) for n in after if "weight" in n)

    assert distance(1e4) < 0.5 * distance(0.0)


def test_what_another_strategy_has_made_of_the_sources_weights_is_where_they_are_pulled_to(source):
    deeper = {"encoder": "encoder", "trunk.2": "trunk.1", "trunk.3": "trunk.2", "heads": "heads"}
    other = sr.pretrain(tiny.CARTPOLE, 128, seed=8, learning=DEEP, points=2, episodes=1)
    sources = tuple(Source(f"source {i}", one, tiny.CARTPOLE) for i, one in enumerate((source, other)))
    for first, drawn in (
        ("weight_average", ()),
        ({"surgery": {"hidden": [8, 8, 7, 6], "keep": deeper}}, ("trunk.actor.0", "trunk.critic.0")),
        ({"distill": {"steps": 64, "epochs": 1}}, ()),
    ):
        target = replace(tiny.target(), learning=DEEP, sources=sources)
        learner = make_strategy([first, {"l2sp": {"alpha": 0.5, "beta": 0.25}}]).begin(source, target)
        learner.env.close()
        anchor, weights = learner.additions["l2sp"], dict(learner.policy.named_parameters())
        for name, place in places_of(learner.policy, learner.optimizer).items():
            if name != "heads.log_std":
                anew = name.startswith(drawn) if drawn else False
                assert set(anchor.strength[place].tolist()) == {0.25 if anew else 0.5}, name
                assert torch.equal(anchor.home[place], 0 * weights[name].flatten() if anew else weights[name].flatten())


# ---- low_rank ---------------------------------------------------------------------------------------------------------


def test_adapters_at_zero_leave_the_actions_bit_equal(source):
    learner = begun(source, LowRank())
    assert not tiny.changed(tiny.tensors(source), tiny.tensors(sr.Agent.of(learner)))


def test_what_was_learned_has_low_rank_and_biases_stand_still(source):
    run = train(source, tiny.target(), LowRank(rank=2), SCHEDULE)
    before, after = source.policy.state_dict(), run.agent.policy.state_dict()
    for name, _ in source.policy.named_parameters():
        difference = after[name] - before[name]
        if name.endswith(".bias"):
            assert not difference.any()
        elif name.endswith(".weight"):
            assert 1 <= torch.linalg.matrix_rank(difference, rtol=1e-4) <= 2
    assert (after["heads.log_std"] != before["heads.log_std"]).any()


def test_parts_without_adapters_learn_with_all_of_their_weights(source):
    run = train(source, tiny.target(), LowRank(rank=1, parts=["actor"]), SCHEDULE)
    before, after = source.policy.state_dict(), run.agent.policy.state_dict()
    ranks = {
        tower: int(torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-4))
        for tower, name in ((tower, f"trunk.{tower}.0.weight") for tower in ("actor", "critic"))
    }
    assert ranks == {"actor": 1, "critic": 7}


# ---- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "domain"), [("sac", sr.Domain("pendulum_swingup")), ("qrdqn", every.CHOICES)])
def test_they_work_off_policy(algorithm, domain):
    here = Target(domain, replace(every.learning(algorithm), hidden=(6, 6)), 0)
    agent = train(None, here, sr.Scratch(), Schedule(48, points=2, episodes=1)).agent
    for name in MINE:
        run = train(agent, here, make_strategy(name), Schedule(48, points=2, episodes=1))
        assert tiny.changed(tiny.tensors(agent), tiny.tensors(run.agent)), name


@pytest.mark.parametrize(
    "parts",
    [
        ["layerwise_lr", "l2sp", "critic_warmup"],
        ["fine_tune", "ewc"],
        ["low_rank", "kickstart"],
        ["gradual_unfreeze", "layerwise_lr"],
        ["weight_average", "top_layers"],
        ["surgery", "l2sp", "linear_probe"],
    ],
)
def test_what_does_not_contradict_combines(parts):
    try:
        make_strategy(parts)
    except UserError as error:
        assert "what is copied" in str(error) and "linear_probe" in parts
    else:
        assert "linear_probe" not in parts


@pytest.mark.parametrize(
    ("parts", "both"),
    [
        (["frozen_encoder", "gradual_unfreeze"], "what is frozen"),
        (["zero_shot", "fine_tune"], "everything"),
        (["layerwise_lr", "fine_tune"], "learning rates"),
        (["low_rank", "top_layers"], "what is frozen"),
        (["linear_probe", "random_encoder"], "contradict"),
        (["surgery", "weight_average"], "contradict"),
    ],
)
def test_what_contradicts_is_refused(parts, both):
    with pytest.raises(UserError, match=both):
        make_strategy(parts)


def test_a_combination_of_three_does_what_each_of_them_says(source):
    strategy = make_strategy(["layerwise_lr", "l2sp", {"critic_warmup": {"until": 1.0}}])
    run = train(source, tiny.target(), strategy, SCHEDULE)
    changed = tiny.changed(tiny.tensors(source), tiny.tensors(run.agent))
    assert "encoder.critic.0.weight" in changed and not any(".actor." in name for name in changed)
