"""Whisper's tokenizer: built, completed and written in the form that Hugging Face and ESPnet read.

Whisper's vocabulary is 50 257 byte-pair tokens, then special tokens: end, start, one per language,
tasks, ``<|notimestamps|>``, and 1 501 timestamps from ``<|0.00|>`` to ``<|30.00|>``. large-v3 has
one language more, which moves all ids behind it: nothing here or elsewhere writes them down.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint import atomic_write, read_json, write_json

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import WhisperTokenizer

N_BYTE_PAIR = 50257  # tokens before <|endoftext|> in all multilingual models
N_TIMESTAMPS = 1501  # 0.00 to 30.00 seconds in steps of 0.02
N_TASKS = 8  # end, start, translate, transcribe, lm, previous, no speech, no timestamps
MULTILINGUAL = {  # vocabulary size -> number of languages
    N_BYTE_PAIR + N_TASKS + N_TIMESTAMPS + n: n for n in (99, 100)
}


def timestamps() -> list[str]:
    """Return the 1 501 timestamp tokens in the order of their ids."""
    return [f"<|{i * 0.02:.2f}|>" for i in range(N_TIMESTAMPS)]


def n_languages(vocab_size: int) -> int:
    """Return how many languages a multilingual Whisper of this vocabulary knows.

    Raises:
        ValueError: No multilingual Whisper has this vocabulary size.
    """
    if vocab_size not in MULTILINGUAL:
        allowed = " or ".join(f"{size} ({n} languages)" for size, n in MULTILINGUAL.items())
        hint = "; English-only models cannot code-switch" if vocab_size == 51864 else ""
        raise ValueError(f"vocabulary mismatch: {vocab_size} tokens, allowed are {allowed}{hint}")
    return MULTILINGUAL[vocab_size]


def special_tokens(vocab_size: int) -> list[str]:
    """Return the special tokens from ``<|endoftext|>`` to ``<|notimestamps|>``, in id order.

    Names are those of the released Hugging Face directories (``<|nocaptions|>`` became
    ``<|nospeech|>`` with large-v3).
    """
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    n = n_languages(vocab_size)
    return [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in list(LANGUAGES)[:n]),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nocaptions|>" if n == 99 else "<|nospeech|>",
        "<|notimestamps|>",
    ]


def missing_merges(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return the byte-pair merges without which some vocabulary entries can never be made.

    A token's id is also its rank, so its merge follows: apply the merges of lower rank to its
    bytes, and the last two parts are the pair.

    Args:
        vocab: Byte-pair tokens (no special ones) to ids.
        merges: Pairs that exist already.

    Returns:
        The missing pairs in the order of their ids.
    """
    made = {left + right for left, right in merges}
    found = []
    for token, rank in sorted(vocab.items(), key=lambda item: item[1]):
        if len(token) < 2 or token in made:
            continue
        parts = list(token)
        while len(parts) > 2:
            ranks = [vocab.get(a + b, rank) for a, b in zip(parts, parts[1:], strict=False)]
            best = min(ranks)
            if best >= rank:
                break
            i = ranks.index(best)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            found.append((parts[0], parts[1]))
    return found


