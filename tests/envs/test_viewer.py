"""What MuJoCo's viewer is given. Its window needs a display; all but the window is real here."""

import contextlib

import mujoco
import numpy as np
import pytest

from simreal_envs import viewer
from simreal_envs.errors import UserError
from simreal_envs.rendering import LOAD_DENSITY, MARKER_RADIUS
from simreal_envs.tasks import TASKS
from simreal_envs.variation import Domain, Interval, Randomization, Uniform
from simreal_envs.worlds import make


class Window:
    """In place of the viewer's window: open for a few pictures, of which it calls `look` at each."""

    def __init__(self, model, data, look, pictures):
        self.model, self.data, self._look, self._left = model, data, look, pictures
        self.cam, self.user_scn = mujoco.MjvCamera(), mujoco.MjvScene(model, 100)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def is_running(self):
        self._left -= 1
        return self._left >= 0

    def lock(self):
        return contextlib.nullcontext()

    def sync(self):
        self._look(self)

    def shapes(self, kind):
        geoms = self.user_scn.geoms[: self.user_scn.ngeom]
        return [(geom.pos.copy(), geom.size.copy()) for geom in geoms if geom.type == kind]


@pytest.fixture
def watch(monkeypatch):
    """Watch worlds under random actions, with a function that looks at every picture."""
    launcher = pytest.importorskip("mujoco.viewer")

    def run(worlds, look, pictures=3):
        monkeypatch.setenv("DISPLAY", ":0")
        opened = lambda model, data, **settings: Window(model, data, look, pictures)  # noqa: E731
        monkeypatch.setattr(launcher, "launch_passive", opened)
        monkeypatch.setattr(viewer.time, "sleep", lambda seconds: None)
        viewer.watch(worlds, lambda observation: np.zeros((1, worlds.schema.action_size)))

    return run


def test_the_viewer_shows_the_terrain_and_the_load_that_are_in_force(watch):
    worlds, seen = make(Domain("quadruped_rough", variation={"terrain/roughness": 0.1, "payload": 3.0}), 1), []

    def look(window):
        model, ((_, size),) = window.model, window.shapes(mujoco.mjtGeom.mjGEOM_BOX)
        level = model.geom_dataid[model.geom("floor").id] - model.hfield("terrain_0").id
        seen.append((worlds.task.robot.terrain.amplitudes()[level], size[0]))
        assert np.array_equal(window.data.qpos, worlds.engine.qpos[0])

    watch(worlds, look)
    assert np.allclose(seen, [[0.1, (3.0 / LOAD_DENSITY) ** (1 / 3) / 2]] * 3)


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_the_viewer_keeps_up_with_values_that_are_drawn_again(watch, engine):
    drawn = Randomization({"payload": Uniform(1.0, 5.0), "gravity": Interval(Uniform(5.0, 15.0), every=0.02)})
    worlds, seen = make(Domain("quadruped", engine, drawn), 1), []

    def look(window):
        load, gravity = window.model.body("payload").mass[0], -window.model.opt.gravity[2]
        seen.append((load, gravity))
        assert seen[-1] == pytest.approx((worlds.read("payload")[0], worlds.read("gravity")[0]), rel=1e-6)
        worlds._steps[:] = worlds.task.episode_steps - 1 if len(seen) == 2 else worlds._steps  # an episode ends

    watch(worlds, look, pictures=4)
    loads, gravities = np.transpose(seen)
    assert loads[0] == loads[1] != loads[2] == loads[3] and gravities[0] != gravities[1] != gravities[2]


def test_the_viewer_shows_the_goal(watch):
    worlds, seen = make(Domain("arm_reach"), 1), []

    def look(window):
        (sphere,) = window.shapes(mujoco.mjtGeom.mjGEOM_SPHERE)
        seen.append(sphere)
        assert np.allclose(sphere[0], next(iter(worlds.markers(0).values()))) and np.allclose(sphere[1], MARKER_RADIUS)

    watch(worlds, look)
    assert len(seen) == 3


def test_markers_of_somebody_elses_task_that_fail_later_are_a_sentence_with_their_line(watch):
    class Lost(type(TASKS["reacher"])):
        def markers(self, state):
            return {"goal": {}["goal"]}

    worlds = make(Domain("reacher"), 1)
    worlds.task = Lost()
    worlds.reset()
    sentence = rf"^task 'reacher' breaks off when a picture is drawn, with seed 0: KeyError: 'goal' \({__file__}:\d+\)$"
    with pytest.raises(UserError, match=sentence):
        viewer.drawing(worlds, (64, 48))()
    with pytest.raises(UserError, match=sentence):
        watch(worlds, lambda window: None)
