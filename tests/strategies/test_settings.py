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
