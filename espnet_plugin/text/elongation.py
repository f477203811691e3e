"""Words with letters drawn out, as chat writes them: `sooooo`, `besttt`, `makannnn`."""

import functools
import itertools
import re
from collections.abc import Sequence

import numpy as np

_RUN = re.compile(r"([A-Za-z])\1\1+", re.IGNORECASE)
_ROMAN = re.compile(r"M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})", re.IGNORECASE)
_MOST_RUNS = 4  # 16 spellings to look up


def check_languages(languages: Sequence[str]) -> None:
    """Check that the words of languages are known.

    Raises:
        ValueError: A language that wordfreq does not have; lists those that it has.
    """
    if languages:
        from wordfreq import available_languages

        known = available_languages()
        for lang in languages:
            if lang not in known:
                raise ValueError(
                    f"elongation: wordfreq has no words of '{lang}', only of "
                    f"{', '.join(sorted(known))}"
                )


@functools.cache
def _frequencies(lang: str) -> dict[str, float]:
    from wordfreq import get_frequency_dict

    return get_frequency_dict(lang)


@functools.lru_cache(maxsize=1 << 16)
def squeeze(word: str, languages: tuple[str, ...] = ("ms", "en")) -> str:
    """Shorten a word's runs of three or more equal letters.

    Of the spellings with one or two letters for each run the most frequent is taken. Where none is
    known (or no language given) a run at the word's end becomes one letter, others two. Words of
    one letter keep two (`zzzz`, `aaaa`). Roman numerals, `www` and `AAA` are left alone.

    Args:
        word: Letters only.
        languages: Whose words are known, as wordfreq has them.

    Returns:
        The word; each run keeps its first letters, so their case.
    """
    if word.lower() == "www" or _ROMAN.fullmatch(word) or (len(word) == 3 and word.isupper()):
        return word
    runs = list(_RUN.finditer(word))
    if len(runs) == 1 and len(runs[0][0]) == len(word):
        return word[:2]
    before, end = [], 0
    for run in runs:
        before.append(word[end : run.start()])
        end = run.end()
    tail = word[end:]

    def spelling(lengths: Sequence[int]) -> str:
        kept = zip(before, runs, lengths, strict=True)
        return "".join(text + run[0][:length] for text, run, length in kept) + tail

    if len(runs) <= _MOST_RUNS:
        spellings = [spelling(lengths) for lengths in itertools.product((1, 2), repeat=len(runs))]
        score = {
            each: max((_frequencies(lang).get(each.lower(), 0.0) for lang in languages), default=0)
            for each in spellings
        }
        best = max(spellings, key=score.__getitem__)
        if score[best]:
            return best
    return spelling([2] * (len(runs) - 1) + [2 if tail else 1])


def squeeze_words(text: str, languages: tuple[str, ...]) -> str:
    """Shorten the drawn-out words of a text; see `squeeze`."""
    pieces, end = [], 0
    while run := _RUN.search(text, end):
        low, high = run.span()
        while low > end and text[low - 1].isalpha():
            low -= 1
        while high < len(text) and text[high].isalpha():
            high += 1
        pieces += [text[end:low], squeeze(text[low:high], languages)]
        end = high
    return "".join(pieces) + text[end:]


def elongated(texts: Sequence[str], which: Sequence[int]) -> list[int]:
    """Find the texts with a run of three equal ASCII letters, in one pass over the bytes of all.

    Args:
        texts: Texts without line breaks.
        which: Places in `texts` to look at.

    Returns:
        Some of `which`, in its order.
    """
    joined = "\n".join([texts[i] for i in which]).encode("utf-8", "surrogatepass")
    raw = np.frombuffer(joined, np.uint8)
    lower = raw | 0x20
    same = lower[1:] == lower[:-1]
    places = np.flatnonzero(same[1:] & same[:-1])
    places = places[(lower[places] >= ord("a")) & (lower[places] <= ord("z"))]
    ends = np.flatnonzero(raw == ord("\n"))
    return [which[i] for i in np.unique(np.searchsorted(ends, places)).tolist()]
