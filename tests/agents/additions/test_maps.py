import numpy as np
import pytest
import torch

from simreal_agents.additions import maps
from simreal_agents.additions.maps import (
    adapt_statistics,
    careful_transport,
    components_only,
    fold,
    transfer_components,
    transport,
)
from simreal_agents.bundle import Agent
from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema

RNG = np.random.default_rng(0)
SOURCE = RNG.normal(size=(5000, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 2.0, 0.3], [0.0, 0.0, 0.1]]) + [5.0, -1.0, 0.0]


def agent(algorithm="ppo", seed=0, **network):
    action = Field("push", "N", ("l", "r"), low=-1.0, high=1.0)
    schema = Schema((Field("where", "m", ("x", "y", "z")),), (action,), 0.02)
    made = Agent.new(schema, {"hidden": [8, 8], **network}, seed=seed, algorithm=algorithm)
    made.policy.encoder.normalizer.update(torch.from_numpy(SOURCE))
    return made


def test_transport_of_equal_distributions_is_the_identity():
    found = transport(SOURCE, SOURCE)
    assert np.allclose(found.matrix, np.eye(3), atol=1e-9) and np.allclose(found.offset, 0.0, atol=1e-9)


def test_transport_undoes_offsets_and_gains_of_sensors(monkeypatch):
    gain, offset = np.array([2.0, 0.5, 1.0]), np.array([0.3, 0.0, -4.0])
    independent = RNG.normal(size=(5000, 3)) * [1.0, 2.0, 0.1]
    monkeypatch.setattr(maps, "RIDGE", 0.0)
    found = transport(independent, independent * gain + offset)
    assert np.allclose(found(independent * gain + offset), independent, atol=0.02)


def test_transport_matches_mean_and_covariance(monkeypatch):
    monkeypatch.setattr(maps, "RIDGE", 0.0)
    target = RNG.normal(size=(4000, 3)) @ RNG.normal(size=(3, 3))
    mapped = transport(SOURCE, target)(target)
    assert np.allclose(mapped.mean(0), SOURCE.mean(0), atol=1e-9)
    assert np.allclose(np.cov(mapped, rowvar=False), np.cov(SOURCE, rowvar=False), atol=0.02)


def test_chance_is_not_aligned():
    draws = [RNG.normal(size=(60, 3)) for _ in range(40)]
    away = [np.square(f(np.concatenate(draws[i : i + 2]), draws[i + 2])(draws[i + 2]) - draws[i + 2]).mean()
            for f in (transport, careful_transport) for i in range(30)]  # fmt: skip
    assert np.mean(away[30:]) < 0.3 * np.mean(away[:30])
    gain = np.array([2.0, 1.0, 3.0])
    source = np.concatenate(draws[:20])
    careful, plain = (f(source, 5.0 + np.concatenate(draws[20:30]) * gain) for f in (careful_transport, transport))
    assert np.allclose(careful.matrix, plain.matrix, atol=0.02) and np.allclose(careful.offset, plain.offset, atol=0.05)


