import copy

import pytest
import torch

from espnet_plugin.checkpoint import read_json, write_json
from espnet_plugin.decode.rules import TokenRules

V = 51865


def allowed(rules: TokenRules, tokens: list[int], favourite: int | None = None) -> set[int]:
    logits = torch.zeros(1, V)
    if favourite is not None:
        logits[0, favourite] = 30.0
    found = rules.log_probs(logits, torch.tensor([tokens], dtype=torch.long))
    assert found.logsumexp(-1).item() == pytest.approx(0, abs=1e-4)
    return set(found[0].isfinite().nonzero()[:, 0].tolist())


def test_text_and_end_only(prompt):
    ids = allowed(TokenRules.of(prompt, V), [])
    assert ids == set(range(prompt.end + 1)) & set(prompt.tokenizer.get_vocab().values())
    assert 0 in ids and prompt.end in ids


def test_ids_without_a_token(prompt):
    rules = TokenRules.of(prompt, V + 7, timestamps=True)
    assert rules.bias.shape == (V + 7,) and rules.bias[V:].isinf().all()


def test_begin_and_whisper(prompt):
    blank = prompt.tokenizer.encode(" ", add_special_tokens=False)
    rules = TokenRules.of(prompt, V, suppress="begin")
    assert not allowed(rules, []) & {*blank, prompt.end}
    assert prompt.end in allowed(rules, [100])
    listed = read_json(f"{prompt.model_dir}/generation_config.json")["suppress_tokens"]
    whisper = TokenRules.of(prompt, V, suppress="whisper")
    assert not allowed(whisper, [100]) & set(listed)
    assert allowed(rules, [100]) & set(listed)


def test_unknown_suppress(prompt):
    with pytest.raises(ValueError, match="one of none, begin, whisper, got 'all'"):
        TokenRules.of(prompt, V, suppress="all")


def test_nothing_to_suppress(prompt, tmp_path):
    other = copy.copy(prompt)  # keeps the tokenizer
    other.model_dir = tmp_path
    write_json(tmp_path / "generation_config.json", {"suppress_tokens": None})
    with pytest.raises(ValueError, match="has no suppress_tokens"):
        TokenRules.of(other, V, suppress="whisper")


def test_timestamp_grammar(prompt):
    rules, t = TokenRules.of(prompt, V, timestamps=True), prompt.timestamp_begin
    end, favourite = prompt.end, 100
    assert allowed(rules, [], favourite) == set(range(t, t + 51))  # a time, at most 1 s
    assert favourite in allowed(rules, [t + 5], favourite)
    assert not allowed(rules, [t + 5], favourite) & set(range(t, V))  # then text
    ids = allowed(rules, [t + 5, 100], favourite)
    assert favourite in ids and t + 5 not in ids and t + 6 in ids
    ids = allowed(rules, [t + 5, 100, t + 50], t + 60)  # closed: the next pair, or the end
    assert not ids & set(range(end)) and t + 49 not in ids and t + 50 in ids
    ids = allowed(rules, [t + 5, 100, t + 50], end)
    assert end in ids
    ids = allowed(rules, [t + 5, 100, t + 50, t + 50], favourite)
    assert favourite in ids and not ids & set(range(t, V))


def test_a_time_where_times_together_are_likelier(prompt):
    rules, t = TokenRules.of(prompt, V, timestamps=True), prompt.timestamp_begin
    # 1 501 times of equal score together beat any single token of the same score
    assert min(allowed(rules, [t + 5, 100])) > t


def test_only_end(prompt):
    rules = TokenRules.of(prompt, V)
    log_probs = rules.log_probs(torch.zeros(2, V), torch.empty(2, 0, dtype=torch.long))
    before = log_probs.clone()
    rules.only_end(log_probs, torch.tensor([False, True]))
    assert torch.equal(log_probs[0], before[0])
    assert log_probs[1].isfinite().nonzero().tolist() == [[rules.end]]
    assert log_probs[1, rules.end] == before[1, rules.end]
