import pytest

from simreal.check import check_strategy
from simreal.strategies import OWN

PICTURES = {"channel_adapter"}  # what these see; tests of their own check their contract


@pytest.mark.parametrize("strategy", [cls for cls in OWN if cls.name not in PICTURES], ids=lambda cls: cls.name)
def test_every_strategy_of_ours_keeps_the_contract(strategy):
    check_strategy(strategy())
