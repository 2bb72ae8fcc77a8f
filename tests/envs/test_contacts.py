import mujoco
import numpy as np
import pytest

from simreal_envs.engines.contacts import partners

# Seven shapes in one place: two of one body, one on a body welded to it, its child and grandchild, and two that touch few.
HEAP = """<mujoco><option gravity="0 0 0"><flag filterparent="{flag}"/></option><worldbody>
    <geom name="ground" type="plane" size="1 1 1"/>
    <body name="trunk"><freejoint/><geom name="trunk" size="0.1"/><geom name="side" size="0.1" pos="0.01 0 0"/>
      <body name="plate"><geom name="plate" size="0.1"/></body>
      <body name="thigh" pos="0 0.01 0"><joint/><geom name="thigh" size="0.1"/>
        <body name="shin" pos="0.02 0 0"><joint axis="0 1 0"/><geom name="shin" size="0.1"/></body></body></body>
    <body name="ghost"><freejoint/><geom name="ghost" size="0.1" contype="2" conaffinity="4"/></body>
    <body name="hunter" pos="0.01 0.01 0"><freejoint/><geom name="hunter" size="0.1" contype="5" conaffinity="0"/></body>
  </worldbody><contact>{exclude}</contact></mujoco>"""


@pytest.mark.parametrize("flag", ["enable", "disable"])
@pytest.mark.parametrize("exclude", ["", '<exclude body1="shin" body2="trunk"/><exclude body1="thigh" body2="world"/>'])
def test_shapes_that_can_touch_are_those_that_mujoco_finds_in_touch(flag, exclude):
    model = mujoco.MjModel.from_xml_string(HEAP.format(flag=flag, exclude=exclude))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    touching = np.zeros((model.ngeom, model.ngeom), bool)
    for a, b in data.contact.geom:
        touching[a, b] = touching[b, a] = True
    np.testing.assert_array_equal(partners(model), touching)
