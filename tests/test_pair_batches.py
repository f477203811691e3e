"""Batches of paired speech: order, paddings, ranks, and what the model is given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.features import N_SAMPLES
from espnet_plugin.pads import parse_pad
from espnet_plugin.pair_batches import PairIterFactory, deal, make_plan, named_tables

BINS = 12 * N_SAMPLES
Seen = list[tuple[str, int, tuple[str, ...]]]


@pytest.fixture(scope="module")
def samples() -> dict[str, int]:
    drawn = np.random.default_rng(0).integers(8_000, N_SAMPLES, 400)
    return {f"u{i:03d}": int(n) for i, n in enumerate(drawn)}


@pytest.fixture(scope="module")
def shape_file(tmp_path_factory: pytest.TempPathFactory, samples: dict[str, int]) -> Path:
    path = tmp_path_factory.mktemp("shapes") / "utt2num_samples"
    path.write_text("".join(f"{u} {n}\n" for u, n in samples.items()))
    return path


class Data:
    """Stands for ESPnet's data set and preprocessor: says the utterance and the pass."""

    turn = -1

    def __getitem__(self, utt: str) -> tuple[str, dict[str, Any]]:
        return utt, {"turn": self.turn}


def collate(items: list[tuple[str, dict[str, Any]]]) -> tuple[list[str], dict[str, Any]]:
    return [utt for utt, _ in items], {"turns": [data["turn"] for _, data in items]}


def make(shape_file: Path, pad: str, kind: str = "numel", **options: Any) -> PairIterFactory:
    mixture, data = parse_pad(pad), Data()
    plans = {p: make_plan(shape_file, p, kind, BINS, {"batch_size": 7}) for p in mixture.pads}
    return PairIterFactory(data, data, plans, mixture, collate, **options)  # type: ignore[arg-type]


