"""What a training is made of: settings, and the content of its start and its data.

Paths alone would not tell that a set was formatted again, a text prepared anew or a model imported
in another's place, and a finished system would be taken for one that was made from them.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import read_json, write_json
from espnet_plugin.checkpoint.layout import model_layout
from espnet_plugin.checkpoint.places import Reader
from espnet_plugin.finish import is_finished
from espnet_plugin.text_store.store import MANIFEST

PLAN = "plan.json"
CONTENT = "content"  # in it: hash by option
BEGUN = 256  # bytes of each tensor that tell one model from another
# of a set, what is trained on
TABLES = ("text", "utt2lang", "utt2num_samples", "utt2crc32", "utt2times")
DEVICES = {"ngpu", "multiprocessing_distributed"}  # options that say what a run computes on
# The configuration is told by its text; the others do not decide the result.
NOT_COMPARED = {"config", "output_dir", "keep_checkpoints", CONTENT, *DEVICES}
SHOWN = 60  # characters of a value that a message shows


def model_content(path: Path) -> str:
    """Return a hash of the beginning of each tensor of a model directory.

    A whole hash would take a minute for a large model, and other weights are others everywhere.
    """
    digest = hashlib.sha256()
    places = model_layout(path)
    with Reader() as reader:
        for name in sorted(places):
            place = places[name]
            begun = bytearray(min(BEGUN, place.nbytes))
            reader.fill(memoryview(begun), place)
            digest.update(f"{name}\n".encode() + place.head + begun)
    return digest.hexdigest()


def set_content(path: Path) -> str:
    """Return a hash of a formatted set's tables."""
    digest = hashlib.sha256()
    for name in TABLES:
        if (path / name).is_file():
            with open(path / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{name} {found}\n".encode())
    return digest.hexdigest()


def store_content(path: Path) -> str:
    """Return a hash of a token store: of its languages and its shards' hashes."""
    manifest = read_json(path / MANIFEST)
    shards = [shard["sha256"] for shard in manifest["shards"]]
    return hashlib.sha256(" ".join([*manifest["langs"], *shards]).encode()).hexdigest()


# option: the file without which there is nothing yet, and how the rest is hashed
READERS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "init_dir": ("config.json", model_content),
    "train_data": ("wav.scp", set_content),
    "valid_data": ("wav.scp", set_content),
    "train_text": (MANIFEST, store_content),
    "valid_text": (MANIFEST, store_content),
}


def contents(options: Mapping[str, str]) -> dict[str, str]:
    """Return hashes of what is there of a training's start and data, by option.

    Args:
        options: Those of the training entry, by name.
    """
    there = {name: Path(options[name]) for name in READERS if name in options}
    return {
        name: READERS[name][1](path)
        for name, path in there.items()
        if (path / READERS[name][0]).is_file()
    }


def same_run(output_dir: str | Path, plan: dict[str, Any]) -> bool:
    """Tell whether a finished directory was made with this plan; records the plan of a new one.

    A run may go on with another number of GPUs, so those in a plan do not count; nor do paths,
    where the content is known.

    Args:
        output_dir: A system's directory.
        plan: Its options; `contents` in `content`, as far as there is something.

    Raises:
        ValueError: If it was made, or begun, with another plan: nothing is overwritten.
    """
    path = Path(output_dir) / PLAN
    if not path.is_file():
        if is_finished(output_dir):  # its options would not be these
            print(f"{output_dir}: trained apart from the recipe (local/train_*.sh): taken as it is")
            return True
        write_json(path, plan)
        return False
    old = read_json(path)
    known, now = old.get(CONTENT, {}), plan.get(CONTENT, {})
    both = known.keys() & now.keys()
    keys = {*old, *plan} - NOT_COMPARED - both
    differ = [_difference(key, old, plan) for key in sorted(keys) if old.get(key) != plan.get(key)]
    for name in sorted(both):
        if known[name] != now[name]:
            same = old.get(name) == plan.get(name)
            what = f"{plan[name]}, which has changed since" if same else f"was {old.get(name)}"
            differ.append(f"{name}: {what}")
    if differ:
        raise ValueError(
            f"{output_dir} was made with other settings or data ({'; '.join(differ)}): remove it, "
            "or choose another --expdir"
        )
    if now.keys() - known.keys() and not is_finished(output_dir):
        write_json(path, {**old, CONTENT: {**now, **known}})
    return is_finished(output_dir)


def _difference(key: str, old: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    values = [str(made.get(key, "not given")) for made in (plan, old)]
    if any(len(value) > SHOWN or "\n" in value for value in values):
        return key
    return f"{key}: {values[0]}, was {values[1]}"
