"""The project's text normaliser: one version, the same for reference and hypothesis.

`en` is Whisper's English normaliser and any language other than `ms`, `cs`, `en` its basic one,
made to keep the vowel signs of Tamil and others (see `whisper_linear`).
`ms` and `cs` follow the rules below; each looks at one whitespace-separated token at a time, so
normalising pieces and joining them equals normalising the whole.

1. Markup is unwrapped (see `markup`), Whisper's special tokens go.
2. NFKC, lower case; typographic apostrophes become `'`; invisible characters go.
3. Reduplication: `kanak2` -> `kanak kanak`, `kawan2nya` -> `kawan kawannya` (three letters or more,
   so that `co2` stays); hyphens become spaces, `kanak-kanak` -> `kanak kanak`.
4. Apostrophes inside a word stay and it remains one word (`don't`, `a'ah`); those at its edges go.
5. Particles stay (`lah`, `kan`, `meh`); hesitations go (`uh um uhm er err erm mm mmm hmm mhm`),
   marked or not.
6. Acronyms are one word however they are marked: `G_L_D`, `G.L.D.`, `GLD` -> `gld`.
7. Numbers: `ms` spells them in Malay (`8` -> `lapan`, `rm2.50` -> `dua ringgit lima puluh sen`).
   `cs` keeps digits, because nobody can know whether `8` was said as `eight` or `lapan`; only their
   form is made equal (`1,000` -> `1000`, `8:30` -> `8.30`).
8. Every other sign becomes a space; Chinese and Japanese characters are one word each.

Known ambiguities, left as they are: `lapan`/`delapan`; attached particles (`makanlah` is not `makan
lah`); `RM 50` with a space reads `rm lima puluh`, `RM50` `lima puluh ringgit`; `8.30` as a time
reads like a decimal; `5kg` stays one token while `5 kg` is spelt; in `cs` a number in digits never
equals one in words; `berlari2` becomes `berlari berlari`, not `berlari lari`; chat spellings (`x` =
tidak, `y` = kenapa) are not expanded. Dropped words (unknown `**`, cut `wor~`) make what a
recogniser writes for them an insertion.
"""

import unicodedata
from dataclasses import dataclass

import regex

from espnet_plugin.text.markup import unwrap
from espnet_plugin.text.numbers import digits_in_words, malay_number
from espnet_plugin.text.whisper_rules import whisper_normalizer

# Raised whenever any output changes: figures of different versions must not be compared.
NORMALIZER_VERSION = "3"

HESITATIONS = frozenset({"uh", "um", "uhm", "er", "err", "erm", "mm", "mmm", "hmm", "mhm"})

_LANG = regex.compile(r"[a-z]{2,3}")
_APOSTROPHES = regex.compile("[\u2018\u2019\u201b\u02bc\u02b9\u2032\u00b4`\uff07]")
_INVISIBLE = regex.compile(r"\p{Cf}|\p{Cc}(?<!\s)")
_EDGE = regex.compile(r"^[^\p{L}\p{M}\p{N}]+|[^\p{L}\p{M}\p{N}%]+$")
_DOTTED = regex.compile(r"(?:\p{L}\.)+\p{L}\.?")
_GROUP_COMMA = regex.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_PIECE = regex.compile(
    r"[a-z]*[0-9]+[.:][0-9]+"
    r"|[\p{Han}\p{Hiragana}\p{Katakana}]\p{M}*"
    r"|(?:(?![\p{Han}\p{Hiragana}\p{Katakana}])[\p{L}\p{M}\p{N}'])+"
)
_DIGITS = regex.compile(r"[0-9]+(?:[.:][0-9]+)?")
_LOOSE = regex.compile(r"^['\p{M}]+|'+$")
_REDUPLICATED = regex.compile(r"(?=.*[aeiou])([a-z]{3,})2(nya|ku|mu|lah|kah|an)?")


@dataclass(frozen=True)
class Normalized:
    """Normalised text.

    Attributes:
        words: the words.
        tags: one of `ms en zh ta other num name shared` for each word where the text had markup,
            else None.
    """

    words: list[str]
    tags: list[str] | None = None

    @property
    def text(self) -> str:
        """The words joined by single spaces."""
        return " ".join(self.words)

    def __str__(self) -> str:
        return self.text


def normalize(text: str, lang: str) -> Normalized:
    """Normalise a transcript or a recogniser's output for scoring.

    Args:
        text: one utterance, with or without markup.
        lang: language of the utterance as in `utt2lang`: `cs` (mixed), `ms`, `en`, or another
            language's code.

    Returns:
        Words, and their tags where the markup has them; words without a tag of their own get `en`
        in `cs` text (English is the unmarked language of the National Speech Corpus), else the
        utterance's language; bare numbers get `num`.

    Raises:
        ValueError: `lang` is not a language code of two or three lower-case letters.
    """
    if not isinstance(lang, str) or not _LANG.fullmatch(lang):
        raise ValueError(
            f"language is {lang!r}; allowed are cs, ms, en or another code of 2 or 3 letters"
        )
    segments = unwrap(text)
    if all(segment.tag is None for segment in segments):
        return Normalized(_words(" ".join(segment.text for segment in segments), lang))
    default = "en" if lang == "cs" else lang if lang in ("ms", "en", "zh", "ta") else "other"
    words: list[str] = []
    tags: list[str] = []
    for segment in segments:
        for word in _words(segment.text, lang):
            words.append(word)
            tags.append("num" if word[0].isdigit() else segment.tag or default)
    return Normalized(words, tags)


def _words(text: str, lang: str) -> list[str]:
    if lang not in ("ms", "cs"):
        return whisper_normalizer(lang)(text).split()
    text = _APOSTROPHES.sub("'", _INVISIBLE.sub("", text))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return [word for token in text.split() for word in _token(token, lang)]


def _token(token: str, lang: str) -> list[str]:
    """Normalise one lower-case token without whitespace."""
    core = _EDGE.sub("", token)
    if lang == "ms" and (spelt := malay_number(core)):
        return spelt
    if _DOTTED.fullmatch(core):
        core = core.replace(".", "")
    words: list[str] = []
    for piece in _PIECE.findall(_GROUP_COMMA.sub("", core)):
        word = _LOOSE.sub("", piece)
        if not word or word in HESITATIONS:
            continue
        if match := _REDUPLICATED.fullmatch(word):
            words += [match[1], match[1] + (match[2] or "")]
        elif _DIGITS.fullmatch(word):
            words += _number(word, lang)
        else:  # an amount or an ordinal may stand beside something else, as in 0:RM5
            words += (malay_number(word) if lang == "ms" else None) or [word]
    return words


def _number(word: str, lang: str) -> list[str]:
    if lang == "cs":
        return [word.replace(":", ".")]
    # Not spelt as one number, such as 8:305, is spelt part by part.
    return malay_number(word) or [
        part for digits in word.replace(":", ".").split(".") for part in digits_in_words(digits)
    ]
