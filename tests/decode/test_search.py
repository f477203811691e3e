import dataclasses

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from espnet_plugin.decode.rules import TokenRules, text_limit
from espnet_plugin.decode.search import beam, greedy
from espnet_plugin.features import LogMel
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.whisper import decode, logits

from .conftest import encoded, noise

LANGS = ["cs", "en", "ms", "en", "cs", "ms"]
LIMIT = 14


def search(kind, whisper, prompt, rules, waves, langs=LANGS, limits=LIMIT, **options):
    memory, lengths = encoded(whisper, waves)
    prompts = torch.tensor([prompt.prompt(lang) for lang in langs])
    limits = torch.as_tensor(limits).expand(len(waves))
    return kind(whisper, memory, lengths, prompts, rules, limits, **options)


def same(a, b):
    assert [h.ids for h in a] == [h.ids for h in b]
    assert [h.limited for h in a] == [h.limited for h in b]
    assert [h.score for h in a] == pytest.approx([h.score for h in b], abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"beam_size": 1}, {"beam_size": 4, "nbest": 4}])
def test_result_does_not_depend_on_the_batch(whisper, prompt, rules, waves, options):
    kind = beam if options else greedy

    def run(order):
        found = search(
            kind,
            whisper,
            prompt,
            rules,
            [waves[i] for i in order],
            [LANGS[i] for i in order],
            torch.tensor([LIMIT - i for i in order]),
            **options,
        )
        return dict(zip(order, found if options else [[f] for f in found], strict=True))

    def flat(found):
        return [hyp for i in range(6) for hyp in found[i]]

    together = run(range(6))
    assert len({len(h.ids) for h in flat(together)}) > 2  # they do end at different steps
    if options != {"beam_size": 4, "nbest": 4}:
        assert {h.limited for h in flat(together)} == {True, False}
    same(flat(together), flat(run([5, 4, 3, 2, 1, 0])))
    same(flat(together), flat({i: run([i])[i] for i in range(6)}))


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}])
def test_a_model_that_computes_nan_is_not_believed(whisper, prompt, rules, waves, options):
    """It would write `!`, token 0, until the limit."""
    memory, lengths = encoded(whisper, waves[:2])
    memory[1] = torch.nan
    prompts = torch.tensor([prompt.prompt("cs")] * 2)
    limits = torch.full((2,), LIMIT)
    with pytest.raises(ValueError, match="scores are NaN"):
        (beam if options else greedy)(whisper, memory, lengths, prompts, rules, limits, **options)


def test_beam_of_one_is_greedy(whisper, prompt, rules, waves):
    found = search(beam, whisper, prompt, rules, waves, beam_size=1)
    same([hyps[0] for hyps in found], search(greedy, whisper, prompt, rules, waves))


def test_score_is_the_sum_of_log_probabilities(whisper, prompt, rules, waves):
    wave = waves[2]
    memory, lengths = encoded(whisper, [wave])
    for kind, options in ((greedy, {}), (beam, {"beam_size": 3})):
        found = search(kind, whisper, prompt, rules, [wave], ["ms"], **options)[0]
        best = found[0] if options else found
        start = prompt.prompt("ms")
        tokens = torch.tensor([[*start, *best.ids]])
        with torch.no_grad():
            scores = logits(whisper, decode(whisper, tokens, memory, lengths))[0, len(start) - 1 :]
        log_probs = (scores + rules.bias).log_softmax(-1)
        target = torch.tensor([*best.ids, prompt.end])
        expected = float(log_probs.gather(1, target[:, None]).sum())
        assert best.score == pytest.approx(expected, abs=1e-4)


def test_beam_finds_better_hypotheses_best_first(whisper, prompt, rules, waves):
    ones = search(greedy, whisper, prompt, rules, waves)
    found = search(beam, whisper, prompt, rules, waves, beam_size=5, nbest=3)
    for one, hyps in zip(ones, found, strict=True):
        scores = [h.score for h in hyps]
        assert scores == sorted(scores, reverse=True) and len(scores) == 3
        assert len({tuple(h.ids) for h in hyps}) == 3
        if not one.limited:
            assert scores[0] >= one.score - 1e-5
    assert any(hyps[0].ids != one.ids for one, hyps in zip(ones, found, strict=True))


def test_beam_equals_exhaustive_search(whisper, prompt, rules, waves):
    """A beam as wide as the allowed vocabulary misses nothing."""
    keep = torch.tensor([100, 2000, 30000, rules.end])
    bias = torch.full_like(rules.bias, -torch.inf)
    bias[keep] = rules.bias[keep]
    few = dataclasses.replace(rules, bias=bias)
    wave = [waves[0]]
    found = search(beam, whisper, prompt, few, wave, ["ms"], 3, beam_size=64)[0][0]
    memory, lengths = encoded(whisper, wave)
    best = (-float("inf"), [])
    texts = [[]]
    for _ in range(3):
        texts += [[*t, int(k)] for t in texts for k in keep[:3] if len(t) < 3]
    for text in {tuple(t) for t in texts}:
        tokens = torch.tensor([[*prompt.prompt("ms"), *text]])
        with torch.no_grad():
            scores = logits(whisper, decode(whisper, tokens, memory, lengths))[0, 3:]
        target = torch.tensor([*text, rules.end])[:, None]
        score = float((scores + bias).log_softmax(-1).gather(1, target).sum())
        best = max(best, (score, list(text)))
    assert found.ids == best[1] and found.score == pytest.approx(best[0], abs=1e-4)


