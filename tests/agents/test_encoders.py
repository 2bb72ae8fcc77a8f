import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from simreal_agents.encoders import Dropout, Perception, cnn_of
from simreal_agents.layout import Layout
from simreal_agents.networks import Policy
from simreal_agents.normalizer import Normalizer
from simreal_envs.errors import Unsupported, UserError

RGB = spaces.Box(0, 255, (84, 84, 4), np.uint8)
MIXED = spaces.Dict({"camera": spaces.Box(0, 255, (10, 12, 3), np.uint8), "state": spaces.Box(-9, 9, (4,), np.float32)})


def fill(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.05, generator=generator)
    return module


def rows(layout, n=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, layout.size)).astype(layout.dtype))


def test_the_same_weights_give_the_outputs_of_sb3s_nature_cnn():
    layout = Layout.of(RGB)
    ours = fill(Perception(layout, 512, nn.ReLU))
    stock = NatureCNN(spaces.Box(0, 255, (4, 84, 84), np.uint8), 512)
    assert ours.linear.in_features == stock.linear[0].in_features == 3136
    with torch.no_grad():
        for mine, theirs in zip(ours.parameters(), stock.parameters(), strict=True):
            theirs.copy_(mine)
        pixels = rows(layout)
        expected = stock(pixels.reshape(-1, 84, 84, 4).permute(0, 3, 1, 2).float() / 255)
        got = ours(pixels, Normalizer(0))
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=5e-6)  # sums over 3136 in another order


def test_small_grids_get_the_one_convolution_of_minatar():
    encoder = Perception(Layout.of(spaces.Box(0, 1, (10, 10, 7), bool)), 128, nn.ReLU)
    (convolution,) = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert convolution.weight.shape == (16, 7, 3, 3)
    assert encoder.linear.in_features == 16 * 8 * 8


def test_small_pictures_keep_nine_places_where_nature_would_leave_one():
    layout = Layout.of(spaces.Box(0, 255, (42, 42, 4), np.uint8))
    small, nature = (fill(Perception(layout, 8, nn.ReLU, cnn=cnn)) for cnn in (None, "nature"))
    kinds = [m for m in small.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size, m.stride, m.padding) for m in kinds] == [(32, (3, 3), (2, 2), (1, 1))] * 4
    for encoder, extent, channels in ((small, 3, 32), (nature, 1, 64)):
        shown = encoder.cnns["image"](torch.zeros(1, 4, 42, 42))
        assert shown.shape == (1, channels, extent, extent)
        assert encoder.outputs == [shown.numel()] == [encoder.linear.in_features]


@pytest.mark.parametrize(
    ("pixels", "kind"), [(84, "nature"), (64, "nature"), (63, "small"), (16, "small"), (15, "grid")]
)
def test_the_size_of_a_picture_says_how_it_is_seen_unless_it_is_told(pixels, kind):
    (part,) = Layout.of(spaces.Box(0, 255, (pixels, 90, 3), np.uint8)).images
    assert cnn_of(part, None) == kind and cnn_of(part, "grid") == "grid"


def test_a_cnn_that_does_not_exist_or_fit_is_refused():
    space = spaces.Box(0, 255, (20, 20, 3), np.uint8)
    with pytest.raises(UserError, match="unknown cnn 'natur'; did you mean 'nature'"):
        Policy(space, spaces.Discrete(3), lambda _: 1e-3, cnn="natur")
    with pytest.raises(Unsupported, match="at least 36 x 36 pixels for cnn 'nature', got 20 x 20"):
        Policy(space, spaces.Discrete(3), lambda _: 1e-3, cnn="nature")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels_first_and_last_are_the_same_picture(dtype):
    last, first = (Layout.of(spaces.Box(0, 255, shape, dtype)) for shape in ((12, 14, 3), (3, 12, 14)))
    pixels = rows(last)
    moved = pixels.reshape(-1, 12, 14, 3).permute(0, 3, 1, 2).reshape(len(pixels), -1)
    a, b = (fill(Perception(layout, 8, nn.Tanh))(p, Normalizer(0)) for layout, p in ((last, pixels), (first, moved)))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert a.std() > 0.01


def test_a_grid_of_bools_is_seen_as_zeros_and_ones():
    grids = [Layout.of(spaces.Box(0, 1, (10, 10, 4), dtype)) for dtype in (bool, np.float32)]
    pixels = np.random.default_rng(0).random((5, 10, 10, 4)) < 0.5
    seen = [fill(Perception(g, 8, nn.ReLU))(torch.from_numpy(g.flatten(pixels)), Normalizer(0)) for g in grids]
    assert torch.equal(*seen) and seen[0].std() > 0


def test_vectors_beside_pictures_are_normalized_and_pictures_are_not():
    layout = Layout.of(MIXED)
    encoder, normalizer = fill(Perception(layout, 6, nn.Tanh)), Normalizer(4)
    values = np.random.default_rng(0).normal(3.0, 2.0, (5, 4)).astype(np.float32)
    camera = np.random.default_rng(1).integers(0, 256, (5, 10, 12, 3)).astype(np.uint8)
    normalizer.update(torch.from_numpy(values))
    got = encoder(torch.from_numpy(layout.flatten({"state": values, "camera": camera})), normalizer)
    plain = (values - values.mean(0)) / values.std(0)
    picture = encoder.cnns["camera"](torch.from_numpy(camera).permute(0, 3, 1, 2) / 255).flatten(1)
    expected = torch.tanh(encoder.linear(torch.cat([picture, torch.from_numpy(plain)], dim=1)))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_a_matrix_that_is_no_picture_is_refused():
    with pytest.raises(Unsupported, match=r"at least 3 x 3 pixels, got 2 x 5; .*FlattenObservation"):
        Perception(Layout.of(spaces.Box(0, 1, (2, 5))), 8, nn.ReLU)


def test_dropout_draws_from_its_own_generator_and_keeps_the_mean():
    torch.manual_seed(3)
    before, dropout, ones = torch.get_rng_state(), Dropout(0.25), torch.ones(200, 100)
    dropout.generator.manual_seed(1)
    first = dropout(ones)
    assert first.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert first.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(first, dropout(ones))
    dropout.generator.manual_seed(1)
    assert torch.equal(first, dropout(ones))
    assert torch.equal(before, torch.get_rng_state())
    assert dropout.eval()(ones) is ones


def test_actor_and_critic_share_one_encoder_where_there_are_pictures():
    policy = Policy(MIXED, spaces.Discrete(3), lambda _: 1e-3, hidden=(16, 8))
    names = {name.rsplit(".", 1)[0] for name, _ in policy.named_parameters()}
    assert names == {
        "encoder.shared.cnns.camera.0", "encoder.shared.linear", "trunk.actor.0", "trunk.critic.0", "heads.actor",
        "heads.critic",
    }  # fmt: skip
    assert policy.encoder.normalizer.mean.shape == (4,)
