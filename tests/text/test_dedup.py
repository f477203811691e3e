"""Duplicates, caps by source and the validation split."""

import random
import unicodedata
from collections import Counter

import numpy as np
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from espnet_plugin.text import dedup
from espnet_plugin.text.dedup import (
    cap_per_source,
    first_occurrences,
    in_validation,
    line_hashes,
    normal_forms,
    source_hashes,
)
from espnet_plugin.text.near_duplicates import NearDuplicates

HASH_OF_BARIS_0 = 14804726103899320290
quick = settings(max_examples=60, deadline=None)
# Short runs of few values, so that equal hashes, in one block or in several, are common.
BLOCKS = st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=6)


def slow_form(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    kept = [char if unicodedata.category(char)[0] in "LMN" else " " for char in text]
    return " ".join(word for word in "".join(kept).split(" ") if word)


def spread(values: list[int]) -> np.ndarray:
    """Hashes over all 64 bits, so that partitions are used."""
    return np.array([xxhash.xxh64_intdigest(str(value).encode()) for value in values], np.uint64)


def slow_mix(value: int, salt: str) -> int:
    """SplitMix64's finaliser, in Python's whole numbers."""
    value ^= xxhash.xxh64_intdigest(salt.encode())
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def cut(values: list, sizes: list[int]) -> list[list]:
    ends = np.cumsum(sizes)
    return [values[end - size : end] for end, size in zip(ends, sizes, strict=True)]


@quick
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=12), max_size=6))
@example(["a_b-C  d!", "a\nb", "\r\n", "é\nü", "ﬁ\x85x", "Ⅷ.²", "தமிழ்", "İ Σ", "日本、語"])
def test_normal_form_equals_a_slow_reference(texts: list[str]) -> None:
    forms = normal_forms(texts)
    assert [form.decode() for form in forms] == [slow_form(text) for text in texts]
    expected = [xxhash.xxh64_intdigest(slow_form(text).encode()) for text in texts]
    assert line_hashes(texts).tolist() == expected


def test_what_counts_as_the_same_line() -> None:
    same = ["Jom, makan!", "jom makan", " JOM\tmakan ", "\u201cJom\u201d makan\u2026", "jom_makan"]
    other = ["jom makanlah", "jommakan", "jom makan 2", ""]
    assert len(set(line_hashes(same).tolist())) == 1
    assert len(set(line_hashes(same + other).tolist())) == 5
    assert line_hashes([]).dtype == np.uint64
    # a lone surrogate, as a broken JSON escape gives, is no letter
    assert line_hashes(["jom \ud83d makan"]) == line_hashes(["jom makan"])


@quick
@given(BLOCKS, st.sampled_from((1, 4, 1 << 21)), st.randoms(use_true_random=False))
def test_first_occurrences_equal_a_set(blocks, partition, rng: random.Random) -> None:
    keep = [np.array([rng.random() < 0.7 for _ in block], bool) for block in blocks]
    hashes = [spread(block) for block in blocks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "PARTITION", partition)
        found = first_occurrences(iter(hashes))
        found_kept = first_occurrences(hashes, keep)
    for masks, counts in ((found, None), (found_kept, keep)):
        seen: set[int] = set()
        for index, block in enumerate(blocks):
            for place, value in enumerate(block):
                expected = (counts is None or counts[index][place]) and value not in seen
                assert masks[index][place] == expected
                seen.update([value] if expected else [])


def test_masks_of_other_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="cover 2 lines in 1 blocks, the corpus has 3 in 2"):
        first_occurrences([spread([1, 2]), spread([3])], [np.ones(2, bool)])


