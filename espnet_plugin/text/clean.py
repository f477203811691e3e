"""Cleaning of web and chat text, by named steps.

| step | what it does |
| --- | --- |
| `nfc` | Unicode NFC |
| `control` | drops control, format, private-use characters, U+FFFD; reads C1 as Windows-1252 |
| `html` | `&amp;` becomes `&`, also where encoded twice; tags, comments, scripts go |
| `urls` | drops `http://..`, `www...` and domains with a path; a bare `Lazada.com` is a word |
| `emails` | drops addresses |
| `handles` | drops `@name`, `RT @name:`; keeps `@ KLCC`, `@5pm` |
| `hashtags` | `#BolehLah_kita` becomes `Boleh Lah kita`; keeps `#1` |
| `emoji` | drops emoji, flags, keycaps, and `:)` or `<3` that stand alone |
| `whisper_tokens` | drops `<|ms|>`, `<|7.42|>` |
| `elongation` | `besttt` becomes `best`, `goood` `good`; see `elongation.squeeze` |
| `whitespace` | single spaces, none at the ends |

Line breaks inside a text become spaces first, whatever the steps.
"""

import functools
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version

import regex

from espnet_plugin.cli import nearest
from espnet_plugin.text.elongation import check_languages, elongated, squeeze_words

CLEANER_VERSION = "1"  # raised whenever any output changes
UNSETTLED = "unsettled"  # counted beside the steps
_ROUNDS = 10

_Gate = Callable[[Sequence[str], Sequence[int]], list[int]]
_Change = Callable[..., str]


def _having(*marks: str) -> _Gate:
    """Make a test for texts with any of some strings: what costs the most is not to be called."""
    if len(marks) == 1:
        mark = marks[0]
        return lambda texts, which: [i for i in which if mark in texts[i]]
    first, second, *more = marks
    return lambda texts, which: [
        i
        for i in which
        if first in texts[i] or second in texts[i] or (more and any(m in texts[i] for m in more))
    ]


def _not_ascii(texts: Sequence[str], which: Sequence[int]) -> list[int]:
    return [i for i in which if not texts[i].isascii()]


def _not_printable(texts: Sequence[str], which: Sequence[int]) -> list[int]:
    return [i for i in which if not texts[i].isprintable()]  # line breaks, NBSP, format characters


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# The joiners U+200C and U+200D belong to the spelling of Tamil and other scripts.
_CONTROL = regex.compile(
    r"[\p{Cc}\p{Cf}\p{Cs}\p{Co}\uFFFD--[\t\u200C\u200D]]"
    r"|(?<![[\p{L}\p{M}]--\p{Latin}])[\u200C\u200D]",
    regex.VERSION1,
)
_WINDOWS = {chr(code): bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}


def _control(text: str) -> str:
    def replacement(match: "regex.Match[str]") -> str:
        char = match[0]
        return _WINDOWS[char] if char in _WINDOWS else " " if char.isspace() else ""

    return _CONTROL.sub(replacement, text)


_AMPERSAND = r"(?:amp|AMP|#0{0,4}38|#[xX]0{0,4}26);"
_ENTITY = re.compile(
    rf"&(?:{_AMPERSAND})*((?:#[0-9]{{1,7}}|#[xX][0-9a-fA-F]{{1,6}}|[a-zA-Z][a-zA-Z0-9]{{1,31}});)"
)
_UNSEEN = re.compile(
    r"<!--[^<>]*>|<(script|style)\b[^<>]*>[^<]*</\1\s*>|<[!?][a-z][^<>]*>", re.IGNORECASE
)
_ATTRIBUTE = r"""\s+[\w:.-]++\s*=\s*(?:"[^"<>]*+"|'[^'<>]*+'|[^\s"'<>]++)"""
_TAG = re.compile(rf"</?([a-z][\w:-]*+)(?:{_ATTRIBUTE})*+\s*/?>", re.IGNORECASE)
_INLINE = {"a", "b", "big", "code", "em", "font", "i", "mark", "s", "small", "span", "strong", "u"}


def _html(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape("&" + match[1]), text).replace("\n", " ")
    if "<" in text:
        text = _UNSEEN.sub(" ", text)
        text = _TAG.sub(lambda match: "" if match[1].lower() in _INLINE else " ", text)
    return text


