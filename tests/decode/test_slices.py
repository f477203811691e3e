import weakref
from types import SimpleNamespace

import pytest
import torch

from espnet_plugin.decode import slices
from espnet_plugin.decode.slices import (
    cut,
    drop_rows,
    encode_slices,
    lay_out_for_few_rows,
    start_contiguous,
)
from espnet_plugin.features import LogMel
from espnet_plugin.whisper import Cache, encode, load_whisper, start_cache


def test_rows_are_cut_in_order_within_the_bound():
    assert list(cut([1, 2, 3, 3, 5], 6)) == [
        (slice(0, 2), 2),
        (slice(2, 4), 3),
        (slice(4, 5), 5),
    ]
    assert list(cut([9, 1], 4)) == [(slice(0, 1), 9), (slice(1, 2), 1)]  # alone, though too long
    assert list(cut([], 4)) == []


def test_slices_compute_what_the_whole_batch_does(whisper, waves, monkeypatch):
    lengths = torch.tensor([len(w) for w in waves])
    speech = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    features, frames = LogMel(whisper.config.num_mel_bins)(speech, lengths, "batch")
    with torch.inference_mode():
        expected, n = encode(whisper, features, frames)
        whole = start_cache(whisper, expected, n)
        monkeypatch.setattr(slices, "SLICE", 200)
        monkeypatch.setattr(slices, "POSITIONS", 100)
        found, n_found = encode_slices(whisper, features, frames)
        cache = start_contiguous(whisper, expected, n)
    assert torch.equal(n, n_found) and found.shape == expected.shape
    for row, length in enumerate(n.tolist()):
        assert torch.allclose(found[row, :length], expected[row, :length], atol=1e-5)
        for ours, theirs in zip(cache.cross, whole.cross, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                assert a.is_contiguous()
                assert torch.allclose(a[row, :, :length], b[row, :, :length], atol=1e-5)


def test_weights_laid_out_for_few_rows_keep_their_values(lively):
    plain, laid_out = load_whisper(lively), load_whisper(lively)
    lay_out_for_few_rows(laid_out.decoder)
    for layer in (laid_out.decoder.embed_tokens, laid_out.decoder.layers[0].fc1):
        assert layer.weight.stride() == (1, layer.weight.shape[0])
    for name, tensor in plain.state_dict().items():
        assert torch.equal(laid_out.state_dict()[name], tensor), name
    laid_out.load_state_dict({n: t * 2 for n, t in plain.state_dict().items()})
    assert laid_out.decoder.layers[0].fc1.weight.stride()[0] == 1  # the next system's as well
    assert torch.equal(
        laid_out.decoder.layers[0].fc1.weight, plain.decoder.layers[0].fc1.weight * 2
    )


@pytest.mark.parametrize("over", ["01010", "11000", "00011", "10001", "00100"])
def test_rows_that_end_leave_a_cache(over):
    def rows() -> torch.Tensor:
        return torch.arange(5.0)[:, None, None, None].repeat(1, 2, 3, 4)

    cache = Cache(rows()[:, :1, :1] > 0, [(rows(), rows())], [(rows(), rows())], 3)
    gone = [flag == "1" for flag in over]
    order = drop_rows(cache, gone)
    assert sorted(order.tolist()) == [row for row, ended in enumerate(gone) if not ended]
    for tensor in (*cache.own[0], *cache.cross[0]):
        assert tensor[:, 0, 0, 0].tolist() == order.tolist() and tensor.is_contiguous()
    assert cache.memory_mask is not None
    assert cache.memory_mask[:, 0, 0, 0].tolist() == [row > 0 for row in order.tolist()]


def test_a_gpu_holds_one_layers_keys_and_values_twice(monkeypatch):
    alive = weakref.WeakSet()

    class Spread:
        def __init__(self):
            alive.add(self)

        def contiguous(self):
            most.append(len(alive))
            return "contiguous"

    most = []
    cache = Cache(None, [(Spread(), Spread()) for _ in range(8)])
    monkeypatch.setattr(slices, "start_cache", lambda *_: cache)
    memory = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    found = slices.start_contiguous(None, memory, None)
    assert found.cross == [("contiguous", "contiguous")] * 8
    assert most[0] == 16 and most[-1] <= 4, "what was replaced is gone"
