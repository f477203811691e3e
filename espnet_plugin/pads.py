"""How much silence each training batch gets: one way for a whole run, or a mixture of two."""

from dataclasses import dataclass
from fractions import Fraction

from espnet_plugin.cli import nearest

PADS = ("batch", "30s")


@dataclass(frozen=True)
class PadMixture:
    """Which padding each step of a run uses.

    Steps of the two kinds are spaced evenly, so which kind a step is follows from its number
    alone: a resumed run, and every rank, finds the same. Step 0 is `30s` where there are any,
    since those need the most memory.

    Attributes:
        share_30s: Share of the batches that are padded to 30 s, 0..1.
    """

    share_30s: Fraction

    @property
    def pads(self) -> tuple[str, ...]:
        """The paddings that occur."""
        return tuple(pad for pad, share in self.shares.items() if share)

    @property
    def shares(self) -> dict[str, Fraction]:
        """The share of each padding."""
        return {"batch": 1 - self.share_30s, "30s": self.share_30s}

    @property
    def main(self) -> str:
        """The padding of most batches (`batch` of two equal ones)."""
        return "30s" if self.share_30s > Fraction(1, 2) else "batch"

    def locate(self, step: int) -> tuple[str, int]:
        """Return the padding of a step (from 0), and how many earlier steps had the same."""
        before, after = (-(-n * self.share_30s // 1) for n in (step, step + 1))
        return ("30s", int(before)) if after > before else ("batch", step - int(before))


def parse_pad(text: str) -> PadMixture:
    """Read `--pad`.

    Args:
        text: `batch`, `30s`, or a mixture with the share of the batches that each gets:
            `batch:0.8,30s:0.2`.

    Raises:
        ValueError: If a name is unknown or repeated, or the shares are not numbers above 0 that
            sum to 1.
    """
    example = "pad is batch, 30s, or a mixture such as batch:0.8,30s:0.2"
    shares: dict[str, Fraction] = {}
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        name, colon, number = part.partition(":")
        if name not in PADS:
            raise ValueError(f"{example}; got '{text}'{nearest(name, PADS)}")
        if name in shares:
            raise ValueError(f"{example}; '{text}' names {name} twice")
        try:
            shares[name] = Fraction(number) if colon else Fraction(1)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{example}; in '{text}' the share '{number}' is no number") from None
        if shares[name] <= 0:
            raise ValueError(f"{example}; in '{text}' the share of {name} is not above 0")
        if not colon and len(parts) > 1:
            raise ValueError(f"{example}; in '{text}' {name} has no share")
    if sum(shares.values()) != 1:
        raise ValueError(
            f"{example}; the shares in '{text}' sum to {float(sum(shares.values())):g}"
        )
    return PadMixture(shares.get("30s", Fraction(0)))
