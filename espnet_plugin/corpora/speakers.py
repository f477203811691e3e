"""The demo's speakers: settings of one synthesiser, split so that no voice is in two of the splits.

A speaker is an espeak-ng variant, a pitch, a speed and an English accent. They are all one formant
synthesiser, so they differ less than people do: a test on new voices here is easier than on new
people. Left out: variants that whisper, croak, echo or speak like a robot or a child, those a
quarter slower than the rest, and near copies (``adam``, ``caleb`` and ``klatt`` are one voice).
"""

from dataclasses import dataclass

MALAY, SPANISH = "ms", "es"
# Never bare "en": espeak-ng 1.51 obeys it once a sentence and then reads English by Malay spelling.
ACCENTS = ("en-gb", "en-us", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan")
# fmt: off
VARIANTS = {
    "train": [
        "f1", "f3", "f4", "Annie", "aunty", "belinda", "sandro", "shelby", "steph", "m1", "m2",
        "m4", "m6", "m7", "Alex", "Denis", "Gene", "Lee", "Mario", "Michael", "Storm", "adam",
        "boris", "ed", "edward", "gustave", "max", "paul", "kaukovalta", "travis", "victor",
        "norbert",
    ],
    "valid": [
        "linda", "Andrea", "m5", "david", "marcelo", "Hugo",
    ],
    "test": [
        "f2", "f5", "anika", "grandma", "m3", "robert", "quincy", "miguel", "john", "Mike",
        "Nguyen", "pablo",
    ],
}
# fmt: on
SPEAKERS_PER_VARIANT = 2
SPEED_RANGE = (140, 185)  # words a minute, espeak-ng's own scale
PITCH_RANGE = (35, 65)  # espeak-ng's 0..99, where 50 is the variant's own


@dataclass(frozen=True)
class Speaker:
    """A synthetic speaker.

    Attributes:
        name: Speaker id; all have one length, so that utterances sort as speakers do.
        variant: espeak-ng's name of the timbre.
        pitch: 0..99.
        speed: Words a minute.
        accent: espeak-ng's English voice.
    """

    name: str
    variant: str
    pitch: int
    speed: int
    accent: str


def speakers(split: str) -> list[Speaker]:
    """List a split's speakers; the table is fixed, whatever the seed.

    Args:
        split: ``train``, ``valid`` or ``test``.

    Returns:
        Two speakers for each variant, unlike in pitch, speed and accent.
    """
    variants = VARIANTS[split]
    count = len(variants) * SPEAKERS_PER_VARIANT
    found = []
    for index in range(count):
        # strides prime to the counts spread the values evenly, and differently for each property
        place = index * 7 % count / max(1, count - 1)
        pitch = PITCH_RANGE[0] + round(place * (PITCH_RANGE[1] - PITCH_RANGE[0]))
        place = index * 11 % count / max(1, count - 1)
        speed = SPEED_RANGE[0] + round(place * (SPEED_RANGE[1] - SPEED_RANGE[0]))
        variant = variants[index % len(variants)]
        accent = ACCENTS[(index + index // len(variants)) % len(ACCENTS)]
        found.append(Speaker(f"{split[:2]}{index:02d}", variant, pitch, speed, accent))
    return found
