"""What a unit of work needs to know, and the tools that a process loads for it once."""

import functools
import json
import threading
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regex

from espnet_plugin.checkpoint import read_json, sha256_file
from espnet_plugin.cli import nearest
from espnet_plugin.prompt import MAX_TOKENS, PromptBuilder
from espnet_plugin.score.switching import INDEPENDENT, LANGUAGES
from espnet_plugin.text.corpus.config import CorpusConfig
from espnet_plugin.text.corpus.encoder import Encoder
from espnet_plugin.text.dedup import DEDUP_VERSION
from espnet_plugin.text.near_duplicates import NearDuplicates
from espnet_plugin.text.normalizer import NORMALIZER_VERSION
from espnet_plugin.text.sources import SourceSettings, fingerprint

if TYPE_CHECKING:
    from espnet_plugin.text.tags import Tagger

NO_LANG = 255  # code of a language that is not kept
UNKNOWN = "unknown"  # name of a language that is in no table
VERSION = 2  # raised when the same plan makes other stores; an old store is then made again
_loading = threading.Lock()  # a Dask worker may have several threads


@dataclass(frozen=True)
class Plan:
    """All that decides what becomes of a block of text; picklable.

    Attributes:
        config: What is done to the text.
        model: Model directory, for its tokenizer; absolute.
        lang_tokens: Languages of the data and Whisper's codes, as pairs.
        lang: Language of lines that do not carry one; None: from their tags.
        work: Directory of unfinished work; absolute, seen by all workers.
        exclude: Files whose lines are dropped where they occur; absolute.
    """

    config: CorpusConfig
    model: str
    lang_tokens: tuple[tuple[str, str], ...]
    lang: str | None
    work: str
    exclude: tuple[str, ...] = ()

    @property
    def langs(self) -> list[str]:
        """Languages of the store; a line's code is an index into them."""
        return [lang for lang, _ in self.lang_tokens]

    @property
    def sources(self) -> SourceSettings:
        """How files are read."""
        c = self.config
        return SourceSettings(
            field=c.field,
            lang_field=c.lang_field,
            source_field=c.source_field,
            strict=c.strict,
            block_bytes=c.block_bytes,
            max_line_bytes=c.max_line_bytes,
        )

    @property
    def near(self) -> NearDuplicates | None:
        """How near-duplicates are found; None where they are kept."""
        return NearDuplicates(self.config.near_threshold) if self.config.near_duplicates else None

    def check(self) -> None:
        """Check the choices against the tokenizer and each other, before any work.

        Raises:
            FileNotFoundError: If the model directory has no tokenizer.
            ValueError: If a language, style, script or limit is not possible.
        """
        c = self.config
        for lang in c.languages or ():
            self.tools.builder.lang_code(lang, "languages")
        if self.lang is not None:
            self.tools.builder.lang_code(self.lang, "--lang")
        if len(self.langs) > NO_LANG:
            raise ValueError(f"lang_tokens: {len(self.langs)} languages, at most {NO_LANG} fit")
        room = self.tools.max_tokens
        if c.max_tokens is not None and c.max_tokens > room:
            raise ValueError(
                f"max_tokens: {c.max_tokens}; beside prompt and end, {room} fit in {MAX_TOKENS}"
            )

    @property
    def tools(self) -> "Tools":
        """Tokenizer, cleaner and tagger, loaded once in each process."""
        files = (Path(self.model) / "tokenizer.json", Path(self.config.pair or ""))
        with _loading:
            return _tools(self, tuple(map(_stamp, files)))

    def made_from(self, inputs: list[dict[str, Any]], held_out: bool) -> dict[str, Any]:
        """Return all that the stores depend on, as JSON has it.

        Args:
            inputs: Name, size and hash of each file.
            held_out: Whether lines are held out for validation.
        """
        tools = self.tools
        entries = {
            "version": VERSION,
            "inputs": inputs,
            "config": asdict(self.config),
            "lang_tokens": dict(self.lang_tokens),
            "lang": self.lang,
            "held_out": held_out,
            "exclude": fingerprint([Path(path) for path in self.exclude]),
            "duplicates": DEDUP_VERSION,
            "tokenizer": tools.tokenizer_sha256,
            "cleaner": tools.cleaner.fingerprint,
            "tagger": tools.tagger.fingerprint if tools.tagger else None,
            "near_duplicates": self.near.fingerprint if self.near else None,
        }
        if self.config.text_style == "spoken":
            entries["normalizer"] = NORMALIZER_VERSION
        return json.loads(json.dumps(entries))