def test_the_ridge_makes_maps_careful():
    # Variance 4 against 1, with 0.1 added in units of the source's: sqrt(1.1 / 4.1) instead of 1/2.
    rows = RNG.normal(size=(4000, 2))
    rows = (rows - rows.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    found = transport(rows, 2.0 * rows)
    assert np.allclose(found.matrix, np.sqrt(1.1 / 4.1) * np.eye(2), atol=1e-3)


def test_transfer_components_by_hand():
    # Unit variances, means apart by 2 along the first axis: (4 + mu)^-1 there against mu^-1 along the second.
    rows = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    apart = np.array([1.0, 0.0])
    source, target = rows - apart, rows + apart
    found = transfer_components(source, target, mu=0.5)
    directions = np.abs(found / np.linalg.norm(found, axis=0))
    assert np.allclose(directions, [[0.0, 1.0], [1.0, 0.0]], atol=1e-12)
    # With a large mu the means do not count, and the larger variance (1 + 1 along the first axis) leads.
    directions = transfer_components(source, target, mu=1e6)
    assert np.argmax(np.abs(directions[:, 0])) == 0


def test_a_biased_sensor_is_dropped_and_filled_in_from_the_others():
    # The third column is half the first; in the target its sensor is off by 3 standard deviations.
    first, second = RNG.normal(size=(2, 5000))
    source = np.stack([first, second, 0.5 * first + 0.05 * RNG.normal(size=5000)], axis=1)
    biased = source + np.array([0.0, 0.0, 1.5])
    seen = components_only(source, biased, 2, mu=0.01)(biased)
    assert np.abs(seen - source).mean() < 0.25 * np.abs(biased - source)[:, 2].mean()
    assert np.allclose(components_only(source, biased, 3, mu=0.01).matrix, np.eye(3), atol=1e-9)
    by_itself = components_only(source, biased, None, mu=0.01)
    assert np.allclose(by_itself.matrix, components_only(source, biased, 2, mu=0.01).matrix)
    assert np.allclose(components_only(source, source + 0.01, None, mu=0.01).matrix, np.eye(3), atol=1e-9)


def test_one_element_is_all_that_there_is_to_see():
    rows = RNG.normal(size=(50, 1))
    assert np.allclose(components_only(rows, rows + 3.0, None, mu=0.01).matrix, 1.0)
    assert np.allclose(transport(rows, rows).matrix, 1.0)


@pytest.mark.parametrize("further", ["that stands still", "that is the sum of two others"])
def test_a_biased_sensor_is_dropped_beside_an_element(further):
    # Directions of hardly any variance come last in the method's order, behind the one in which the means are apart.
    first, second = RNG.normal(size=(2, 5000))
    more = np.full(5000, 2.0) if further == "that stands still" else first + second
    source = np.stack([first, second, 0.5 * first + 0.05 * RNG.normal(size=5000), more], axis=1)
    biased = source + np.array([0.0, 0.0, 1.5, 0.0])
    seen = components_only(source, biased, None, mu=0.01)(biased)
    assert np.abs(seen - source)[:, 2].mean() < 0.25 * np.abs(biased - source)[:, 2].mean()


@pytest.mark.parametrize(
    ("algorithm", "network"), [("ppo", {}), ("ppo", {"normalize_observations": False}), ("sac", {}), ("td3", {})]
)
def test_a_folded_map_is_what_the_agent_sees(algorithm, network):
    old = agent(algorithm, **network)
    new = old.copy()
    target = SOURCE * [2.0, 1.0, 3.0] + [1.0, 0.0, -2.0]
    seen = transport(SOURCE, target)
    fold(new.policy, seen, SOURCE, target)
    rows = target[:200].astype(np.float32)
    assert np.allclose(new.act(rows), old.act(seen(rows).astype(np.float32)), atol=2e-5)
    assert not np.allclose(new.act(rows), old.act(rows), atol=1e-3)
    if algorithm == "ppo":
        assert np.allclose(new.value(rows), old.value(seen(rows).astype(np.float32)), atol=1e-4)
    else:
        policies = [(old.policy, seen(rows).astype(np.float32)), (new.policy, rows)]
        q = [p.q_values(torch.from_numpy(r), torch.zeros(len(r), 2)).detach() for p, r in policies]
        assert torch.allclose(*q, atol=1e-4)
        for name, tensor in new.policy.state_dict().items():
            if name.startswith("target."):
                assert torch.equal(tensor, new.policy.state_dict()[name.removeprefix("target.")])


def test_statistics_become_the_targets_where_all_of_the_source_was_seen():
    normalizer, target = (made := agent()).policy.encoder.normalizer, SOURCE * [2.0, 1.0, 0.5] + 7.0
    adapt_statistics(made.policy, SOURCE, target)
    assert np.allclose(normalizer.mean.numpy(), target.mean(0)) and np.allclose(normalizer.var.numpy(), target.var(0))
    assert normalizer.count.tolist() == [5000.0] * 3


def test_statistics_move_by_the_difference_where_only_a_part_was_seen():
    # The agent knows mean m and deviation s; both domains were seen at 1 +- 0.5 and at 4 +- 1: twice the gain, plus 2.
    normalizer = (made := agent()).policy.encoder.normalizer
    mean, std = normalizer.mean.numpy().copy(), np.sqrt(normalizer.var.numpy())
    ours, theirs = (np.tile([[low], [high]], 3) for low, high in ((0.5, 1.5), (3.0, 5.0)))
    adapt_statistics(made.policy, ours, theirs)
    assert np.allclose(normalizer.mean.numpy(), 2.0 * mean + 2.0)
    assert np.allclose(np.sqrt(normalizer.var.numpy()), 2.0 * std)


def test_what_stands_still_keeps_its_variance():
    normalizer = (made := agent()).policy.encoder.normalizer
    before = normalizer.var.clone()
    adapt_statistics(made.policy, np.zeros((10, 3)), np.ones((10, 3)))
    assert torch.equal(normalizer.var, before)


def test_pictures_are_refused():
    schema = Schema(
        (Field("eye", "1", ("grey",), 0, 1, grid=(9, 12)),),
        (Field("push", "N", ("l", "r"), low=-1.0, high=1.0),), 0.02,
    )  # fmt: skip
    made = Agent.new(schema, {"hidden": [8]})
    with pytest.raises(UserError, match="first layers read vectors"):
        fold(made.policy, transport(SOURCE, SOURCE), SOURCE, SOURCE)
