"""What `simreal list` knows."""

from dataclasses import replace

from simreal.catalogue import _task
from simreal_envs.tasks import find_task


def test_a_task_is_listed_with_the_engines_that_take_its_robot():
    def on_a_cart():
        spec = cart.robot.spec()
        spec.option.gravity = [0.5, 0, -9.81]  # which Bullet refuses
        return spec

    cart = find_task("cartpole_swingup")
    tilted = type(cart)()
    tilted.robot = replace(cart.robot, spec=on_a_cart)
    assert {"mujoco", "bullet"} <= set(_task(cart)["engines"]) and "bullet" not in _task(tilted)["engines"]