def _append(kept: list[str], rest: str) -> None:
    """Append what is left of a word; of punctuation only what closes, to the word before it."""
    if any(map(str.isalnum, rest)):
        kept.append(rest)
    elif kept and not rest.strip(_CLOSING):
        kept[-1] += rest  # `see http://x.my.` becomes `see.`


def _without(marked: Callable[[str], bool], pattern: re.Pattern[str]) -> _Change:
    """Make a change that drops a pattern, looked for only in words (between spaces) with a mark."""

    def change(text: str) -> str:
        kept: list[str] = []
        for word in text.split(" "):
            rest = pattern.sub("", word) if marked(word) else word
            if rest == word:
                kept.append(word)
            else:
                _append(kept, rest)
        return " ".join(kept)

    return change


_CLOSING = ".,;:!?)]}\u2019\u201d\u2026"
_IN_URL = r"""[^\s<>"\u2e80-\U0010ffff]"""  # ends at Chinese characters and at emoji
_URL_END = rf"""[^\s<>"'\u2e80-\U0010ffff{re.escape(_CLOSING)}]"""
_TOP = "com net org edu gov info biz co io my sg id uk us me ly be gl tv gg app dev page link to cc"
_URL = re.compile(
    rf"<?(?:(?:https?|ftp)://{_IN_URL}*{_URL_END}"
    rf"|(?<![\w@.-])(?:www\.{_IN_URL}*{_URL_END}"
    rf"|(?:[a-z0-9-]{{1,63}}\.){{1,4}}(?:{_TOP.replace(' ', '|')})/(?:{_IN_URL}*{_URL_END})?))>?",
    re.IGNORECASE,
)
_EMAIL = re.compile(
    r"<?(?<![\w.+-])[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,5}[a-z]{2,24}\b>?", re.IGNORECASE
)
_HANDLE = re.compile(r"(?<![\w@./])@[^\W\d]\w{0,29}(?!\w)(?:\.\w{1,30})*(?:['\u2019]s\b)?:?")
_RETWEET = re.compile(r"(?<!\S)RT (?=@[^\W\d])")


def _has_at(word: str) -> bool:
    return "@" in word


_drop_urls = _without(lambda word: "/" in word or "ww." in word or "WW." in word, _URL)
_drop_emails = _without(_has_at, _EMAIL)
_drop_handles = _without(_has_at, _HANDLE)


def _handles(text: str) -> str:
    return _drop_handles(_RETWEET.sub("", text) if "RT @" in text else text)


_HASHTAG = re.compile(r"(?<![\w&#])#+(?=\w*[^\W\d_])(\w+)")
_CAMEL = re.compile(r"(?<=[a-z][a-z])(?=[A-Z])")  # not in iPhone


def _hashtags(text: str) -> str:
    return _HASHTAG.sub(lambda match: _CAMEL.sub(" ", match[1].replace("_", " ").strip()), text)


_EMOJI = regex.compile(
    r"(?:[0-9#*]\uFE0F?\u20E3|(?![\u00A9\u00AE\u2122])\p{Extended_Pictographic}|\p{RI}"
    r"|[\p{Emoji_Modifier}\u20E3\uFE0E\uFE0F\U000E0020-\U000E007F]|(?<=[^\p{L}\p{M}])\u200D)+"
)
_MAYBE_EMOJI = re.compile("[\u200d\u203c-\u3299\ufe0e\ufe0f\U0001f000-\U000fffff]")
_EMOTICON = re.compile(r"[:;=]['^o-]?[()\[\]DPpO|/\\*]+|<3+|</3|\^_*\^|[(][:;=]")


_SPACED_MARK = re.compile(r" (?=[^\w\s])")  # `sedap\U0001f602.` becomes `sedap.`


def _maybe_emoji(texts: Sequence[str], which: Sequence[int]) -> list[int]:
    emoji = _MAYBE_EMOJI.search
    return [
        i
        for i in which
        if " :" in (text := texts[i])
        or " ;" in text
        or " =" in text
        or " <" in text
        or text[:1] in ":;=<^("
        or " ^" in text
        or " (" in text
        or (not text.isascii() and emoji(text))
    ]


