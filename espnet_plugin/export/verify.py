"""Is an export the model it was made from? Its weights are read back, and its runtime decodes.

The same audio is decoded by this project's own recogniser from the model, and by the target's
runtime from the export, both as `runtimes` says. What is compared are the texts, as users see them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint import Tensors, model_hash, tensor_hashes
from espnet_plugin.export.audio import Clip, clips_hash
from espnet_plugin.export.formats import Percent, Target
from espnet_plugin.score.alignment import align

if TYPE_CHECKING:
    from espnet_plugin.export.runtimes import Settings

SHOWN = 10  # differences that a message shows


@dataclass(frozen=True)
class Difference:
    """An utterance that an export hears otherwise.

    Attributes:
        utt: Its id.
        model: The model's text.
        export: The export's.
    """

    utt: str
    model: str
    export: str


@dataclass(frozen=True)
class Comparison:
    """Texts of an export compared with those of its model.

    Attributes:
        runtime: Name and version of the program that decoded the export.
        utterances: How many.
        words: Words of the model's texts.
        errors: Words that the export substitutes, leaves out or adds.
        differences: The utterances whose texts differ.
    """

    runtime: str
    utterances: int
    words: int
    errors: int
    differences: tuple[Difference, ...]

    @property
    def percent(self) -> Percent:
        """Errors in percent of the words."""
        return 100.0 * self.errors / max(self.words, 1)

    def text(self) -> str:
        """Return it in a few words."""
        if not self.differences:
            return f"identical ({self.words} words)"
        return f"{self.percent:.1f} % of {self.words} words differ"

    def shown(self) -> str:
        """Return the differences for people."""
        lines = []
        for d in self.differences[:SHOWN]:
            lines += [f"  {d.utt}", f"    model:  {d.model}", f"    export: {d.export}"]
        if len(self.differences) > SHOWN:
            lines.append(f"  ... ({len(self.differences)} utterances in all)")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return it for a record."""
        return {
            "runtime": self.runtime,
            "utterances": self.utterances,
            "words": self.words,
            "words_differing": self.errors,
            "percent": round(self.percent, 4),
            "differences": [vars(d) for d in self.differences],
        }


def compare_texts(
    runtime: str, clips: Sequence[Clip], model: Sequence[str], export: Sequence[str]
) -> Comparison:
    """Compare the texts of the same clips, word by word; any other difference counts as one."""
    words = errors = 0
    differences = []
    for clip, one, two in zip(clips, model, export, strict=True):
        words += len(one.split())
        if one != two:
            errors += max(1, align(one.split(), two.split()).errors)
            differences.append(Difference(clip.utt, one, two))
    return Comparison(runtime, len(clips), words, errors, tuple(differences))


def version_of(target: Target) -> str:
    """Return name and version of a target's runtime."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{target.format.runtime} {version(target.format.package)}"
    except PackageNotFoundError:
        return target.format.runtime


@dataclass
class Verifier:
    """Decodes a model once, and any number of its exports.

    Attributes:
        clips: What is decoded.
        max_tokens: The most tokens of a text.
        device: Where to compute.
        tolerance: Words in percent that may differ; None is the format's own.
        log: Told what is done.
    """

    clips: Sequence[Clip]
    max_tokens: int = 224
    device: str = "cpu"
    tolerance: Percent | None = None
    log: Callable[[str], None] = print
    _expected: dict[str, tuple[Settings, list[str]]] = field(default_factory=dict)

    def key(self) -> dict[str, Any]:
        """Return what a result depends on, besides model and export."""
        return {
            "audio_sha256": clips_hash(self.clips),
            "max_tokens": self.max_tokens,
            "device": self.device,
            "tolerance": self.tolerance,
        }

    def expected(self, model_dir: Path) -> tuple[Settings, list[str]]:
        """Return how a model is decoded, and its texts by our own recogniser.

        They are remembered by the model's hash.

        Raises:
            ValueError: There is no audio.
        """
        from espnet_plugin.export.runtimes import Settings, ours

        if not self.clips:
            raise ValueError("there is no audio to verify an export with")
        key = model_hash(tensor_hashes(model_dir))
        if key not in self._expected:
            self.log(f"decode {len(self.clips)} utterances with {model_dir}")
            settings = Settings.of(model_dir, self.max_tokens, self.device)
            self._expected[key] = settings, ours(model_dir, self.clips, settings)
        return self._expected[key]

    def compare(self, model_dir: Path, exported: Path, target: Target) -> Comparison:
        """Decode an export with its runtime and compare its texts with the model's.

        Raises:
            ValueError: The runtime is not installed, or there is no audio.
        """
        from espnet_plugin.export.runtimes import decode

        settings, model = self.expected(model_dir)
        self.log(f"decode the same with {version_of(target)} from {target.title}")
        export = decode(target, exported, self.clips, settings)
        return compare_texts(version_of(target), self.clips, model, export)

    def allowed(self, model_dir: Path, target: Target) -> Percent:
        """Return the words in percent in which an export may differ."""
        if self.tolerance is not None:
            return self.tolerance
        return target.tolerance(place.dtype for place in Tensors(model_dir).places.values())

    def check(self, model_dir: Path, exported: Path, target: Target) -> dict[str, Any]:
        """Verify an export.

        Returns:
            The record of it.

        Raises:
            ValueError: Its texts differ in more words than the format explains.
        """
        found = self.compare(model_dir, exported, target)
        allowed = self.allowed(model_dir, target)
        if found.percent > allowed:
            raise ValueError(
                f"{target.title}, decoded by {found.runtime}, differs from {model_dir} in "
                f"{found.errors} of {found.words} words ({found.percent:.1f} %); {allowed:g} % are "
                f"allowed (--tolerance). Nothing was exported.\n{found.shown()}"
            )
        self.log(f"{target.title}: {found.text()} ({allowed:g} % allowed)")
        if found.differences:
            self.log(found.shown())
        return {**self.key(), "allowed_percent": allowed, **found.as_json()}
