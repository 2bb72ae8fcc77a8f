import math

import pytest

from simreal_agents.units import factor


@pytest.mark.parametrize(
    ("unit", "other", "expected"),
    [
        ("deg", "rad", math.pi / 180),
        ("rad", "deg", 180 / math.pi),
        ("mm", "m", 1e-3),
        ("cm/s", "mm/s", 10.0),
        ("rad/s", "rpm", 30 / math.pi),
        ("rev/s", "rpm", 60.0),
        ("km/h", "m/s", 1 / 3.6),
        ("m/s^2", "mm/s²", 1e3),
        ("m/s2", "m s^-2", 1.0),
        ("N m", "mN·m", 1e3),
        ("Nm", "N*m", 1.0),
        ("kg m/s^2", "N", 1.0),
        ("g", "kg", 1e-3),
        ("1/s", "Hz", 1.0),
        ("min", "ms", 6e4),
    ],
)
def test_units_of_one_quantity_have_a_factor_and_its_inverse(unit, other, expected):
    assert factor(unit, other) == pytest.approx(expected, rel=1e-14)
    assert factor(other, unit) == pytest.approx(1 / expected, rel=1e-14)


@pytest.mark.parametrize(
    ("unit", "other"),
    [
        ("m", "rad"),
        ("rad", "1"),
        ("m/s", "m"),
        ("N", "N m"),
        ("m", "furlong"),
        ("m", ""),
        ("m", "m/"),
        ("1", "%"),
        ("m", "m^"),
    ],
)
def test_what_is_not_one_quantity_or_not_known_has_none(unit, other):
    assert factor(unit, other) is None and factor(other, unit) is None


def test_equal_units_need_no_table():
    assert factor("furlong/fortnight", "furlong/fortnight") == 1.0