def _emoji(text: str) -> str:
    kept: list[str] = []
    for word in text.split(" "):
        rest = word
        if not word.isascii():
            rest = _EMOJI.sub(" ", word)
        if rest != word:
            _append(kept, _SPACED_MARK.sub("", rest).strip(" "))
        elif not _EMOTICON.fullmatch(word):
            kept.append(word)
    return " ".join(kept)


_WHISPER = re.compile(r"\s?<\|[^|<>]{0,40}\|>")


def _whisper_tokens(text: str) -> str:
    return _WHISPER.sub(" ", text)


def _whitespace(text: str) -> str:
    return " ".join(text.split())


def _spaced(texts: Sequence[str], which: Sequence[int]) -> list[int]:
    return [
        i
        for i in which
        if "  " in (text := texts[i])
        or text[:1] == " "
        or text[-1:] == " "
        or not text.isprintable()
    ]


_STEPS: dict[str, tuple[_Gate, _Change]] = {
    "nfc": (_not_ascii, _nfc),
    "control": (_not_printable, _control),
    "html": (_having("&", "<"), _html),
    "urls": (_having("/", "ww.", "WW."), _drop_urls),
    "emails": (_having("@"), _drop_emails),
    "handles": (_having("@"), _handles),
    "hashtags": (_having("#"), _hashtags),
    "emoji": (_maybe_emoji, _emoji),
    "whisper_tokens": (_having("<|"), _whisper_tokens),
    "elongation": (elongated, squeeze_words),
    "whitespace": (_spaced, _whitespace),
}
STEPS = tuple(_STEPS)
DEFAULT = STEPS


class Cleaner:
    """Cleans blocks of texts. Picklable; the result of a text depends on nothing but the text.

    Cleaning is idempotent: texts that a step has changed go through all steps again until nothing
    changes. One that still changes after 10 rounds (markup nested on purpose) is emptied.
    """

    def __init__(
        self, steps: Sequence[str] = DEFAULT, languages: Sequence[str] = ("ms", "en")
    ) -> None:
        """Choose steps.

        Args:
            steps: Names of `STEPS`; they are done in the order that they have there.
            languages: For `elongation`: languages whose words are known, as wordfreq has them.

        Raises:
            ValueError: An unknown step; names the nearest. A language that wordfreq does not have.
        """
        for step in steps:
            if step not in STEPS:
                raise ValueError(
                    f"no cleaning step '{step}'{nearest(step, STEPS)}; allowed: {', '.join(STEPS)}"
                )
        self.steps = tuple(step for step in STEPS if step in steps)
        self.languages = tuple(languages)
        if "elongation" in self.steps:
            check_languages(self.languages)

    @property
    def fingerprint(self) -> str:
        """What decides the output: versions (of the words known, too), steps and languages."""
        parts = [CLEANER_VERSION, *self.steps, f"unicode {unicodedata.unidata_version}"]
        parts.append(f"regex {version('regex')}")
        if "elongation" in self.steps and self.languages:
            parts += [f"wordfreq {version('wordfreq')}", *self.languages]
        return " ".join(parts)

    def clean(self, texts: Sequence[str]) -> tuple[list[str], Counter[str]]:
        """Clean texts, best many at once.

        Args:
            texts: Any strings.

        Returns:
            As many texts, some perhaps empty now; and how many texts each step has changed, with
            `unsettled` for those that were emptied.
        """
        cleaned = list(texts)
        for i in _having("\n")(cleaned, range(len(cleaned))):
            cleaned[i] = cleaned[i].replace("\n", " ")
        changed: dict[str, set[int]] = {step: set() for step in self.steps}
        which: Sequence[int] = range(len(cleaned))
        for _ in range(_ROUNDS):
            again: set[int] = set()
            for step in self.steps:
                gate, change = _STEPS[step]
                if step == "elongation":
                    change = functools.partial(change, languages=self.languages)
                for i in gate(cleaned, which):
                    text = change(cleaned[i])
                    if text != cleaned[i]:
                        cleaned[i] = text
                        changed[step].add(i)
                        again.add(i)
            which = sorted(again)
            if not which:
                break
        for i in which:
            cleaned[i] = ""
        counts = Counter({step: len(found) for step, found in changed.items() if found})
        if which:
            counts[UNSETTLED] = len(which)
        return cleaned, counts