@quick
@given(BLOCKS, st.integers(1, 5), st.randoms(use_true_random=False))
def test_cap_keeps_the_smallest_of_each_source(blocks, cap, rng: random.Random) -> None:
    lines = [(rng.choice("aaabc"), value, rng.random() < 0.8) for b in blocks for value in b]
    sizes = [len(block) for block in blocks]
    parts = cut(lines, sizes)
    masks = cap_per_source(
        [spread([value for _, value, _ in part]) for part in parts],
        [source_hashes([source for source, _, _ in part]) for part in parts],
        cap,
        [np.array([kept for _, _, kept in part], bool) for part in parts],
    )
    got = np.concatenate(masks).tolist() if masks else []
    hashes = spread([value for _, value, _ in lines]).tolist()
    order = [slow_mix(value, "cap") for value in hashes]
    for source in "abc":
        mine = [i for i, line in enumerate(lines) if line[0] == source and line[2]]
        expected = sorted(mine, key=lambda i: (order[i], i))[:cap]
        assert [i for i in range(len(lines)) if lines[i][0] == source and got[i]] == sorted(
            expected
        )


def test_cap_samples_the_whole_of_a_source_whatever_the_order() -> None:
    hashes, sources = spread(list(range(3000))), source_hashes(["a"] * 2000 + ["b"] * 1000)
    (mask,) = cap_per_source([hashes], [sources], 500)
    assert Counter((np.flatnonzero(mask) >= 2000).tolist()) == {False: 500, True: 500}
    assert 80 <= mask[:400].sum() <= 120  # a fifth of a source's lines, a quarter of them kept
    order = np.random.default_rng(0).permutation(3000)
    shuffled = cap_per_source(
        np.split(hashes[order], 7 * [9]), np.split(sources[order], 7 * [9]), 500
    )
    assert set(hashes[mask]) == set(hashes[order][np.concatenate(shuffled)])
    with pytest.raises(ValueError, match="cap per source is 0; allowed is 1 or more"):
        cap_per_source([hashes], [sources], 0)
    with pytest.raises(ValueError, match="other blocks"):
        cap_per_source([hashes], [sources[:9]], 5)


def test_validation_depends_on_hash_and_salt_alone() -> None:
    hashes = line_hashes([f"baris {i % 4000}" for i in range(8000)])
    held = in_validation(hashes, 0.1)
    assert 320 <= held[:4000].sum() <= 480
    assert (held[:4000] == held[4000:]).all()  # equal lines on the same side
    order = np.random.default_rng(0).permutation(8000)
    assert (in_validation(hashes[order], 0.1) == held[order]).all()
    assert (in_validation(hashes, 0.2) >= held).all()
    other = in_validation(hashes, 0.1, salt="b")
    assert (other & held).sum() < 0.3 * held.sum()
    assert not in_validation(hashes, 0).any()
    assert held[:300].tolist() == [
        slow_mix(value, "validation") < 0.1 * 2**64 for value in hashes[:300].tolist()
    ]
    assert hashes[0] == HASH_OF_BARIS_0  # pinned: other versions must hold out the same lines
    for share in (1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="allowed is 0 <= share < 1"):
            in_validation(hashes, share)


def sentences(number: int, rng: random.Random) -> list[str]:
    letters = "abdeghiklmnoprstu"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(800)]
    return [" ".join(rng.choices(words, k=12)) for _ in range(number)]