class _Builder(PromptBuilder):
    """A builder that reads the vocabulary without transformers, whose import takes 5 s, 0.5 GB."""

    @cached_property
    def _vocab(self) -> dict[str, int]:
        return _vocabulary(str(self.model_dir), _stamp(Path(self.model_dir) / "tokenizer.json"))


class Tools:
    """What a process loads once to work on blocks."""

    def __init__(self, plan: Plan) -> None:
        """Load tokenizer, cleaner and tagger.

        Raises:
            FileNotFoundError: If the model directory has no tokenizer.
            ValueError: If one of them does not know what the configuration names.
        """
        from espnet_plugin.text.clean import DEFAULT, Cleaner

        config, tokenizer = plan.config, Path(plan.model) / "tokenizer.json"
        self.encoder = _encoder(plan.model, _stamp(tokenizer))
        self.builder = _Builder(plan.model, dict(plan.lang_tokens), config.text_style)
        self.max_tokens = MAX_TOKENS - len(self.builder.prompt(plan.langs[0])) - 1  # and the end
        self.tokenizer_sha256 = sha256_file(tokenizer)
        self.tagger = _tagger(config.pair, _stamp(Path(config.pair))) if config.pair else None
        steps = DEFAULT if config.clean is None else config.clean
        languages = {"languages": self.tagger.languages} if self.tagger else {}
        self.cleaner = Cleaner(steps, **languages)
        self.tags = self.tagger.tags if self.tagger else (*LANGUAGES, *INDEPENDENT)
        self.letters = letters_of(config.scripts)


@functools.lru_cache(maxsize=1)
def _tools(plan: Plan, stamps: tuple[tuple[int, int] | None, ...]) -> Tools:
    return Tools(plan)


# What takes long to load outlives a plan; a file that has changed is loaded again.
@functools.lru_cache(maxsize=1)
def _encoder(model: str, stamp: tuple[int, int] | None) -> Encoder:
    return Encoder(model)


@functools.lru_cache(maxsize=1)
def _vocabulary(model: str, stamp: tuple[int, int] | None) -> dict[str, int]:
    spec = read_json(Path(model) / "tokenizer.json")
    return spec["model"]["vocab"] | {t["content"]: t["id"] for t in spec["added_tokens"]}


@functools.lru_cache(maxsize=1)
def _tagger(pair: str, stamp: tuple[int, int] | None) -> "Tagger":
    from espnet_plugin.text.tags import Tagger

    return Tagger.load(pair)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file; None where there is none."""
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None


def letters_of(scripts: tuple[str, ...]) -> "regex.Pattern[str] | None":
    """Return a pattern of the letters of some scripts, or None for those of any.

    Raises:
        ValueError: If a script has no such name.
    """
    if not scripts:
        return None
    for script in scripts:
        try:
            regex.compile(rf"\p{{Script={script}}}")
        except regex.error:
            common = ("Latin", "Han", "Tamil", "Arabic", "Devanagari", "Cyrillic", "Hiragana")
            raise ValueError(
                f"scripts: Unicode has no script '{script}'{nearest(script, common)}; there are "
                f"{', '.join(common)}, ..."
            ) from None
    inside = "".join(rf"\p{{Script={script}}}" for script in scripts)
    return regex.compile(rf"[[{inside}]&&\p{{L}}]", regex.V1)
