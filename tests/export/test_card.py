"""The model card says what the run's records say, and refuses what they do not prove."""

import json
import shutil

import pytest
import yaml

from espnet_plugin.checkpoint import read_json, write_json
from espnet_plugin.export.card import card
from espnet_plugin.export.facts import CardInfo, gather, read_info
from tests.export.conftest import SYSTEM

INFO = CardInfo(
    title="Mixed speech",
    languages=("ms", "en"),
    licence="cc-by-nc-4.0",
    base_licence="MIT (OpenAI)",
    data=("A corpus: CC BY-NC 4.0",),
    intended_use="Trying things out.",
    limits=("Whispering.",),
)


@pytest.fixture(scope="module")
def text(expdir, published):
    facts = gather(expdir, SYSTEM, list(published.values()))
    return card(facts, INFO, "me/mixed")


def test_metadata_is_what_the_hub_reads(text):
    from huggingface_hub import ModelCard

    data = ModelCard(text).data
    assert data.license == "cc-by-nc-4.0" and data.language == ["ms", "en"]
    assert data.base_model == "openai/whisper-base"
    assert data.pipeline_tag == "automatic-speech-recognition"
    wer, cer = data.eval_results
    assert (wer.dataset_name, wer.metric_type, wer.metric_value) == ("test_cs", "wer", 23.26)
    assert wer.metric_args["confidence_interval_95"] == [19.76, 27.26]
    assert (cer.metric_type, cer.metric_value) == ("cer", 7.75)
    index = yaml.safe_load(text.split("---")[1])["model-index"]
    assert index[0]["name"] == "mixed" and len(index[0]["results"]) == 1


def test_what_people_read(text):
    assert "# Mixed speech\n" in text
    row = "| `test_cs` | 126 | 23.3 | 19.8 to 27.3 | 7.8 | 43.4 |"
    assert row in text and "valid_paired" not in text
    making = text.split("## How it was made\n\n")[1].split("\n\n")[0].splitlines()
    assert making[0] == f"1. `init`: imported from openai/whisper-base at commit `{'c' * 40}`"
    assert making[1].endswith("70 updates; data: 24,000 lines of text (332,170 tokens)")
    assert making[2].endswith("70 updates; data: `train_paired`, 1.2 hours, 1,234 utterances")
    merged = f"4. `{SYSTEM}`: 0.4 · `adapt_full` + 0.6 · `init` (encoder: 0.2)"
    assert making[3] == merged
    for line in (
        "- Whispering.",
        "- Data: A corpus: CC BY-NC 4.0",
        "- Base model (openai/whisper-",
    ):
        assert line in text
    for program in ("transformers import", "import whisper", "faster_whisper import"):
        assert program in text
    assert "espnet_plugin import" not in text  # not exported for it
    assert "| `ctranslate2/` | CTranslate2 as stored | bit-identical | faster-whisper" in text
    assert "pad: batch" in text and "Other programs pad audio to 30 s" in text
    assert "/home/" not in text and "/elsewhere" not in text


def test_code_of_the_card_is_valid(text):
    blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        compile(block, "card", "exec")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "licence is missing: a model card says the model's licence"),
        ({"licence": "mit"}, "base_licence is missing"),
        (
            {"licence": "mit", "base_licence": "MIT"},
            "data is missing: .* the training data and its",
        ),
        ({"license": "mit"}, r"unknown setting 'license' \(did you mean licence\?\)"),
    ],
)
def test_licences_are_demanded(settings, message, tmp_path):
    (tmp_path / "card.yaml").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=rf"card\.yaml: {message}"):
        read_info(tmp_path / "card.yaml")


def test_the_card_of_the_demo_is_complete():
    from tests.fixtures.recipe import ROOT

    assert read_info(ROOT / "conf/demo/card.yaml").licence == "mit"
    with pytest.raises(ValueError, match="licence is missing"):  # for the user to state
        read_info(ROOT / "conf/card.yaml")


def test_what_is_not_proven_is_refused(expdir, published, tmp_path):
    copy = tmp_path / "exp"
    shutil.copytree(expdir, copy, ignore=shutil.ignore_patterns("export_ct2", "export_openai"))
    hf = copy / SYSTEM / "export_hf"

    def fails(error, message, exports=(hf,), system=SYSTEM):
        with pytest.raises(error, match=message):
            gather(copy, system, exports)

    fails(
        FileNotFoundError,
        r"merge_0.5 is not a model directory \(did you mean merge_0",
        (),
        "merge_0.5",
    )
    fails(ValueError, "no exports of .*; stage 14 makes them", ())
    fails(FileNotFoundError, r"export_ct2/export\.json: missing; stage 14", [copy / "export_ct2"])
    record = read_json(hf / "export.json")
    write_json(hf / "export.json", {**record, "verification": None})
    fails(ValueError, "was not decoded with transformers when it was exported")
    write_json(hf / "export.json", {**record, "model_sha256": "0"})
    fails(ValueError, "an export of other weights than")
    decoded = copy / SYSTEM / "decode_greedy/test_cs/decode.json"
    results = read_json(copy / "results.json")
    for entry in results["results"]:
        entry["text_sha256"] = "0"
    write_json(copy / "results.json", results)
    fails(ValueError, r"decode\.json: decoded again since it was scored; score it \(stage 13")
    write_json(decoded, {**read_json(decoded), "model_hash": "0"})
    fails(ValueError, r"decode\.json: these results are those of other weights than")
    decoded.unlink()
    fails(FileNotFoundError, r"decode\.json: missing; stage 12")
    results = read_json(copy / "results.json")
    write_json(copy / "results.json", {**results, "results": results["results"][:1]})
    fails(ValueError, "no results of merge_0.4; stages 12 and 13 make them")
    (copy / "results.json").unlink()
    fails(FileNotFoundError, r"results\.json: missing; stage 13")
