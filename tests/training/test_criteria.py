"""What runs are stopped and epochs chosen by is checked before anything is trained."""

import pytest

from espnet_plugin.training.criteria import check, check_measured, check_resumed

LANGUAGES = ("cs", "ms", "en")


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        ("valid los min", r"no measure 'los' \(did you mean loss\?\); there are loss, acc"),
        ("vald loss min", r"no set 'vald' \(did you mean valid\?\); there are train, valid"),
        ("valid loss mn", r"no mode 'mn' \(did you mean min\?\)"),
        ("valid wer_zh min", "no measure 'wer_zh'.*wer_en"),
        ("train wer min", "no measure 'wer'.* there are loss, acc, ppl$"),
        ("loss min", "written 'valid loss min'; got 'loss min'"),
    ],
)
def test_a_criterion_that_does_not_exist_is_named(criterion: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check([("valid", "loss", "min"), criterion.split()], LANGUAGES)


def test_criteria_that_exist() -> None:
    names = ("valid loss min", "valid acc max", "valid wer_cs min", "train loss min")
    check([name.split() for name in names], LANGUAGES)


def test_a_language_that_is_not_validated() -> None:
    criteria = [("train", "loss", "min"), ("valid", "loss_en", "min")]
    check_measured(criteria, {"valid_loss", "valid_loss_en"})
    with pytest.raises(ValueError, match="'valid loss_en': the validation set has nothing"):
        check_measured(criteria, {"valid_loss", "valid_loss_cs"})


def test_epochs_before_an_interruption_must_have_been_measured() -> None:
    stats = {1: {"valid": {"loss": 2.0}}, 2: {"valid": {"loss": 1.0, "wer": 9.0}}}
    check_resumed([("valid", "loss", "min")], stats)
    with pytest.raises(ValueError, match="'valid wer': epoch 1 of this run was not measured so"):
        check_resumed([("valid", "loss", "min"), ("valid", "wer", "min")], stats)
