"""Measures of code-switching, read from the language tags of the words."""

from collections.abc import Sequence

from espnet_plugin.cli import nearest
from espnet_plugin.score.alignment import Alignment

LANGUAGES = ("ms", "en", "zh", "ta")
# Words that belong to no language: Das and Gamback's language-independent tokens.
INDEPENDENT = ("other", "num", "name", "shared")


def check_tags(tags: Sequence[str], where: str) -> None:
    """Refuse unknown tags.

    Args:
        tags: one tag for each word.
        where: file and utterance, for the message.

    Raises:
        ValueError: a tag is none of `ms en zh ta other num name shared`.
    """
    known = (*LANGUAGES, *INDEPENDENT)
    for tag in tags:
        if tag not in known:
            raise ValueError(
                f"{where}: tag {tag!r}{nearest(tag, known)}; allowed are {' '.join(known)}"
            )


def cmi(tags: Sequence[str]) -> float:
    """Code-mixing index of an utterance (Das and Gamback 2014, equation 1).

    Args:
        tags: one tag for each word; `other num name shared` count as language-independent.

    Returns:
        100 (1 - words of the main language / words of any language), from 0 (one language, or no
        word of any) towards 100.

    Raises:
        ValueError: an unknown tag.
    """
    check_tags(tags, "cmi")
    counts = [tags.count(language) for language in LANGUAGES]
    total = sum(counts)
    return 100.0 * (1.0 - max(counts) / total) if total else 0.0


def switch_points(tags: Sequence[str]) -> list[tuple[int, int]]:
    """Find where the language changes.

    Args:
        tags: one tag for each word.

    Returns:
        Index pairs: the last word of one language and the first of the next; words of no language
        in between are passed over.
    """
    spoken = [index for index, tag in enumerate(tags) if tag in LANGUAGES]
    return [(a, b) for a, b in zip(spoken, spoken[1:], strict=False) if tags[a] != tags[b]]


def switch_errors(alignment: Alignment, tags: Sequence[str]) -> tuple[int, int]:
    """Count errors at switch points, for a point-of-interest error rate (PIER, arXiv 2501.09512).

    The points of interest are the two words beside each switch. Their substitutions and deletions
    count, and the insertions between the two.

    Args:
        alignment: of the reference that the tags belong to.
        tags: one tag for each reference word.

    Returns:
        Errors, and the number of points of interest.
    """
    points = switch_points(tags)
    interest = {index for pair in points for index in pair}
    gaps = {before for a, b in points for before in range(a, b)}
    errors = 0
    last = -1
    for pair in alignment.pairs:
        if pair.ref is not None:
            last = pair.ref
            errors += pair.op != "cor" and last in interest
        else:
            errors += last in gaps
    return errors, len(interest)
