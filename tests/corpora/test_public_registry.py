import importlib
import pickle

import pytest

from espnet_plugin.corpora.corpus import REGISTRY, Unit, corpus_named, read_options
from espnet_plugin.corpora.prepare import licence_text
from espnet_plugin.corpora.row_files import Part

PLACES = {
    "common_voice": "common_voice:CORPUS",
    "en_malay_cs": "en_malay_cs:CORPUS",
    "esb": "esb:CORPUS",
    "fleurs": "fleurs:CORPUS",
    "fleurs_en": "fleurs:ENGLISH",
    "fleurs_ms": "fleurs:MALAY",
    "imda_stt": "imda_stt:CORPUS",
    "librispeech": "librispeech:CORPUS",
    "malay_conversational": "malay_conversational:CORPUS",
    "malaysian_stt": "malaysian_stt:CORPUS",
    "malaysian_youtube": "malaysian_stt:YOUTUBE",
    "manifest": "manifest:CORPUS",
    "mnsc": "mnsc:CORPUS",
    "spontaneous_speech": "spontaneous_speech:CORPUS",
    "synth_manglish": "synth_manglish:CORPUS",
}


@pytest.mark.parametrize("name", PLACES)
def test_what_the_frame_needs_of_a_corpus(name):
    module, _, attribute = PLACES[name].partition(":")
    corpus = getattr(importlib.import_module(f"espnet_plugin.corpora.{module}"), attribute)
    assert corpus.name == name
    assert corpus.variable == corpus.variable.upper()
    assert corpus.where and corpus.layout
    for option, value in read_options(corpus, {}).items():
        read_options(corpus, {option: value})  # a default is a valid value
    assert corpus.licence.name in licence_text(corpus)
    assert pickle.loads(pickle.dumps(corpus)) == corpus  # goes to other processes
    unit = Unit("x", ("x",), (Part("x", "tsv", 0, 1, ("a",)), None))
    assert pickle.loads(pickle.dumps(unit)) == unit
    if name in REGISTRY:
        assert corpus_named(name) is corpus


def test_only_one_forbids_commercial_use():
    forbidden = [
        name
        for name, place in PLACES.items()
        for module, _, attribute in [place.partition(":")]
        if getattr(
            importlib.import_module(f"espnet_plugin.corpora.{module}"), attribute
        ).licence.commercial
        is False
    ]
    assert forbidden == ["malay_conversational"]
