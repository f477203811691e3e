"""Options of decoding that name systems."""

import pytest

from espnet_plugin.decode.options import Options, merges_of, only_of, options_of


def test_overrides():
    plain = Options()
    overrides = ["base:pad=30s", "base:suppress=whisper", "full:tail=4"]
    assert options_of(["base", "init", "full"], plain, overrides) == {
        "base": Options(pad="30s", suppress="whisper"),
        "init": plain,
        "full": Options(tail=4.0),
    }
    assert options_of(["a"], plain, ["a:timestamps=true"]) == {"a": Options(timestamps=True)}


def test_an_override_of_several_systems():
    found = options_of(["init", "merge_0.2", "merge_0.4"], Options(), ["merge_*:dtype=float16"])
    assert [one.dtype for one in found.values()] == ["float32", "float16", "float16"]
    with pytest.raises(ValueError, match=r"no system 'merged_\*'; there are init"):
        options_of(["init"], Options(), ["merged_*:dtype=float16"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("base", "not SYSTEM:OPTION=VALUE"),
        ("bse:pad=30s", r"no system 'bse' \(did you mean base\?\)"),
        ("base:pda=30s", r"no option 'pda' \(did you mean pad\?\)"),
        ("base:pad=30", r"pad is one of batch, 30s, got '30' \(did you mean 30s\?\)"),
        ("base:beam_size=two", "override 'base:beam_size=two'"),
        ("base:timestamps=yes", "neither true nor false"),
    ],
)
def test_bad_overrides(override, message):
    with pytest.raises(ValueError, match=message):
        options_of(["base", "init"], Options(), [override])


@pytest.mark.parametrize("text", ["merge_", "merge_=init", "a/=b:c", "=b:c"])
def test_bad_merges(text):
    with pytest.raises(ValueError, match="PREFIX=BASE:TUNED"):
        merges_of([text])


def test_sets_that_few_systems_are_decoded_on():
    systems, sets = ["init", "adapt_full", "merge_0.2", "direct_merge_0.2"], ["valid", "test_cs"]
    assert only_of(["valid:init,merge_*"], systems, sets) == {"valid": ["init", "merge_0.2"]}
    assert only_of([], systems, sets) == {}
    with pytest.raises(ValueError, match=r"no set 'vaild' \(did you mean valid\?\)"):
        only_of(["vaild:init"], systems, sets)
    with pytest.raises(ValueError, match="'valid:merge' matches none of the systems: init"):
        only_of(["valid:merge"], systems, sets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pad": "bach"}, "pad is one of batch, 30s, got 'bach' .did you mean batch"),
        ({"beam_size": 0}, "beam_size must be at least 1"),
        ({"max_tokens_per_second": -1.0}, "max_tokens_per_second is negative"),
        ({"tail": -1.0}, "tail is negative"),
        ({"lang_tokens": "cs-ms"}, "not 'language:code'"),
        ({"suppress": "all"}, "suppress is one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "at least 1 utterance and some audio, got batch_size 0"),
        ({"batch_seconds": 0.0}, "got batch_size 32, batch_seconds 0.0"),
        ({"systems": []}, "no system is named"),
        ({"sets": []}, "no set is named"),
    ],
)
def test_nothing_is_decoded_in_silence(tmp_path, given, message):
    from espnet_plugin.decode.runner import decode_sets

    usual = {"systems": ["init"], "sets": ["test"], "dumpdir": tmp_path, "options": Options()}
    with pytest.raises(ValueError, match=message):
        decode_sets(tmp_path, **usual | given)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(device):
    from espnet_plugin.decode.workers import devices_of

    with pytest.raises(ValueError, match=f"'{device}'"):
        devices_of(device, 1)
