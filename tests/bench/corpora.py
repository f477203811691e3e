"""Throughput and memory of corpus preparation, on a generated tree like the National Speech Corpus.

python -m tests.bench.corpora --utterances 1000000 --nj 2 --folder /tmp/nsc_bench

Half of the utterances are prompted (parts 1 and 2: a zip and a script a speaker), half are
intervals of conversations (part 4: a WAV and a TextGrid a speaker). The audio is as short as it can
be, because nothing reads it: what is measured is the work on files, transcripts and tables.
"""

import argparse
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.fixtures.nsc import ADDITIONAL, MAIN, long_textgrid, wav_bytes, write, zip_bytes

PER_SCRIPT = 400  # utterances of a prompted speaker
PER_TALK = 300  # intervals of a conversation, one in four a pause
VOCABULARY = 20_000  # made-up words; drawn as unevenly as those of a language are
MALAY = "saya awak kita makan pergi balik rumah kedai hari esok semalam cepat lambat"
ENGLISH = """the and to i you it a so like then of we is that in they not don't it's go one know
think two was for okay because can very i'm what just when people time about twenty there school"""


class Sentences:
    """Random sentences, ten words or so, by Zipf's law."""

    def __init__(self) -> None:
        self._random = random.Random(0)
        letters = "abcdefghijklmnopqrstuvwxyz"
        made = (
            "".join(self._random.choices(letters, k=self._random.randint(3, 9)))
            for _ in range(VOCABULARY)
        )
        self._words = [*ENGLISH.split(), *made]
        self._weights = list(itertools.accumulate(1 / n for n in range(1, len(self._words) + 1)))

    def draw(self, mixed: bool) -> str:
        """Return a sentence; of the mixed ones six of ten have a Malay phrase."""
        chance = self._random
        words = chance.choices(self._words, cum_weights=self._weights, k=chance.randint(4, 16))
        if mixed and chance.random() < 0.6:
            place = chance.randrange(len(words))
            words[place:place] = [f"<malay>{' '.join(chance.choices(MALAY.split(), k=3))}</malay>"]
        if mixed and chance.random() < 0.4:
            words.append(chance.choice(["[lah]", "(ppb)", "(uh)", "#Bukit Timah#"]))
        return " ".join(words)


def build(root: Path, utterances: int) -> int:
    """Generate the tree, and return how many utterances it has."""
    sentences = Sentences()
    made = 0
    short = wav_bytes(0.01)
    speaker = 0
    while made < utterances // 2:
        part, name = 1 + speaker % 2, f"{speaker:04d}"
        channel = root / MAIN / f"PART{part}/DATA/CHANNEL0"
        ids = [f"0{name}0{n:03d}" for n in range(PER_SCRIPT)]
        lines = (f"{i}\tPrompt.\r\n\t{sentences.draw(False)}\r\n" for i in ids)
        write(channel / f"SCRIPT/0{name}0.TXT", "\ufeff" + "".join(lines))
        members = {f"SPEAKER{name}/SESSION0/{i}.WAV": short for i in ids}
        write(channel / f"WAVE/SPEAKER{name}.zip", zip_bytes(members, stored=True))
        speaker, made = speaker + 1, made + PER_SCRIPT
    room = root / ADDITIONAL / "PART4/Codeswitching"
    # a header that announces an hour; the samples are a hole in the file
    header = wav_bytes(0.01)[:4] + (36 + 115_200_000).to_bytes(4, "little") + wav_bytes(0.01)[8:40]
    header += (115_200_000).to_bytes(4, "little")
    while made < utterances:
        stem = f"sur_{speaker // 2:04d}_{speaker:04d}_phns_cs-mly"
        intervals, at = [], 0.0
        for n in range(PER_TALK):
            text = "<S>" if n % 4 == 3 else sentences.draw(True)
            intervals.append((round(at, 3), round(at + 3.5, 3), text))
            at += 3.5
        write(room / f"Same Room Scripts/{stem}.TextGrid", long_textgrid(intervals))
        with open(write(room / f"Same Room Audio/{stem}.wav", header), "r+b") as file:
            file.truncate(len(header) + 115_200_000)
        speaker, made = speaker + 1, made + PER_TALK * 3 // 4
    return made


def main() -> None:
    """Build, prepare in a process of its own, and print what it took."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--utterances", type=int, default=20_000)
    options.add_argument("--nj", type=int, default=2)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--keep", action="store_true", help="keep the generated tree")
    args = options.parse_args()
    root = args.folder / "tree"
    if not root.exists():
        print(f"{build(root, args.utterances)} utterances generated", flush=True)
    shutil.rmtree(args.folder / "data", ignore_errors=True)
    command = [sys.executable, "-m", "espnet_plugin.bin.prepare_corpus", "prepare"]
    command += ["--corpora", "nsc", "--nj", str(args.nj), "--datadir", str(args.folder / "data")]
    start = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"NSC": str(root)})
    seconds = time.perf_counter() - start
    report = json.loads((args.folder / "data/nsc.json").read_text())["report"]
    kept = sum(facts["utterances"] for facts in report["sets"].values())
    read = kept + sum(n for why, n in report["skipped"].items() if "sentence" in why)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    print(f"{read} utterances in {seconds:.1f} s: {read / seconds:.0f} utterances/s")
    print(f"largest process: {peak:.0f} MiB")
    if not args.keep:
        shutil.rmtree(args.folder)


if __name__ == "__main__":
    main()
