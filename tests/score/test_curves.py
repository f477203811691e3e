"""Training curves."""

import pytest

from espnet_plugin.score.curves import read_curve, validation_fall
from tests.score.experiment import CURVE


def test_read_and_compare(tmp_path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(CURVE + "0,0,,3.5,0.1,1\n1,40,2,1.5,0.5,9\n2,80,1,1.7,0.5,18\n")
    points = read_curve(path)
    assert [point.updates for point in points] == [0, 40, 80]
    assert points[0].train_loss is None
    assert points[2].valid_loss == 1.7
    assert validation_fall(path) == (3.5, 1.5, 1)


def test_an_epoch_repeated_after_a_resume_counts_once(tmp_path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(CURVE + "0,0,,3.5,0.1,1\n1,40,2,9.9,0.5,9\n1,40,2,1.5,0.5,9\n")
    assert [point.valid_loss for point in read_curve(path)] == [3.5, 1.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,updates\n", "columns train_loss, valid_loss"),
        (CURVE, "no epoch"),
        (CURVE + "0,0,,x,0.1,1\n", "curve.csv:2: could not convert"),
        (CURVE + "0,0,,3.5,0.1\n0,0\n", "curve.csv:2: has fewer fields"),
    ],
)
def test_broken_curves(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_curve(path)


@pytest.mark.parametrize("rows", ["0,0,,3.5,0.1,1\n", "1,40,2,1.5,0.5,9\n"])
def test_a_fall_needs_start_and_end(tmp_path, rows: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(CURVE + rows)
    with pytest.raises(ValueError, match="needs valid_loss at epoch 0"):
        validation_fall(path)


def test_missing_curve_says_who_writes_it(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="stages 8-10"):
        read_curve(tmp_path / "curve.csv")