def test_tables_without_data_and_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "utt2num_samples"
    for content, said in (
        ("u1 100\nu2 abc\n", f"^{path}:2: 'u2 abc' is no utterance with a number"),
        ("u1 100\nu2\n", f"^{path}:2: 'u2' is no utterance"),
        ("", f"^{path} and the tables beside it give no data: 0 lines found"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=said):
            make_plan(path, "batch", "numel", BINS, {"batch_size": 7})
    path.write_text("u1 100\n")
    empty = pytest.raises(ValueError, match=f"^{path} and .*wav.scp has no samples")
    with empty, named_tables(path):
        raise RuntimeError("dump/wav.scp has no samples")


@pytest.mark.parametrize("kind", ["numel", "sorted", "unsorted", "length"])
@pytest.mark.parametrize("pad", ["batch", "30s", "batch:0.7,30s:0.3"])
def test_the_run_begins_with_the_largest_batches(
    shape_file: Path, samples: dict[str, int], pad: str, kind: str
) -> None:
    factory = make(shape_file, pad, kind, seed=3)
    steps = [b for epoch in range(1, 30) for b in factory.batches_of_epoch(epoch)]

    def bins(step: tuple[str, int, tuple[str, ...]]) -> int:
        longest = max(samples[u] for u in step[2])
        return len(step[2]) * (N_SAMPLES if step[0] == "30s" else longest)

    for name in factory.mixture.pads:
        same = [step for step in steps if step[0] == name]
        assert bins(same[0]) == max(map(bins, same))
        passes = [[u for step in same if step[1] == turn for u in step[2]] for turn in (0, 1, 2)]
        assert all(sorted(utts) == sorted(samples) for utts in passes), "each once a pass"
        assert passes[0] != passes[1]
        again = [step[2] for step in same if step[1] == 1]
        assert len(again) < 3 or again[0] != same[0][2], "in the first pass only"
        if kind == "numel":  # ESPnet closes a batch after the utterance that exceeds the bins
            assert max(map(bins, same)) <= BINS + (N_SAMPLES if name == "batch" else 0)
    share = sum(len(s[2]) for s in steps) / len(samples) / 29
    assert 0.7 < share < 1.5, "an epoch is about a pass"


@settings(deadline=None, max_examples=20)
@given(
    pad=st.sampled_from(["batch", "30s", "batch:0.6,30s:0.4"]),
    seed=st.integers(0, 99),
    each=st.none() | st.integers(1, 90),
    first=st.integers(1, 5),
)
def test_a_resumed_run_sees_what_the_whole_run_saw(
    shape_file: Path, pad: str, seed: int, each: int | None, first: int
) -> None:
    def run(epochs: range) -> list[Seen]:
        factory = make(shape_file, pad, seed=seed, num_iters_per_epoch=each)
        return [list(factory.batches_of_epoch(epoch)) for epoch in epochs]

    whole = run(range(1, first + 2))
    assert whole[first - 1 :] == run(range(first, first + 2))
    assert {len(epoch) for epoch in whole} == {each or len(whole[0])}
    assert len({turn for epoch in whole for _, turn, _ in epoch}) >= 1


def test_seeds_differ(shape_file: Path) -> None:
    one, other = (list(make(shape_file, "batch", seed=s).batches_of_epoch(1)) for s in (0, 1))
    assert one != other and one[0] == other[0] and sorted(one) == sorted(other)


def test_batches_come_with_their_padding_and_their_pass(shape_file: Path) -> None:
    factory = make(shape_file, "batch:0.5,30s:0.5", num_iters_per_epoch=40)
    epoch = factory.build_iter(3)
    found = list(epoch)
    planned = list(factory.batches_of_epoch(3))
    assert len(epoch) == len(found) == 40
    for (ids, batch), (pad, turn, utts) in zip(found, planned, strict=True):
        assert ids == list(utts) and batch["pad"] == pad
        assert set(batch["turns"]) == {turn}
    assert {pad for pad, _, _ in planned} == {"batch", "30s"}


def test_validation_is_the_same_each_time_and_leaves_the_padding_to_the_model(
    shape_file: Path, samples: dict[str, int]
) -> None:
    factory = make(shape_file, "30s", train=False)
    first, second = list(factory.build_iter(1)), list(factory.build_iter(2))
    assert first == second and all("pad" not in batch for _, batch in first)
    assert sorted(u for ids, _ in first for u in ids) == sorted(samples)


def test_ranks_share_each_batch(shape_file: Path) -> None:
    batches = make_plan(shape_file, "30s", "numel", BINS, {"min_batch_size": 3}).batches
    parts = [deal(batches, rank, 3) for rank in range(3)]
    for batch, *shares in zip(batches, *parts, strict=True):
        assert sorted(batch) == sorted(sum(shares, ())) and all(shares)
    with pytest.raises(ValueError, match=r"batch of 2 utterance\(s\), with b, for 3 processes"):
        deal([("a", "c", "d"), ("b", "e")], 0, 3)


@pytest.mark.parametrize("each", [1, 2, 5])
@pytest.mark.parametrize("world", [2, 7, 8])
def test_30s_gives_every_rank_an_utterance_and_no_batch_exceeds_its_bins(
    shape_file: Path, samples: dict[str, int], world: int, each: int
) -> None:
    bins = each * world * N_SAMPLES
    batches = make_plan(shape_file, "30s", "numel", bins, {"min_batch_size": world}).batches
    assert all(deal(batches, rank, world) for rank in range(world))
    assert max(map(len, batches)) <= each * world
    assert all(len(set(batch)) == len(batch) for batch in batches)
    repeated = sum(map(len, batches)) - len(samples)
    assert {u for batch in batches for u in batch} == set(samples)
    assert repeated < world if each == 1 else not repeated
    options = {"min_batch_size": world}
    valid = make_plan(shape_file, "30s", "numel", bins, options, train=False).batches
    assert all(deal(valid, rank, world) for rank in range(world))
    assert sorted(u for batch in valid for u in batch) == sorted(samples), "each counts once"
    assert max(map(len, valid)) <= (each + 1) * world


def test_30s_needs_room_for_an_utterance(shape_file: Path) -> None:
    with pytest.raises(ValueError, match="batch_bins is 479999 .* 30s an utterance takes 480000"):
        make_plan(shape_file, "30s", "numel", N_SAMPLES - 1, {"batch_size": 7})
    with pytest.raises(ValueError, match="for each of 16 processes. Give --batch_bins 7680000 or"):
        make_plan(shape_file, "30s", "numel", 8 * N_SAMPLES, {"min_batch_size": 16})


@pytest.mark.slow
def test_a_run_with_everything_random_can_be_repeated_and_resumed(
    tiny_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    from espnet_plugin.checkpoint import tensor_hashes
    from espnet_plugin.corpora.an4 import NOISES, ROOMS, find_archive, read_members
    from espnet_plugin.task import AsyncSwitchTask
    from espnet_plugin.trainer import AsyncSwitchTrainer
    from tests.fixtures.pairs import write_pairs

    members = read_members(find_archive())
    for kind, names in (("rir", ROOMS), ("noise", NOISES)):
        for name in names:
            (tmp_path / Path(name).name).write_bytes(members[name])
        lines = [f"{tmp_path / Path(name).name}\n" for name in names]
        (tmp_path / f"{kind}.scp").write_text("".join(lines))
    conf = {
        "optim": "adamw",
        "optim_conf": {"lr": 1e-3},
        "scheduler": "freeze",
        "batch_type": "numel",
        "batch_bins": 3 * N_SAMPLES,
        "max_epoch": 2,
        "num_iters_per_epoch": 4,
        "autocast": "none",
        "pad": "batch:0.5,30s:0.5",
        "timestamp_share": 0.5,
        "specaug": "specaug",
        "specaug_conf": {"time_mask_width_range": [0, 10]},
        "rir_scp": str(tmp_path / "rir.scp"),
        "noise_scp": str(tmp_path / "noise.scp"),
        "speech_volume_normalize": 0.7,
        "preprocessor_conf": {
            "data_aug_effects": [[1.0, "speed_perturb", {"factor": 0.9}]],
            "data_aug_prob": 0.5,
        },
    }
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(conf))
    train, valid = write_pairs(tmp_path / "train", 10), write_pairs(tmp_path / "valid", 3, seed=1)

    def run(name: str, *more: str) -> dict[str, str]:
        command = ["--config", str(tmp_path / "conf.yaml"), "--adaptation_stage", "adapt_full"]
        command += ["--init_dir", str(tiny_whisper), "--output_dir", str(tmp_path / name)]
        command += ["--train_data", str(train), "--valid_data", str(valid), *more]
        AsyncSwitchTask.main(cmd=command)
        return tensor_hashes(tmp_path / name)

    whole = run("whole", "--num_workers", "0")
    assert run("workers", "--num_workers", "2") == whole
    assert run("other", "--num_workers", "0", "--seed", "1") != whole
    trained = AsyncSwitchTrainer.train_one_epoch.__func__  # type: ignore[attr-defined]

    def interrupted(cls: Any, *args: Any, **kwargs: Any) -> bool:
        if kwargs["reporter"].get_epoch() == 2:
            raise KeyboardInterrupt
        return bool(trained(cls, *args, **kwargs))

    with monkeypatch.context() as patch:
        patch.setattr(AsyncSwitchTrainer, "train_one_epoch", classmethod(interrupted))
        with pytest.raises(KeyboardInterrupt):
            run("parts", "--num_workers", "0")
    assert run("parts", "--num_workers", "1") == whole
