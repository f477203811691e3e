"""LibriSpeech: read English books, ``LibriSpeech/test-clean/1089/134686/*.flac``, or its archives.

Sets: ``librispeech_test_clean``, ``librispeech_train_clean_100`` ... Transcripts are in capitals,
without punctuation; ``case=lower`` (the default) makes them small.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from espnet_plugin.corpora.archives import ArchiveError
from espnet_plugin.corpora.corpus import (
    AudioError,
    Context,
    Corpus,
    Licence,
    Option,
    Row,
    Skip,
    Unit,
    existing_folder,
    wrong_root,
)
from espnet_plugin.corpora.hub_layout import no_audio, plain, words_of
from espnet_plugin.corpora.textgrid import decode

SUBSETS = (
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
)


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List readers, or archives."""
    folder = existing_folder(root, CORPUS)
    chosen = words_of(options["subsets"])
    found = False
    for subset in SUBSETS:
        places = [folder / subset, folder / "LibriSpeech" / subset]
        place = next((path for path in places if path.is_dir()), None)
        archives = [folder / f"{subset}.tar.gz", folder / f"{subset}.tar"]
        archive = next((path for path in archives if path.is_file()), None)
        found = found or place is not None or archive is not None
        if subset not in chosen:
            continue
        if place is not None:
            for reader in sorted(path for path in place.iterdir() if path.is_dir()):
                chapters = tuple(str(path) for path in sorted(reader.iterdir()))
                yield Unit(f"{subset}/{reader.name}", chapters, (str(reader), subset))
        elif archive is not None:
            yield Unit(archive.name, (str(archive),), (str(archive), subset), weight=100)
    if not found:
        raise wrong_root(root, CORPUS)


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a reader, or an archive."""
    place, subset = unit.data
    try:
        files = context.open(place)
        names = files.names()
    except ArchiveError as error:
        yield Skip(Path(place).name, "damaged archive", str(error))
        return
    sounds = {name for name in names if name.endswith(".flac")}
    for script in (name for name in names if name.endswith(".trans.txt")):
        folder = script.rpartition("/")[0]
        for line in decode(files.read(script)).splitlines():
            utterance, _, words = line.strip().partition(" ")
            if not utterance:
                continue
            text = plain(words.lower() if context.options["case"] == "lower" else words)
            if not text:
                yield Skip(utterance, "no transcript")
                continue
            name = f"{folder}/{utterance}.flac".removeprefix("/")
            try:
                if name not in sounds:
                    raise AudioError("no such file")
                sounds.discard(name)
                audio = files.audio(name)
            except AudioError as error:
                yield no_audio(utterance, error)
                continue
            speaker, _, rest = utterance.partition("-")
            split = subset.replace("-", "_")
            yield Row(rest, speaker, text, "en", audio.source, audio.seconds, split=split)
    for name in sorted(sounds):
        yield Skip(name.rpartition("/")[2], "audio without transcript", name)


CORPUS = Corpus(
    "librispeech",
    "LIBRISPEECH",
    "LibriSpeech, read English books",
    Licence("CC BY 4.0", commercial=True),
    where="https://www.openslr.org/12",
    layout="  LibriSpeech/test-clean/1089/134686/*.flac ..., or test-clean.tar.gz ...",
    find=find,
    read=read,
    options={
        "subsets": Option(" ".join(SUBSETS), "those to prepare, where they are there", SUBSETS),
        "case": Option("lower", "letters: small, or as they are (capitals)", ("lower", "upper")),
    },
)
