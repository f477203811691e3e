"""ESPnet's inference class made to work for these models, so that its beam search runs on them.

The stock class is tied to `ASRTask`, loads without checking names, always builds a CTC scorer,
drops token 0 (Whisper's `!`) and takes no language. What it is given, and what becomes of its
hypotheses, is replaced here; the search in between is ESPnet's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from espnet2.bin import asr_inference
from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch, BatchHypothesis
from espnet2.utils.pretrained import download_pretrained

from espnet_plugin.decode.locate import PathLike, locate
from espnet_plugin.decode.rules import check_score
from espnet_plugin.model import NO_CTC, AsyncSwitchModel
from espnet_plugin.prompt import MAX_TOKENS, parse_lang_tokens
from espnet_plugin.samples import as_samples

BEAM_SIZE = 5  # Whisper's own; ESPnet's 20 is meant for smaller vocabularies and CTC
# Options of ESPnet that have no meaning here, and would be ignored in silence.
UNSUPPORTED = {
    "transducer_conf": None,
    "streaming": False,
    "enh_s2t_task": False,
    "multi_asr": False,
    "time_sync": False,
    "partial_ar": False,
    "hugging_face_decoder": False,
    "lid_prompt": False,
    "lang_prompt_token": None,
    "nlp_prompt_token": None,
    "prompt_token_file": None,
    "token_type": None,
    "bpemodel": None,
}


class EarlyStop(BatchBeamSearch):
    """ESPnet's search, ended when no running hypothesis can become one of the best.

    A hypothesis's score only falls while nothing rewards length, so nothing is lost. ESPnet's own
    rule waits for hypotheses of three successive lengths to end, which Whisper's hardly ever do:
    hundreds of steps for twenty tokens.
    """

    nbest: int

    def post_process(
        self,
        i: int,
        maxlen: int | list[int],
        minlen: int | list[int],
        maxlenratio: float,
        running_hyps: BatchHypothesis,
        ended_hyps: list[Any],
    ) -> BatchHypothesis:
        """Do as ESPnet does, then mark utterances as done."""
        running = super().post_process(i, maxlen, minlen, maxlenratio, running_hyps, ended_hyps)
        if self.normalize_length or self.weights.get("length_bonus", 0) != 0:
            return running
        nested = bool(ended_hyps) and isinstance(ended_hyps[0], list)
        ended = ended_hyps if nested else [ended_hyps]
        done, active = running.done_mask().clone(), running.active_mask().clone()
        for b, width in enumerate([running.n_hyp_per_utt] * running.n_utt):
            own = slice(b * width, (b + 1) * width)
            if done[b] or len(ended[b]) < self.nbest:
                continue
            worst = sorted((float(h.score) for h in ended[b]), reverse=True)[self.nbest - 1]
            open_scores = running.score[own][active[own].to(running.score.device)]
            if worst >= float(open_scores.max()):
                done[b], active[own] = True, False
        return running.replace(done=done, active=active)


class Speech2Text(asr_inference.Speech2Text):
    """Speech to text with ESPnet's interface and beam search.

    Example:
        >>> speech2text = Speech2Text(model_dir="exp/adapt_full", language="cs")
        >>> text, tokens, ids, hypothesis = speech2text(audio)[0]
    """

    def __init__(
        self,
        asr_train_config: PathLike = None,
        asr_model_file: PathLike = None,
        *,
        model_dir: PathLike = None,
        language: str | None = None,
        lang_tokens: str | Mapping[str, str] | None = None,
        timestamps: bool = False,
        suppress: str = "none",
        pad: str | None = None,
        device: str = "cpu",
        beam_size: int = BEAM_SIZE,
        ctc_weight: float = 0.0,
        maxlenratio: float = 0.0,
        nbest: int = 1,
        **espnet: Any,
    ) -> None:
        """Load a model, strictly, and build ESPnet's search.

        Args:
            asr_train_config: ESPnet's `config.yaml`; default: that beside the model, if any.
            asr_model_file: An ESPnet checkpoint (`.pth`), or a model directory.
            model_dir: A model directory (`config.json`, `model.safetensors`, tokenizer).
            language: Language of the data (a key of `lang_tokens`) or a Whisper code; default:
                the first of `lang_tokens`.
            lang_tokens: As in `prompt.parse_lang_tokens`; default: that of the configuration.
            timestamps: Generate timestamps; they are among tokens and ids, not in the text.
            suppress: As in `decode.rules.TokenRules.of`.
            pad: `batch` or `30s`; default: that of the configuration, else `batch`.
            device: `cpu`, `cuda`, ...
            beam_size: Hypotheses kept.
            ctc_weight: 0: there is no CTC layer.
            maxlenratio: ESPnet's; 0 is the decoder's 448 positions.
            nbest: Hypotheses to return.
            espnet: Other options of ESPnet's class (`batch_size`, `dtype`, `penalty`, a language
                model, `normalize_length`, ...).

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a tensor is missing or surplus, a language unknown, or an option of
                ESPnet is set that has no meaning for these models.
        """
        for name, number in (("beam_size", beam_size), ("nbest", nbest)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if ctc_weight != 0:
            raise ValueError(f"ctc_weight is {ctc_weight}; {NO_CTC}")
        for name, default in UNSUPPORTED.items():
            if espnet.pop(name, default) not in (default, {}):
                hint = "; give language" if "prompt" in name else ""
                raise ValueError(f"{name} is not supported for these models{hint}")
        found = locate(asr_train_config, asr_model_file, model_dir)
        table = parse_lang_tokens(lang_tokens or found.model_conf.get("lang_tokens"))
        if language is not None and language not in table:
            table = {
                **table,
                language: language,
            }  # a code of the model, or an error that lists them
        self.language = language or next(iter(table))
        conf = found.model_conf | {"lang_tokens": table, "pad": pad or found.pad}
        model = AsyncSwitchModel(found.directory, token_list=found.token_list, **conf)
        found.load_checkpoint(model)
        self._timestamps, self._suppress = timestamps, suppress
        with _prepared(model.to(device), found.arguments()):
            super().__init__(
                asr_train_config=asr_train_config,
                asr_model_file=asr_model_file,
                device=device,
                beam_size=beam_size,
                ctc_weight=0.0,
                maxlenratio=maxlenratio or -float(MAX_TOKENS),
                nbest=nbest,
                **espnet,
            )
        if type(self.beam_search) is BatchBeamSearch:
            self.beam_search.__class__ = EarlyStop
            self.beam_search.nbest = nbest
        self._choose(self.language)

    def _choose(self, language: str) -> None:
        self.asr_model.decoder.choose(language, self._timestamps, self._suppress)

    @contextmanager
    def _speaking(self, language: str | None) -> Iterator[None]:
        if language is not None:
            self._choose(language)
        try:
            yield
        finally:
            if language is not None:
                self._choose(self.language)

    def __call__(self, speech: Any, language: str | None = None) -> Any:
        """Recognise an utterance `(samples,)` of 16 kHz, or a list of them.

        Args:
            speech: Tensor or array, floats within -1..1 or 16-bit integers, at most 30 s.
            language: Of this call, a key of `lang_tokens`.

        Returns:
            `[(text, tokens, ids, hypothesis), ...]`, best first; for a list, a list of these.

        Raises:
            ValueError: The audio is empty, too long, not mono, not finite or of another scale.
        """
        if not isinstance(speech, list | tuple):
            speech = _heard(speech, 1, "the audio")
        with self._speaking(language):
            return super().__call__(speech)

    def batch_decode(
        self,
        speech: torch.Tensor | np.ndarray | Sequence[torch.Tensor | np.ndarray],
        speech_lengths: Any = None,
        language: str | None = None,
    ) -> Any:
        """Recognise utterances together: a list, or padded with lengths; as ESPnet's."""
        if isinstance(speech, list | tuple):
            speech = [_heard(wave, 1, f"utterance {i}") for i, wave in enumerate(speech)]
        else:
            speech = _heard(speech, 2, "the batch")
        with self._speaking(language):
            return super().batch_decode(speech, speech_lengths)

    def _can_batch_decode(self) -> bool:
        return isinstance(self.beam_search, BatchBeamSearch)

    def _hyps_to_results(self, nbest_hyps: list[Any]) -> list[Any]:
        """Turn hypotheses into results; unlike ESPnet's, token 0 stays."""
        results = []
        for hyp in nbest_hyps[: self.nbest]:
            check_score(float(hyp.score))
            ids = [i for i in hyp.yseq[1:].tolist() if i != self.asr_model.eos]
            tokens = [self.asr_model.token_list[i] for i in ids]
            results.append((self.asr_model.prompt.decode(ids), tokens, ids, hyp))
        return results

    @staticmethod
    def from_pretrained(model_tag: str | None = None, **kwargs: Any) -> "Speech2Text":
        """Build from a packed model: a tag, URL or file that ESPnet's model zoo resolves."""
        if model_tag is not None:
            kwargs.update(download_pretrained(model_tag))
        return Speech2Text(**kwargs)


def _heard(speech: Any, dimensions: int, where: str) -> torch.Tensor:
    """Return audio as a float tensor on the CPU, of one channel."""
    if isinstance(speech, torch.Tensor):
        speech = speech.detach().cpu()
        speech = (speech.float() if speech.is_floating_point() else speech).numpy()
    array = np.asarray(speech)
    if array.ndim != dimensions:
        wanted = "(samples,)" if dimensions == 1 else "(utterances, samples)"
        raise ValueError(f"{where} has the shape {array.shape}, not {wanted}: one channel is heard")
    return torch.from_numpy(as_samples(array, where))


@contextmanager
def _prepared(model: AsyncSwitchModel, arguments: Any) -> Iterator[None]:
    """Let ESPnet's constructor find a model that is loaded already."""
    original = asr_inference.ASRTask

    class Prepared(original):  # type: ignore[misc, valid-type]
        @classmethod
        def build_model_from_file(cls, *_: Any, **__: Any) -> tuple[Any, Any]:
            return model, arguments

    asr_inference.ASRTask = Prepared
    try:
        yield
    finally:
        asr_inference.ASRTask = original
