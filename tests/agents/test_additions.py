import numpy as np
import pytest
import tiny
import torch

from simreal_agents.additions import Addition, features, hidden
from simreal_envs.errors import UserError

HOOKS = ("gradient", "stepped", "collected", "loss")


class Notes(Addition):
    """Writes down what it is shown."""

    def __init__(self):
        self.seen = {}
        self.steps = 0

    def collected(self, learner, experience):
        self.seen = {
            name: np.array(getattr(experience, name)) for name in ("observations", "next_observations", "rewards")
        }

    def gradient(self, optimizer):
        self.before = optimizer.parameters.clone()

    def stepped(self, optimizer):
        self.steps += 1
        self.moved = not torch.equal(self.before, optimizer.parameters)

    def training_state(self):
        return {"steps": self.steps}

    def restore_training_state(self, state):
        self.steps = state["steps"]


def learned(addition=None, rollouts=1, name="addition"):
    learner = tiny.target().learner()
    if addition is not None:
        learner.attach(name, addition)
    learner.learn(rollouts * tiny.ROLLOUT)
    learner.env.close()
    return learner


def weights(learner):
    return learner.optimizer.parameters.numpy().tobytes()


def test_an_addition_that_does_nothing_changes_no_bit():
    assert weights(learned(Addition())) == weights(learned()) == weights(learned(Notes()))


def test_additions_see_what_follows_every_observation():
    notes = Notes()
    learned(notes)
    seen = notes.seen
    assert seen["observations"].shape == (8, 8, 5) and notes.steps > 0 and notes.moved
    np.testing.assert_array_equal(seen["next_observations"][:-1], seen["observations"][1:])


def test_corrected_rewards_are_learned_from():
    class Reversed(Addition):
        def collected(self, learner, experience):
            experience.rewards *= -1

    learner = tiny.target().learner()
    learner.scale_rewards = False
    learner.attach("reversed", Reversed())
    plain = tiny.target().learner()
    plain.scale_rewards = False
    for one in (learner, plain):
        one.learn(tiny.ROLLOUT)
        one.env.close()
    np.testing.assert_array_equal(learner.rollout_buffer.rewards, -plain.rollout_buffer.rewards)


def test_transitions_of_weight_0_are_left_out():
    class Half(Addition):
        def collected(self, learner, experience):
            experience.weights = np.ones(experience.rewards.shape, np.float32)
            experience.weights[:, 4:] = 0
            experience.rewards[:, 4:] = 1e6

    class Rows(Addition):
        def __init__(self):
            self.rows = 0

        def loss(self, policy, batch):
            self.rows += len(batch["observations"])
            assert batch["returns"].abs().max() < 1e5

    rows, learner = Rows(), tiny.target().learner()
    learner.scale_rewards = False
    learner.attach("half", Half())
    learner.attach("rows", rows)
    learner.learn(tiny.ROLLOUT)
    learner.env.close()
    assert rows.rows == 2 * tiny.ROLLOUT // 2  # two epochs over half of the rollout


def test_weights_multiply_the_loss_of_a_row():
    learner = learned()
    buffer, n = learner.rollout_buffer, 64
    flat = [getattr(buffer, name).reshape(n) for name in ("advantages", "log_probs", "returns")]
    rows, actions = learner._normalized[:-1].reshape(n, -1), buffer.actions.reshape(n, -1)
    surrogate = learner.kernel.surrogate(clip_range=0.2, ent_coef=0.0, vf_coef=0.5, normalize=False)

    def gradient(weights=None, part=slice(None)):
        surrogate.forward(
            rows[part], actions[part], *(a[part] for a in flat), None if weights is None else weights[part]
        )
        surrogate.backward()
        return learner.optimizer.gradients.clone()

    weights = np.linspace(0, 2, n).astype(np.float32)
    halves = [gradient(weights, part) for part in (slice(0, 32), slice(32, 64))]
    torch.testing.assert_close(gradient(weights), (halves[0] + halves[1]) / 2, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(gradient(np.full(n, 3, np.float32)), 3 * gradient(), atol=1e-6, rtol=1e-4)


def test_an_extra_loss_that_is_none_adds_nothing():
    class Silent(Addition):
        def loss(self, policy, batch):
            return None

    assert weights(learned(Silent())) == weights(learned())


def test_merge_gets_one_gradient_of_every_domain():
    class Merged(Addition):
        def __init__(self):
            self.shapes = set()

        def merge(self, gradients):
            self.shapes.add(tuple(gradients.shape))
            return gradients.mean(dim=0)

    merged = Merged()
    learner = learned(merged)
    assert merged.shapes == {(1, learner.optimizer.gradients.numel())}
    assert weights(learner) == weights(learned())  # of one domain the mean is the gradient itself


def test_what_an_addition_remembers_is_in_the_training_state():
    notes = Notes()
    learner = learned(notes)
    learner = tiny.target().learner()
    learner.attach("notes", notes)
    learner.learn(tiny.ROLLOUT)
    state, steps = learner.training_state(), notes.steps
    notes.steps = 0
    learner.restore_training_state(state)
    learner.env.close()
    assert notes.steps == steps > 0


def test_a_name_is_attached_once():
    learner = tiny.target().learner()
    learner.attach("notes", Notes())
    learner.env.close()
    with pytest.raises(UserError, match="notes is attached to this learner already"):
        learner.attach("notes", Notes())


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "dqn"])
def test_features_are_those_that_the_policy_acts_by(algorithm):
    import every

    from simreal.learner import Target

    domain = every.CHOICES if algorithm == "dqn" else tiny.CARTPOLE
    learner = Target(domain, every.learning(algorithm), 0).learner()
    learner.env.close()
    policy = learner.policy
    rows = torch.randn(6, policy.layout.size, generator=torch.Generator().manual_seed(0))
    head = policy.heads.critic if algorithm == "dqn" else policy.heads.actor
    output = head(hidden(policy, rows)).detach().numpy()
    assert features(policy, rows).shape == (6, 8)
    if algorithm == "dqn":
        np.testing.assert_array_equal(output.argmax(axis=1), policy.act(rows.numpy()))
    else:
        best = np.tanh(output) if algorithm == "sac" else np.clip(output, -1, 1)
        np.testing.assert_allclose(best, policy.act(rows.numpy()), atol=1e-5)


@pytest.mark.parametrize("algorithm", ["sac", "dqn"])
def test_off_policy_learners_store_corrected_rewards_and_drop_weight_0(algorithm):
    import every

    from simreal.learner import Target

    class Sevens(Addition):
        def collected(self, learner, experience):
            experience.rewards[:] = 7
            experience.weights = np.zeros(experience.rewards.shape, np.float32)
            experience.weights[:, ::2] = 1

    domain = every.CHOICES if algorithm == "dqn" else tiny.CARTPOLE
    learner = Target(domain, every.learning(algorithm), 0).learner()
    learner.attach("sevens", Sevens())
    learner.learn(40)
    learner.env.close()
    batch = learner.replay_buffer.sample(torch.Generator().manual_seed(0), 50)
    assert set(batch.rewards) == {7.0} and len(learner.replay_buffer) == learner.num_timesteps // 2
