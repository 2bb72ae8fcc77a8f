import every
import numpy as np
import pytest
import tiny
import torch
from gymnasium import spaces

from simreal.learner import Target
from simreal.strategies.augmentation import Augmentation
from simreal_agents.additions import augment
from simreal_agents.layout import Layout
from simreal_agents.normalizer import Normalizer


def change(space, seed=0, pixels=1, amplitude=0.0, noise=0.0):
    return augment.Augmentation(Layout.of(space), pixels, amplitude, noise, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
def test_a_picture_is_moved_by_a_pixel_and_its_edge_repeated(last):
    picture = np.arange(48, dtype=np.uint8).reshape(1, 6, 8)
    shape = (6, 8, 1) if last else (1, 6, 8)
    rows = torch.from_numpy(np.repeat(picture.reshape(1, -1), 200, axis=0))
    changed = change(spaces.Box(0, 255, shape, np.uint8))(rows, None)
    assert changed.dtype == torch.uint8
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="edge")[0]
    height, width = picture.shape[1:]
    wanted = {padded[y : y + height, x : x + width].tobytes() for y in range(3) for x in range(3)}
    assert {row.numpy().tobytes() for row in changed} == wanted


def test_all_channels_of_a_picture_move_together():
    rows = torch.arange(12).repeat_interleave(2).to(torch.uint8).repeat(50, 1)
    changed = change(spaces.Box(0, 255, (3, 4, 2), np.uint8))(rows, None).reshape(-1, 2)
    assert torch.equal(changed[:, 0], changed[:, 1])


def test_a_vector_is_scaled_by_one_factor_and_gets_noise_of_its_own_spread():
    normalizer = Normalizer(2)
    normalizer.var.copy_(torch.tensor([4.0, 0.0]))
    rows = torch.tensor([[1.0, 2.0]]).repeat(4000, 1)
    space = spaces.Box(-9, 9, (2,))
    scaled = change(space, amplitude=0.5)(rows, normalizer)
    assert torch.allclose(scaled[:, 1], 2 * scaled[:, 0])
    assert 0.5 <= float(scaled[:, 0].min()) < 0.51 and 1.49 < float(scaled[:, 0].max()) <= 1.5
    noisy = change(space, noise=0.1)(rows, normalizer)
    assert float(noisy[:, 0].std()) == pytest.approx(0.2, rel=0.05) and bool((noisy[:, 1] == 2).all())


@pytest.fixture
def learner():
    learner = tiny.target().learner()
    yield learner
    learner.env.close()


def changes_of(learner, amplitude):
    return augment.Augmentation(learner.policy.layout, None, amplitude, 0.0, torch.Generator().manual_seed(0))


def loss(learner, rows, amplitude):
    addition = augment.Indifference(changes_of(learner, amplitude), 2.0)
    return addition.loss(learner.policy, {"observations": rows, "actions": None}).item()


def test_an_agent_that_sees_no_change_has_no_loss(learner):
    assert loss(learner, torch.from_numpy(learner.env.reset()), amplitude=0.0) == 0.0


def test_the_loss_is_the_divergence_of_the_actions_and_the_difference_of_the_values(learner):
    policy, rows = learner.policy, torch.from_numpy(learner.env.reset())
    changed = changes_of(learner, 0.5)(rows, policy.encoder.normalizer)
    a, b = (policy.act(x.numpy()) for x in (rows, changed))
    v, w = (policy.value(x.numpy()) for x in (rows, changed))
    # Two normal distributions of standard deviation 1: half the squared distance of their means.
    wanted = 2.0 * (0.5 * np.square(a - b).sum(1).mean() + np.square(v - w).mean())
    assert loss(learner, rows, 0.5) == pytest.approx(wanted, rel=1e-4) and wanted > 0


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_pictures_are_trained_on_whatever_the_algorithm(algorithm):
    learner = Target(every.LAMP, every.learning(algorithm), 0)
    learner = Augmentation(weight=1.0).begin(None, learner)
    before = learner.optimizer.parameters.clone()
    learner.learn(64)
    learner.env.close()
    assert not torch.equal(before, learner.optimizer.parameters)
