import pytest
import torch
from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
from espnet2.legacy.nets.beam_search import BeamSearch

from espnet_plugin.checkpoint import load_config
from espnet_plugin.features import LogMel
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.views import WhisperDecoderView, WhisperEncoderView
from espnet_plugin.whisper import decode, encode, load_whisper, logits


@pytest.fixture(scope="module")
def views(tiny_whisper):
    whisper, prompt = load_whisper(tiny_whisper).eval(), PromptBuilder(tiny_whisper)
    encoder = WhisperEncoderView(1, model_dir=tiny_whisper)
    decoder = WhisperDecoderView(51865, encoder.output_size(), model_dir=tiny_whisper)
    for view in (encoder, decoder):
        view.bind(whisper, prompt)
    return whisper, prompt, encoder, decoder


@pytest.fixture(scope="module")
def memory(views):
    whisper = views[0]
    generator = torch.Generator().manual_seed(0)
    speech = 0.3 * torch.randn(3, 24000, generator=generator)
    lengths = torch.tensor([24000, 9000, 17001])
    features, frames = LogMel(80)(speech, lengths, "batch")
    with torch.no_grad():
        return encode(whisper, features, frames)


def test_no_parameters_and_no_state(views):
    for view in views[2:]:
        assert not list(view.parameters()) and not view.state_dict() and not list(view.children())


def test_encoder_ignores_padding(views):
    whisper, _, encoder, _ = views
    features = torch.randn(2, 60, 80)
    ilens = torch.tensor([60, 33])
    with torch.no_grad():
        both, lengths, _ = encoder(features, ilens)
        alone, _, _ = encoder(features[1:, :33], ilens[1:])
    assert lengths.tolist() == [30, 17] and encoder.output_size() == both.shape[2]
    assert torch.allclose(both[1, :17], alone[0], atol=1e-5)


def test_decoder_forward_is_teacher_forcing(views, memory):
    whisper, _, _, decoder = views
    tokens = torch.tensor([[50258, 50282, 100, 200], [50258, 50259, 7, -1], [50258, 5, -1, -1]])
    lengths = torch.tensor([4, 3, 2])
    with torch.no_grad():
        scores, found = decoder(*memory, tokens, lengths)
        alone = logits(whisper, decode(whisper, tokens[1:2, :3], memory[0][1:2, : memory[1][1]]))
    assert scores.shape == (3, 4, 51865) and found is lengths
    assert torch.allclose(scores[1, :3], alone[0], atol=1e-4)


def test_batch_score_equals_teacher_forcing(views, memory):
    """Branching, reordering and masks: the cached score is that of the whole sequence."""
    whisper, prompt, _, decoder = views
    decoder.choose("en")
    xs, lengths = memory
    mask = (torch.arange(xs.shape[1]) < lengths[:, None])[:, None]
    sos = prompt.start
    ys = torch.full((3, 1), sos)
    first, states = decoder.batch_score(ys, [None] * 3, xs, mask)
    # hypotheses 2, 0, 0 go on; their memories go along
    order = [2, 0, 0]
    ys = torch.tensor([[sos, 11], [sos, 22], [sos, 33]])
    chosen = [states[i] for i in order]
    second, states = decoder.batch_score(ys, chosen, xs[order], mask[order])
    again, _ = decoder.batch_score(ys, chosen, xs[order], mask[order])  # states are not used up
    assert torch.equal(second, again)
    ys = torch.tensor([[sos, 33, 4]])
    third, _ = decoder.batch_score(ys, [states[2]], xs[:1], mask[:1])

    def whole(row, text):
        tokens = torch.tensor([[*prompt.prompt("en"), *text]])
        with torch.no_grad():
            memory_of = xs[row : row + 1, : lengths[row]]
            scores = logits(whisper, decode(whisper, tokens, memory_of))[:, -1]
        assert decoder._rules is not None
        return (scores + decoder._rules.bias).log_softmax(-1)[0]

    for got, row, text in (
        (first[1], 1, []),
        (second[0], 2, [11]),
        (second[2], 0, [33]),
        (third[0], 0, [33, 4]),
    ):
        finite = got.isfinite()
        assert torch.allclose(got[finite], whole(row, text)[finite], atol=1e-4)
        assert not finite[50258:].any()


def searcher(kind, views, beam=3):
    decoder = views[3]
    return kind(
        scorers={"decoder": decoder},
        weights={"decoder": 1.0},
        beam_size=beam,
        vocab_size=51865,
        sos=views[1].start,
        eos=views[1].end,
    )


def test_espnet_searches_agree(views, memory):
    """One hypothesis at a time, one utterance at a time, and all utterances together."""
    xs, lengths = memory
    views[3].choose("ms")
    found = []
    for kind in (BeamSearch, BatchBeamSearch):
        search = searcher(kind, views)
        with torch.no_grad():
            found.append(
                [search(x[:n], maxlenratio=-6.0)[0] for x, n in zip(xs, lengths, strict=True)]
            )
    with torch.no_grad():
        batch = searcher(BatchBeamSearch, views)(xs, maxlenratio=-6.0, x_lengths=lengths)
    found.append([hyps[0] for hyps in batch])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a.yseq.tolist() == b.yseq.tolist()
            assert float(a.score) == pytest.approx(float(b.score), abs=1e-3)


def test_end_at_448_positions(views, memory):
    _, prompt, _, decoder = views
    decoder.choose("ms")
    xs, _ = memory
    text = torch.full((3, 443), 50)
    ys = torch.cat((torch.full((3, 1), prompt.start), text), 1)
    scores, states = decoder.batch_score(ys, [None] * 3, xs)  # 4 + 443: one place is left
    assert scores.isfinite().nonzero()[:, 1].tolist() == [prompt.end] * 3
    longer = torch.cat((ys, torch.full((3, 1), 50)), 1)
    scores, _ = decoder.batch_score(longer, states, xs)
    assert scores.isfinite().nonzero()[:, 1].tolist() == [prompt.end] * 3


def test_choose(views):
    decoder = views[3]
    decoder.choose("cs")
    assert decoder._prompt_ids == tuple(views[1].prompt("cs")) and decoder.prompt_length == 4
    decoder.choose("en", timestamps=True)
    assert decoder.prompt_length == 3
    with pytest.raises(ValueError, match="language 'm' is not in lang_tokens"):
        decoder.choose("m")
    decoder.choose("ms")


def test_sizes_must_be_the_models(tiny_whisper):
    with pytest.raises(ValueError, match="token list has 51864 entries.*has 51865"):
        WhisperDecoderView(51864, 16, model_dir=tiny_whisper)
    with pytest.raises(ValueError, match="encoder's output has 512 entries.*has 16"):
        WhisperDecoderView(51865, 512, model_dir=tiny_whisper)
    with pytest.raises(ValueError, match="input_size is 128.*80 mel bins"):
        WhisperEncoderView(128, model_dir=tiny_whisper)
    assert WhisperEncoderView(80, model_dir=tiny_whisper).output_size() == 16


def test_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such model directory"):
        WhisperEncoderView(model_dir=tmp_path / "none")


def test_unbound(tiny_whisper):
    view = WhisperDecoderView(51865, load_config(tiny_whisper)["d_model"], model_dir=tiny_whisper)
    with pytest.raises(ValueError, match="not bound"):
        view.choose("ms")