def jaccard(a: str, b: str, n: int) -> float:
    grams = [{text[i : i + n] for i in range(max(len(text) - n + 1, 1))} for text in (a, b)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def test_signatures_estimate_the_jaccard_similarity_of_ngrams() -> None:
    rng, near = random.Random(0), NearDuplicates()
    lines = sentences(300, rng)
    changed = [" ".join(line.split()[: rng.randint(2, 12)]) for line in lines]
    a, b = near.signatures(lines), near.signatures(changed)
    assert a.shape == (near.bands, 300, near.rows)
    estimate = (a == b).mean(axis=(0, 2))
    exact = np.array([jaccard(x, y, 5) for x, y in zip(lines, changed, strict=True)])
    error = estimate - exact
    assert abs(error.mean()) < 0.01  # unbiased
    assert np.sqrt((error**2).mean()) < 0.065


def slow_clusters(near: NearDuplicates, signatures: np.ndarray, counts: list[bool]) -> list[bool]:
    """Follow the definition line by line."""
    kept = list(counts)
    for band in signatures:
        buckets: dict[bytes, list[int]] = {}
        for line, key in enumerate(map(bytes, band)):
            if not counts[line]:
                continue
            earlier = buckets.setdefault(key, [])
            for other in earlier[:1] + earlier[-1:]:
                if (signatures[:, line] == signatures[:, other]).mean() >= near.threshold:
                    kept[line] = False
            earlier.append(line)
    return kept


@pytest.mark.parametrize("partition", [50, 1 << 21])
def test_first_of_clusters_equals_a_slow_reference(monkeypatch, partition) -> None:
    monkeypatch.setattr(dedup, "PARTITION", partition)
    rng, near = random.Random(1), NearDuplicates()
    lines = sentences(120, rng)
    for _ in range(280):
        words = rng.choice(lines).split()
        words[rng.randrange(len(words))] = rng.choice(("jom", "lah", "memang"))
        lines.append(" ".join(words))
    rng.shuffle(lines)
    signatures = near.signatures(lines)
    counts = [rng.random() < 0.9 for _ in lines]
    expected = slow_clusters(near, signatures, counts)
    assert 100 < sum(expected) < 300

    class Opened:
        """Signatures that are opened when asked for."""

        def __len__(self) -> int:
            return 5

        def __getitem__(self, block: int) -> np.ndarray:
            if block >= 5:
                raise IndexError
            return signatures[:, 80 * block : 80 * block + 80].copy()

    keep = [np.array(part, bool) for part in cut(counts, [80] * 5)]
    masks = near.first_of_clusters(Opened(), keep)
    assert np.concatenate(masks).tolist() == expected


def test_near_duplicates_go_and_the_others_stay() -> None:
    rng, near = random.Random(2), NearDuplicates(threshold=0.8)
    lines = sentences(2000, rng)
    copies = [line[:-1] + "?!" for line in lines[:300]]  # all but the last letter
    similarity = np.array([jaccard(a, b[:-2], 5) for a, b in zip(lines, copies, strict=False)])
    assert similarity.min() > 0.95
    first, second = near.first_of_clusters([near.signatures(lines), near.signatures(copies)])
    assert first.all()
    assert second.sum() <= 3
    halves = [" ".join(line.split()[:6] + ["lain"] * 4) for line in lines[:300]]
    _, third = near.first_of_clusters([near.signatures(lines), near.signatures(halves)])
    assert third.all()
    assert near.chance(0.8) >= 0.9 and near.chance(0.2) < 1e-3


def test_short_and_empty_lines_have_signatures() -> None:
    near = NearDuplicates()
    signatures = near.signatures(["ok", "OK!", "", "?", "okay la", "日本"])
    (mask,) = near.first_of_clusters([signatures])
    assert mask.tolist() == [True, False, True, False, True, True]
    assert near.first_of_clusters([]) == []
    assert near.signatures([]).shape == (near.bands, 0, near.rows)
    assert near.first_of_clusters([near.signatures([])])[0].shape == (0,)


def test_settings_of_near_duplicates_are_checked() -> None:
    for wrong in ({"threshold": 0}, {"threshold": 1.1}, {"ngram": 0}, {"values": 8}):
        with pytest.raises(ValueError, match=f"near-duplicate {next(iter(wrong))} is .*allowed"):
            NearDuplicates(**wrong)
    for threshold in (0.3, 0.5, 0.7, 0.9, 1.0):
        near = NearDuplicates(threshold)
        assert near.bands * near.rows <= 64 and near.chance(threshold) >= 0.9
    other = NearDuplicates(values=32).signatures(["jom makan"])
    with pytest.raises(ValueError, match="made with other settings"):
        NearDuplicates().first_of_clusters([other])
    assert NearDuplicates().fingerprint != NearDuplicates(ngram=4).fingerprint
