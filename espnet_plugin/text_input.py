"""Reading unpaired text, and the commands of `espnet_plugin.bin.text_corpus`."""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import read_json, sha256_file
from espnet_plugin.prompt import PromptBuilder, parse_lang_tokens
from espnet_plugin.text_store import Line, TextStore, write_store


def read_lines(path: str | Path, lang: str | None = None) -> Iterator[Line]:
    """Read lines of text with their languages, streaming.

    Args:
        path: `.jsonl` with `text` and `lang` on each line; `.txt`, a line each; or a Kaldi
            directory with `text` and `utt2lang`.
        lang: Language of lines that do not carry one.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: Naming file and line: not UTF-8, not JSON, a missing field or language.
    """
    path = Path(path)
    if path.is_dir():
        from espnet_plugin.data import read_table  # strict about order, ids and encoding

        langs = read_table(path / "utt2lang")
        for utt, text in read_table(path / "text").items():
            yield Line(text, langs[utt], f"{path}/text: {utt}")
        return
    if path.suffix not in (".jsonl", ".txt"):
        raise ValueError(f"{path}: text is read from .jsonl, .txt and Kaldi directories")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: recipe stages 1 and 2 make the text")
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            where = f"{path}:{number}"
            try:
                text = raw.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise ValueError(f"{where}: not UTF-8 at byte {error.start} of the line") from error
            if not text:
                continue
            found = lang
            if path.suffix == ".jsonl":
                text, found = _json_line(text, lang, where)
            if found is None:
                raise ValueError(f"{where}: no language: give --lang")
            yield Line(text, found, where)


def _json_line(raw: str, lang: str | None, where: str) -> tuple[str, str | None]:
    try:
        entry = json.loads(raw)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        found = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise ValueError(f'{where}: a line is {{"text": "...", "lang": "..."}}, found {found}')
    return entry["text"], entry.get("lang", lang)


def prepare(
    input: Sequence[str],
    output: str,
    model: str,
    lang_tokens: str = "cs:ms ms:ms en:en",
    text_style: str = "as_is",
    lang: str | None = None,
) -> None:
    """Make a store; one that was made from the same inputs in the same way is kept.

    Raises:
        ValueError: As `read_lines` and `write_store`; an old store stays as it was.
    """
    builder = PromptBuilder(model, parse_lang_tokens(lang_tokens), text_style)
    made_from = {
        "inputs": [_fingerprint(Path(path)) for path in input],
        "lang_tokens": dict(builder.lang_tokens),
        "text_style": text_style,
        "lang": lang,
        "tokenizer": sha256_file(Path(model) / "tokenizer.json"),
    }
    target = Path(output)
    if (target / "manifest.json").is_file():
        old = read_json(target / "manifest.json")
        if old.get("made_from") == made_from:
            TextStore(target).verify()
            print(f"{output}: made earlier from the same text ({old['lines']} lines), kept")
            return
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    lines = (line for path in input for line in read_lines(path, lang))
    manifest = write_store(lines, new, builder, {"made_from": made_from})
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    print(_describe(output, manifest))


def _fingerprint(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {name: sha256_file(path / name) for name in ("text", "utt2lang")}
    return {"name": path.name, "sha256": sha256_file(path)}


def _describe(name: str, manifest: dict[str, Any]) -> str:
    by_lang = ", ".join(f"{lang} {n:,}" for lang, n in manifest["lines_by_lang"].items() if n)
    dropped = ", ".join(f"{reason} {n:,}" for reason, n in manifest["dropped"].items() if n)
    return (
        f"{name}: {manifest['read']:,} lines read = {manifest['lines']:,} kept + "
        f"{manifest['read'] - manifest['lines']:,} dropped{f' ({dropped})' if dropped else ''}; "
        f"{manifest['tokens']:,} tokens; {by_lang}"
    )


def stats(store: Sequence[str]) -> None:
    """Print what stores hold."""
    for path in store:
        print(_describe(path, TextStore(path).manifest))


def sample(store: str, model: str, lines: int = 10, seed: int = 0) -> None:
    """Print some lines of a store, decoded."""
    opened = TextStore(store)
    builder = PromptBuilder(model, {}, opened.manifest["text_style"])
    opened.check(builder)
    for index in random.Random(seed).sample(range(len(opened)), min(lines, len(opened))):
        ids, lang = opened[index]
        print(f"{index}\t{lang}\t{builder.decode(ids.tolist())}")