def _with_merges(
    vocab: Mapping[str, int], merges: list[tuple[str, str]], more: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Insert merges at their rank, leaving the order of the others."""
    merged = list(merges)
    ranks = [vocab[a + b] for a, b in merged]
    for a, b in more:
        at = bisect_left(ranks, vocab[a + b])
        merged.insert(at, (a, b))
        ranks.insert(at, vocab[a + b])
    return merged


def build_tokenizer(vocab_size: int) -> WhisperTokenizer:
    """Build the tokenizer of a multilingual Whisper from openai-whisper's own vocabulary file.

    Args:
        vocab_size: 51 865 (tiny to large-v2) or 51 866 (large-v3 and turbo).

    Raises:
        ValueError: Another vocabulary size.
        FileNotFoundError: openai-whisper is not installed.
    """
    specials = special_tokens(vocab_size)
    vocab, merges = _byte_pairs()
    return _assemble({**vocab, specials[0]: N_BYTE_PAIR}, list(merges), specials)


@cache
def _byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Read openai-whisper's vocabulary; return ids by token, and merges. Takes seconds."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    # find_spec, because importing whisper itself costs seconds (numba).
    spec = importlib.util.find_spec("whisper")
    origin = Path(spec.origin).parent if spec and spec.origin else None
    path = origin / "assets" / "multilingual.tiktoken" if origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            "openai-whisper's vocabulary (whisper/assets/multilingual.tiktoken) was not found: "
            "this source brings no tokenizer of its own; `pip install openai-whisper`"
        )
    letters = bytes_to_unicode()
    vocab = {}
    for line in path.read_text(encoding="ascii").splitlines():
        token, rank = line.split()
        vocab["".join(letters[b] for b in base64.b64decode(token))] = int(rank)
    return vocab, missing_merges(vocab, [])


def _assemble(
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    specials: Sequence[str],
    grown: Sequence[AddedToken] = (),
    **prefix: Any,
) -> WhisperTokenizer:
    from tokenizers import AddedToken
    from transformers import WhisperTokenizer

    tokenizer = WhisperTokenizer(vocab=vocab, merges=merges)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(t, normalized=False) for t in specials]}
    )
    # Not "special", as in the released directories: transformers takes what follows the last
    # special token for timestamps.
    tokenizer.add_tokens([AddedToken(t, normalized=True, special=False) for t in timestamps()])
    tokenizer.add_tokens(list(grown))
    tokenizer.set_prefix_tokens(**prefix)  # only now do their ids exist
    return tokenizer


def read_tokenizer(source_dir: str | Path, vocab_size: int) -> tuple[WhisperTokenizer, list[str]]:
    """Load a directory's tokenizer and complete it to what its model was trained with.

    Some files in circulation lack the timestamp tokens, or the merge that makes `` t`` (so that
    ``the`` after a space falls apart), or do not mark special tokens as such. The tokenizer is
    therefore put together anew from its vocabulary, merges and added tokens, and is complete.

    Args:
        source_dir: A directory with ``tokenizer.json``, or with ``vocab.json`` and ``merges.txt``.
        vocab_size: The model's number of embeddings; it may exceed the number of tokens.

    Returns:
        The tokenizer, and one line for each thing that was added.

    Raises:
        FileNotFoundError: There is no tokenizer.
        ValueError: Special tokens are missing or not where the vocabulary size puts them; more
            tokens than embeddings.
    """
    from transformers import WhisperTokenizer

    source = Path(source_dir)
    where = source / "tokenizer.json"
    if not where.is_file():
        where = source / "vocab.json"
        if not (where.is_file() and (source / "merges.txt").is_file()):
            raise FileNotFoundError(f"{source}: no tokenizer.json, nor vocab.json with merges.txt")
    given = WhisperTokenizer.from_pretrained(str(source), local_files_only=True)
    size = max(given.get_vocab().values()) + 1
    if size > vocab_size:
        raise ValueError(
            f"{where}: vocabulary mismatch: {size} tokens, the model has {vocab_size} embeddings"
        )
    specials = _check_specials(given, vocab_size, where)
    model = json.loads(given.backend_tokenizer.to_str())["model"]
    pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
    merges: list[tuple[str, str]] = [(left, right) for left, right in pairs]
    plain = {t: i for t, i in model["vocab"].items() if i < N_BYTE_PAIR}
    changes = []
    if more := missing_merges(plain, merges):
        merges = _with_merges(plain, merges, more)
        changes.append(f"merges added: {len(more)} (first: {' + '.join(more[0])})")
    first = N_BYTE_PAIR + len(specials)
    missing = 0
    for i, token in enumerate(timestamps(), first):
        found = given.convert_ids_to_tokens(i) if i < size else None
        missing += found is None
        if found not in (token, None):
            raise ValueError(f"{where}: vocabulary mismatch: id {i} is {found!r}, not {token!r}")
    if missing:
        changes.append(f"timestamp tokens added: {missing}")
    added = given.added_tokens_decoder
    return (
        _assemble(
            {**plain, specials[0]: N_BYTE_PAIR},
            merges,
            specials,
            grown=[added[i] for i in range(first + N_TIMESTAMPS, size)],
            language=given.language,
            task=given.task,
            predict_timestamps=given.predict_timestamps,
        ),
        changes,
    )


def _check_specials(given: WhisperTokenizer, vocab_size: int, where: Path) -> list[str]:
    """Return a tokenizer's special tokens by id, having checked that they are where they must be.

    A fine-tuned model may have grown tokens of its own behind the timestamps.
    """
    last = given.get_vocab().get("<|notimestamps|>", -1)
    n_specials = last + 1 - N_BYTE_PAIR
    base = next((b for b, n in MULTILINGUAL.items() if n_specials == n + N_TASKS), None)
    if base is None or base > vocab_size:
        n_languages(vocab_size)  # names the sizes that there are
        raise ValueError(
            f"{where}: vocabulary mismatch: <|notimestamps|> has id {last}, which does not fit a "
            f"multilingual model of {vocab_size} tokens"
        )
    if vocab_size in MULTILINGUAL and base != vocab_size:
        raise ValueError(
            f"{where}: vocabulary mismatch: the tokenizer is that of a model of {base} tokens, "
            f"this one has {vocab_size}"
        )
    specials = special_tokens(base)
    aliases = {"<|nocaptions|>", "<|nospeech|>"}
    for i, token in enumerate(specials, N_BYTE_PAIR):
        found = str(given.convert_ids_to_tokens(i))
        if found != token and not {found, token} <= aliases:
            raise ValueError(f"{where}: vocabulary mismatch: id {i} is {found!r}, not {token!r}")
        specials[i - N_BYTE_PAIR] = found
    return specials


def token_list(tokenizer: WhisperTokenizer, vocab_size: int) -> list[str]:
    """Return ESPnet's token list: one token per embedding, unique and free of white space.

    Embeddings without a token are named ``<|unused_N|>``, and so is Whisper's empty token 50 256.
    """
    tokens = [f"<|unused_{i}|>" for i in range(vocab_size)]
    for token, i in tokenizer.get_vocab().items():
        if token:
            tokens[i] = token
    return tokens


def suppressed_tokens(tokenizer: WhisperTokenizer) -> list[int]:
    """Return the ids that Whisper never generates: speaker tags, music, task tokens.

    The rule is openai-whisper's (``Tokenizer.non_speech_tokens`` and
    ``DecodingTask._get_suppress_tokens``), so that it fits any vocabulary.
    """
    symbols = list('"#()*+/:;<=>@[\\]^_`{|}~「」『』')
    symbols += ["<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "((("]
    symbols += [")))", "[[", "]]", "{{", "}}", "♪♪", "♪♪♪"]
    notes = list("♩♪♫♬♭♮♯")  # share their first bytes; suppressing the first token is enough

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    found = {encode(" -")[0], encode(" '")[0]}
    for symbol in symbols + notes:
        for parts in (encode(symbol), encode(" " + symbol)):
            if len(parts) == 1 or symbol in notes:
                found.add(parts[0])
    ids = tokenizer.get_vocab()
    found.add(ids["<|startoftranscript|>"])
    found.update(range(ids["<|translate|>"], ids["<|notimestamps|>"]))
    return sorted(found)


def generation_settings(
    tokenizer: WhisperTokenizer, alignment_heads: Sequence[Sequence[int]] | None = None
) -> dict[str, Any]:
    """Return a complete ``generation_config.json`` for a multilingual Whisper.

    Args:
        tokenizer: The completed tokenizer.
        alignment_heads: ``(layer, head)`` pairs for word times, where known.
    """
    ids = tokenizer.get_vocab()
    start, end = ids["<|startoftranscript|>"], ids["<|endoftext|>"]
    by_id = {i: t for t, i in ids.items()}
    settings: dict[str, Any] = {
        "begin_suppress_tokens": [*tokenizer.encode(" ", add_special_tokens=False), end],
        "bos_token_id": end,
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "is_multilingual": True,
        "lang_to_id": {by_id[i]: i for i in range(start + 1, ids["<|translate|>"])},
        "max_initial_timestamp_index": 50,  # the first time is at most 1 s
        "max_length": 448,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "pad_token_id": end,
        "prev_sot_token_id": ids["<|startofprev|>"],
        "return_timestamps": False,
        "suppress_tokens": suppressed_tokens(tokenizer),
        "task_to_id": {t: ids[f"<|{t}|>"] for t in ("transcribe", "translate")},
    }
    if alignment_heads:
        settings["alignment_heads"] = [list(map(int, head)) for head in alignment_heads]
    return settings


def write_tokenizer(
    directory: str | Path,
    tokenizer: WhisperTokenizer,
    vocab_size: int,
    n_mels: int,
    generation: Mapping[str, Any] | None = None,
    alignment_heads: Sequence[Sequence[int]] | None = None,
) -> None:
    """Write all that goes beside configuration and weights in a model directory.

    That is the tokenizer, ``tokens.txt``, ``generation_config.json``, ``preprocessor_config.json``.

    Args:
        directory: An existing directory.
        tokenizer: The completed tokenizer.
        vocab_size: The model's number of embeddings.
        n_mels: Mel bins, 80 or 128.
        generation: Settings of the source, which win over the computed ones.
        alignment_heads: As in `generation_settings`.
    """
    from transformers import WhisperFeatureExtractor

    directory = Path(directory)
    tokenizer.save_pretrained(str(directory))
    WhisperFeatureExtractor(feature_size=n_mels).save_pretrained(str(directory))
    settings = generation_settings(tokenizer, alignment_heads)
    given = {k: v for k, v in (generation or {}).items() if v is not None}
    write_json(directory / "generation_config.json", {**settings, **given})
    with atomic_write(directory / "tokens.txt", "w") as file:
        file.writelines(f"{token}\n" for token in token_list(tokenizer, vocab_size))


def read_generation(directory: str | Path) -> dict[str, Any]:
    """Return a directory's generation settings, empty where it has none."""
    path = Path(directory) / "generation_config.json"
    return read_json(path) if path.is_file() else {}