def test_normalize_length_prefers_longer(whisper, prompt, rules, waves):
    plain = search(beam, whisper, prompt, rules, waves, beam_size=4)
    normal = search(beam, whisper, prompt, rules, waves, beam_size=4, normalize_length=True)
    lengths = [sum(len(hyps[0].ids) for hyps in found) for found in (plain, normal)]
    assert lengths[1] > lengths[0]


@pytest.mark.parametrize("suppress", ["none", "whisper"])
def test_greedy_equals_transformers(lively, whisper, prompt, waves, suppress):
    model = WhisperForConditionalGeneration.from_pretrained(lively).eval()
    rules = TokenRules.of(prompt, whisper.config.vocab_size, suppress=suppress)
    lengths = torch.tensor([len(w) for w in waves])
    speech = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    features, _ = LogMel(80)(speech, lengths, "30s")
    banned = rules.bias.isinf().nonzero()[:, 0].tolist()
    first = rules.first_bias.isinf().nonzero()[:, 0].tolist() or None
    model.generation_config.suppress_tokens = banned
    model.generation_config.begin_suppress_tokens = first
    expected = model.generate(
        features, language="ms", task="transcribe", max_new_tokens=LIMIT, do_sample=False
    )
    memory, memory_lengths = encoded(whisper, waves, "30s")
    prompts = torch.tensor([prompt.prompt("ms")] * len(waves))
    limits = torch.full((len(waves),), LIMIT)
    found = greedy(whisper, memory, memory_lengths, prompts, rules, limits)
    for row, hyp in zip(expected.tolist(), found, strict=True):
        text = [i for i in row if i not in prompt.prompt_ids and i != prompt.end]
        assert hyp.ids == text
    assert any(hyp.ids for hyp in found)


def test_language_switches_the_prompt(whisper, prompt, rules, waves):
    ms, cs, en = (
        [h.ids for h in search(greedy, whisper, prompt, rules, waves, [lang] * len(waves))]
        for lang in ("ms", "cs", "en")
    )
    assert ms == cs != en  # code-switched speech has the Malay token by default


def test_end_is_forced_at_448_positions(whisper, prompt, rules):
    bias = rules.bias.clone()
    bias[rules.end] = -20.0  # never by itself
    endless = dataclasses.replace(rules, bias=bias)
    limit = text_limit(30.0, 4, None)
    assert limit == 443
    for kind, options in ((greedy, {}), (beam, {"beam_size": 2})):
        found = search(kind, whisper, prompt, endless, [noise(0.2, 1)], ["ms"], limit, **options)
        hyp = found[0][0] if options else found[0]
        assert len(hyp.ids) == 443 and hyp.limited  # 4 + 443 + the end = 448


def test_length_limit_follows_the_audio():
    assert text_limit(2.0, 4, 12.0) == 34
    assert text_limit(30.0, 4, 20.0) == 443
    assert text_limit(0.01, 4, 12.0) == 10


def test_exclamation_mark_is_a_token(whisper, prompt, rules, waves):
    assert prompt.tokenizer.decode([0]) == "!"
    bias = rules.bias.clone()
    bias[0] = 1000.0
    shout = dataclasses.replace(rules, bias=bias)
    hyp = search(greedy, whisper, prompt, shout, waves[:1], ["ms"], 3)[0]
    assert hyp.ids == [0, 0, 0] and prompt.decode(hyp.ids) == "!!!"


def test_batch_sizes_must_agree(whisper, prompt, rules, waves):
    with pytest.raises(ValueError, match="2 utterances, 1 prompts"):
        search(greedy, whisper, prompt, rules, waves[:2], ["ms"])
    with pytest.raises(ValueError, match="nbest must be within 1 and the beam size 2, got 3"):
        search(beam, whisper, prompt, rules, waves, beam_size=2, nbest=3)


def test_large_v3(tiny_whisper_v3):
    from espnet_plugin.whisper import load_whisper

    whisper, prompt = load_whisper(tiny_whisper_v3).eval(), PromptBuilder(tiny_whisper_v3)
    rules = TokenRules.of(prompt, 51866)
    found = search(greedy, whisper, prompt, rules, [noise(0.5, 1)], ["ms"], 5)
    assert 0 < len(found[0].ids) <= 5 and max(found[0].ids) < prompt.end
