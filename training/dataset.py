"""Read the rendered portraits and put them over flat backgrounds."""

import json
from pathlib import Path

import numpy as np
import torch
from portraits import BACKGROUND, Portrait, from_dict, with_value

BACKGROUND_NAMES = list(BACKGROUND)
BACKGROUND_COLOURS = np.array(
    [[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in BACKGROUND.values()], np.float32
)


def composite(pixels: np.ndarray, colours: np.ndarray) -> torch.Tensor:
    """Put RGBA portraits over flat colours: (batch, 3, 128, 128) in [-1, 1]."""
    rgba = pixels.astype(np.float32)
    alpha = rgba[..., 3:] / 255
    rgb = rgba[..., :3] * alpha + (1 - alpha) * colours[:, None, None]
    return torch.from_numpy(rgb / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


def random_colours(count: int, rng: np.random.Generator, free_share: float) -> np.ndarray:
    """Choose backgrounds: the vocabulary's, and a share of any colour at all."""
    colours = BACKGROUND_COLOURS[rng.integers(0, len(BACKGROUND_COLOURS), count)].copy()
    free = rng.random(count) < free_share
    colours[free] = rng.uniform(0, 255, (int(free.sum()), 3))
    return colours


class PortraitSet:
    """What render.py wrote: pixels, kept on disk, and the attributes that they show.

    The first `held_out` portraits are for measuring and never trained on.
    """

    def __init__(self, folder: Path, held_out: int):
        self.folder = folder
        self.held_out = held_out
        self.pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        self.portraits = [
            from_dict(values) for values in json.loads((folder / "portraits.json").read_text())
        ]
        if not 0 < held_out < len(self.pixels):
            raise SystemExit(f"--held-out {held_out} of {len(self.pixels)} portraits leaves none")

    def training_pixels(self, count: int) -> np.ndarray:
        """Return the first portraits that are trained on, as RGBA."""
        return self.pixels[self.held_out : self.held_out + count]

    def held_out_pixels(self) -> np.ndarray:
        """Return the portraits that are not trained on, as RGBA."""
        return self.pixels[: self.held_out]

    def batch(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, list[Portrait]]:
        """Draw training portraits over backgrounds that the vocabulary can name."""
        chosen = np.sort(rng.integers(self.held_out, len(self.pixels), count))
        behind = rng.integers(0, len(BACKGROUND_NAMES), count)
        shown = [
            with_value(self.portraits[index], "background", BACKGROUND_NAMES[colour])
            for index, colour in zip(chosen, behind, strict=True)
        ]
        return composite(self.pixels[chosen], BACKGROUND_COLOURS[behind]), shown

    def uncaptioned_batch(self, count: int, rng: np.random.Generator) -> torch.Tensor:
        """Draw training portraits, three in ten over colours that have no name."""
        chosen = np.sort(rng.integers(self.held_out, len(self.pixels), count))
        return composite(self.pixels[chosen], random_colours(count, rng, 0.3))
