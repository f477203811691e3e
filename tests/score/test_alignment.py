"""The alignment, against sclite and jiwer."""

import random
import tracemalloc

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_plugin.score import Alignment, align, alignment
from espnet_plugin.score.alignment import DELETION, INSERTION, SUBSTITUTION
from espnet_plugin.score.sclite import run_sclite
from tests.score.conftest import needs_sclite

CASES = [
    # (reference, hypothesis, cor, sub, del, ins)
    ("saya nak makan", "saya nak makan", 3, 0, 0, 0),
    ("saya nak makan", "saya makan", 2, 0, 1, 0),
    ("saya nak makan", "saya nak nak makan", 3, 0, 0, 1),
    ("saya nak makan", "saya tak makan", 2, 1, 0, 0),
    ("saya nak makan", "", 0, 0, 3, 0),
    ("", "saya", 0, 0, 0, 1),
    ("", "", 0, 0, 0, 0),
    ("a b", "b c", 1, 0, 1, 1),
    ("a b c", "d e f", 0, 3, 0, 0),
]


@pytest.mark.parametrize(("ref", "hyp", "cor", "sub", "dele", "ins"), CASES)
def test_counts(ref: str, hyp: str, cor: int, sub: int, dele: int, ins: int) -> None:
    found = align(ref.split(), hyp.split())
    assert (found.cor, found.sub, found.dele, found.ins) == (cor, sub, dele, ins)
    assert found.n_ref == len(ref.split())
    assert found.errors == sub + dele + ins


def test_steps_carry_indices() -> None:
    found = align(["a", "b", "c"], ["a", "x", "c", "d"])
    assert [(p.op, p.ref, p.hyp) for p in found.pairs] == [
        ("cor", 0, 0),
        ("sub", 1, 1),
        ("cor", 2, 2),
        ("ins", None, 3),
    ]
    assert found.ref_errors == [False, True, False]


def test_strings_are_refused() -> None:
    with pytest.raises(TypeError, match="split them"):
        align("abc", ["abc"])


WORDS = st.lists(st.sampled_from("abcd"), max_size=10)


@given(ref=WORDS, hyp=WORDS)
def test_every_word_is_aligned_once_at_least_cost(ref: list[str], hyp: list[str]) -> None:
    found = align(ref, hyp)
    assert [p.ref for p in found.pairs if p.ref is not None] == list(range(len(ref)))
    assert [p.hyp for p in found.pairs if p.hyp is not None] == list(range(len(hyp)))
    for pair in found.pairs:
        if pair.ref is not None and pair.hyp is not None:
            assert (pair.op == "cor") == (ref[pair.ref] == hyp[pair.hyp])
    if ref:
        least = jiwer.process_words(" ".join(ref), " ".join(hyp))
        other = SUBSTITUTION * least.substitutions
        other += DELETION * least.deletions + INSERTION * least.insertions
        assert cost(found) <= other
        assert found.errors >= least.substitutions + least.deletions + least.insertions


def cost(found: Alignment) -> int:
    return SUBSTITUTION * found.sub + DELETION * found.dele + INSERTION * found.ins


def damaged(n_utt: int, alphabet: str, seed: int) -> tuple[dict, dict]:
    rng = random.Random(seed)
    refs, hyps = {}, {}
    for index in range(n_utt):
        ref = rng.choices(alphabet, k=rng.randint(1, 14))
        hyp = [w if rng.random() > 0.15 else rng.choice(alphabet) for w in ref]
        hyp = [w for w in hyp if rng.random() > 0.1]
        if rng.random() < 0.3:
            hyp.insert(rng.randint(0, len(hyp)), rng.choice(alphabet))
        refs[f"s-{index}"], hyps[f"s-{index}"] = ref, hyp
    return refs, hyps


def test_jiwer_agrees_on_realistic_errors() -> None:
    refs, hyps = damaged(300, "abcdefghijklmnopqrstuvwxyz", seed=1)
    errors = sum(align(refs[utt], hyps[utt]).errors for utt in refs)
    total = sum(map(len, refs.values()))
    reference = jiwer.wer(
        [" ".join(r) for r in refs.values()], [" ".join(h) for h in hyps.values()]
    )
    assert errors / total == pytest.approx(reference)


def test_long_texts_are_aligned_alike_in_a_fraction_of_the_memory(monkeypatch) -> None:
    rng = random.Random(0)
    pairs = [tuple(rng.choices("abcd", k=rng.randint(0, 30)) for _ in range(2)) for _ in range(200)]
    short = [align(*pair) for pair in pairs]
    monkeypatch.setattr(alignment, "LONG", -1)
    assert [align(*pair) for pair in pairs] == short
    monkeypatch.undo()
    ref = rng.choices("abcdefgh", k=1500)
    hyp = [word for word in ref if rng.random() > 0.1]
    tracemalloc.start()
    found = align(ref, hyp)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.dele, found.sub, found.ins) == (len(ref) - len(hyp), 0, 0)
    assert peak < 6 * len(ref) * len(hyp)  # bytes; lists took 40 a pair


@needs_sclite
@pytest.mark.parametrize("alphabet", ["ab", "abcd", "abcdefghijklmnop"])
def test_sclite_makes_the_same_alignments(tmp_path, alphabet: str) -> None:
    rng = random.Random(alphabet)
    refs = {f"s-{i:04d}": rng.choices(alphabet, k=rng.randint(0, 12)) for i in range(400)}
    hyps = {utt: rng.choices(alphabet, k=rng.randint(0, 12)) for utt in refs}
    run_sclite(refs, hyps, tmp_path)
    report = (tmp_path / "result.txt").read_text()
    for utt, ref in refs.items():
        block = report.split(f"id: ({utt})\n")[1].split("\n\n")[0].splitlines()
        found = align(ref, hyps[utt])
        counts = f"{found.cor} {found.sub} {found.dele} {found.ins}"
        assert block[0] == f"Scores: (#C #S #D #I) {counts}"
        if not ref and not hyps[utt]:
            continue
        ref_row, hyp_row = (block[i].split()[1:] for i in (1, 2))
        theirs = [
            "ins" if r[0] == "*" else "del" if h[0] == "*" else "cor" if r == h else "sub"
            for r, h in zip(ref_row, hyp_row, strict=True)
        ]
        assert [pair.op for pair in found.pairs] == theirs
