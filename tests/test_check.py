import pytest

from simreal.check import check_strategy
from simreal.strategies import OWN


@pytest.mark.parametrize("strategy", [cls for cls in OWN], ids=lambda cls: cls.name)
def test_every_strategy_of_ours_keeps_the_contract(strategy):
    check_strategy(strategy())
