"""Tables of Hugging Face's ``datasets``: saved to disk, or on the hub.

What ``save_to_disk`` wrote is read without the package: ``state.json`` lists Arrow streams. A data
set on the hub needs the package: it downloads, in whatever form the set is, and its cache is Arrow
streams again.
"""

from pathlib import Path

from espnet_plugin.checkpoint import read_json
from espnet_plugin.corpora.hub_layout import SPLITS

PREFIX = "hub:"
Tables = list[tuple[Path, str | None]]


def saved_tables(folder: Path) -> Tables:
    """List the tables of a data set that ``save_to_disk`` wrote, with their splits.

    Args:
        folder: Of a ``Dataset`` or a ``DatasetDict``.

    Returns:
        None where it is neither.

    Raises:
        FileNotFoundError: A table that it lists is missing.
        ValueError: It has an index of rows, as old versions of the package wrote it.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = read_json(folder / "dataset_dict.json")["splits"]
        return [
            (path, SPLITS.get(split.lower())) for split in splits for path in _files(folder / split)
        ]
    if (folder / "state.json").is_file():
        split = read_json(folder / "state.json").get("_split")
        return [(path, SPLITS.get(str(split).lower())) for path in _files(folder)]
    return []


def _files(folder: Path) -> list[Path]:
    state = read_json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise ValueError(
            f"{folder}: has an index of rows; save it with a newer version of datasets"
        )
    files = [folder / entry["filename"] for entry in state["_data_files"]]
    for path in files:
        if path.parent != folder:
            raise ValueError(f"{folder}: state.json names {path}, outside of the folder")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; {folder / 'state.json'} lists it")
    return files


def hub_tables(root: str) -> Tables:
    """Download a data set from the hub, into the cache of ``datasets``.

    Args:
        root: ``hub:owner/name`` or ``hub:owner/name:configuration``.

    Raises:
        ValueError: The package is not installed, or the name has another form.
    """
    name, _, configuration = root.removeprefix(PREFIX).partition(":")
    if name.count("/") != 1 or not all(name.split("/")):
        raise ValueError(f"{root}: not {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME:CONFIGURATION")
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError(
            f"{root}: needs Hugging Face's package: pip install datasets; or download the data set "
            "(hf download --repo-type dataset) and give its folder"
        ) from None
    splits = load_dataset(name, configuration or None)
    return [
        (Path(file["filename"]), SPLITS.get(str(split).lower()))
        for split, dataset in splits.items()
        for file in dataset.cache_files
    ]
