import pytest

from simreal.curve import Row, read_curve, write_curve
from simreal_envs.errors import UserError


def test_a_curve_survives_its_file(tmp_path):
    rows = (Row(0, -1.5, 0.1, 2, 0.0, 1 / 3, -2.0, 0.0, 0.5), Row(64, 1e-17, 0.0, 2, 1.0, 2.0, 3.0, 4.0, 1.0))
    write_curve(rows, tmp_path / "curve.csv")
    assert read_curve(tmp_path / "curve.csv") == rows
    assert [path.name for path in tmp_path.iterdir()] == ["curve.csv"]


@pytest.mark.parametrize("text", ["", "env_steps,return_mean\n", "env_steps\n0\n", "x\n0,1\n"])
def test_a_damaged_curve_is_a_user_error(tmp_path, text):
    (tmp_path / "curve.csv").write_text(text)
    with pytest.raises(UserError, match=r"curve\.csv is not a readable curve\.csv"):
        read_curve(tmp_path / "curve.csv")
    with pytest.raises(UserError, match="nowhere"):
        read_curve(tmp_path / "nowhere.csv")
