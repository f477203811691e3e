"""A field that no record of a file has is the user's mistake: found before the file is read."""

import json
from collections.abc import Collection, Iterable
from pathlib import Path

from espnet_plugin.cli import nearest
from espnet_plugin.text.sources.formats import Format
from espnet_plugin.text.sources.records import SourceSettings
from espnet_plugin.text.sources.streams import iterate_lines

_SHOWN = 20  # field names in a message
_KEPT = 1000  # field names remembered of a file that has any number of them


def wanted_fields(settings: SourceSettings) -> list[str]:
    """List the fields that a file must have; see `SourceSettings`."""
    wanted = [settings.field]
    if settings.lang_field != SourceSettings().lang_field:
        wanted.append(settings.lang_field)
    if settings.source_field is not None:
        wanted.append(settings.source_field)
    return wanted


def check_columns(path: str | Path, columns: Collection[str], settings: SourceSettings) -> None:
    """Check that a table has the fields.

    Raises:
        ValueError: Names the file, the field, the columns and the nearest of them.
    """
    for name in wanted_fields(settings):
        if name not in columns:
            raise ValueError(f"{path}: no column '{name}'{_but(name, columns)}")


def check_json(path: str | Path, file_format: Format, settings: SourceSettings) -> None:
    """Check that some line of a JSON lines file has each field; mostly reads one line.

    A file without any line, or with blank lines only, passes.

    Raises:
        ValueError: Names the file, the field, the fields found and the nearest of them.
    """
    missing = set(wanted_fields(settings))
    found: dict[str, None] = {}
    written = False
    for line in iterate_lines(path, file_format.compression, settings.max_line_bytes):
        if not line.strip():
            continue
        written = True
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            if isinstance(entry.get(settings.field), str):
                missing.discard(settings.field)
            missing -= entry.keys() - {settings.field}
            if len(found) < _KEPT:
                found.update(dict.fromkeys(entry))
        if not missing:
            return
    if not written:
        return
    if not found:
        raise ValueError(f'{path}: no line is a JSON object such as {{"{settings.field}": ...}}')
    name = next(name for name in wanted_fields(settings) if name in missing)
    if name in found:
        raise ValueError(f"{path}: no line has text (a JSON string) in the field '{name}'")
    raise ValueError(f"{path}: no line has the field '{name}'{_but(name, found)}")


def _but(name: str, found: Iterable[str]) -> str:
    names = list(found)
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"{nearest(name, names)}; found: {', '.join(names[:_SHOWN]) or 'none'}{more}"
