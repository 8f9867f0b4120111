"""The autoencoder's encoder: not trained, but fitted, and wired into ordinary layers.

It is the principal components of the pictures' 8x8 patches. Latents are therefore known from the
start and cheap to compute, and the denoiser needs no trained autoencoder. The sign of a component
is arbitrary, so the decoder, the denoiser and the shipped encoder must share one fit: it is kept
in the data folder, and read back from an encoder that exists.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from dataset import PortraitSet, composite, random_colours
from diffusers import AutoencoderKL

LATENT_CHANNELS = 16
CHANNELS = (16, 16, 32, 96)

# A group norm between large constants of both signs hardly changes what passes through it, and
# silu(x) - silu(-x) = x: with both, the network's end can be linear.
_CONSTANT = 32.0
# Half precision and the group norm leave 0.007; another fit differs by more than 1.
_AGREEMENT = 0.05


@dataclass
class PatchComponents:
    """The linear encoder: components of 4x4 patches, then of 2x2 blocks of those.

    Each latent channel has zero mean. Their scales follow the square root of the components', so
    fine detail counts for less than colour and shape; together they have unit variance.
    """

    first: torch.Tensor
    first_bias: torch.Tensor
    second: torch.Tensor
    second_bias: torch.Tensor

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Encode (batch, 3, 128, 128) in [-1, 1] as (batch, 16, 16, 16)."""
        half = F.conv2d(images, self.first, self.first_bias, stride=4)
        return F.conv2d(half, self.second, self.second_bias, stride=2)


def load_components(portraits: PortraitSet, vae_folder: Path | None = None) -> PatchComponents:
    """Return the fit that goes with the data, made now if there is none.

    Args:
        portraits: the training set, in whose folder the fit is kept.
        vae_folder: an autoencoder that the latents must suit, if it exists; where the data has no
            fit yet, its encoder is the fit.

    Raises:
        SystemExit: the autoencoder was wired from another fit.
    """
    kept = portraits.folder / "components.pt"
    vae = None
    if vae_folder is not None and (vae_folder / "config.json").exists():
        vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32)
    if kept.exists():
        components = PatchComponents(**torch.load(kept, weights_only=True))
    else:
        components = _fit(portraits) if vae is None else read_encoder(vae)
        torch.save(vars(components), kept)
    if vae is not None:
        difference = disagreement(vae, components, portraits)
        if difference > _AGREEMENT:
            raise SystemExit(
                f"{kept} differs by {difference:.3f} from the encoder in {vae_folder}: "
                "move one of them away"
            )
    return components


@torch.no_grad()
def disagreement(vae: AutoencoderKL, components: PatchComponents, portraits: PortraitSet) -> float:
    """Measure how far an autoencoder's latents lie from those of the components."""
    pixels = portraits.held_out_pixels()[:16]
    images = composite(pixels, random_colours(len(pixels), np.random.default_rng(1), 0.3))
    wired = vae.encode(images).latent_dist.mode()
    return float((wired - components(images)).abs().max())


def _fit(portraits: PortraitSet) -> PatchComponents:
    """Fit the encoder to a thousand portraits."""
    pixels = portraits.training_pixels(1000)
    images = composite(pixels, random_colours(len(pixels), np.random.default_rng(0), 0.2))
    first, first_bias = _principal(images, 4, 16)
    second, second_bias = _principal(
        F.conv2d(images, first, first_bias, stride=4), 2, LATENT_CHANNELS
    )
    std = PatchComponents(first, first_bias, second, second_bias)(images).std((0, 2, 3))
    scale = std.sqrt() / std.sqrt().square().mean().sqrt() / std
    return PatchComponents(
        first, first_bias, second * scale[:, None, None, None], second_bias * scale
    )


def _principal(images: torch.Tensor, size: int, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the components of non-overlapping patches, as a convolution's weight and bias."""
    channels = images.shape[1]
    patches = F.unfold(images, size, stride=size).transpose(1, 2)
    patches = patches.reshape(-1, channels * size * size).double()
    mean = patches.mean(0)
    centred = patches - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    kept = vectors.flip(1)[:, :keep].T
    return kept.reshape(keep, channels, size, size).float(), (-kept @ mean).float()


@torch.no_grad()
def wire_encoder(vae: AutoencoderKL, components: PatchComponents) -> None:
    """Set the encoder's layers so that together they compute the components."""
    encoder, count = vae.encoder, LATENT_CHANNELS
    for parameter in encoder.parameters():
        parameter.zero_()
    for module in encoder.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.weight.fill_(1)
    for colour in range(3):
        encoder.conv_in.weight[colour, colour, 1, 1] = 1
    down = [block.downsamplers[0].conv for block in encoder.down_blocks[:3]]
    for colour, row, column, channel in _quarters():
        down[0].weight[channel, colour, row, column] = 1
        down[1].weight[:16, channel, :2, :2] = components.first[:, colour, row::2, column::2]
    down[1].bias[:16] = components.first_bias
    widen = encoder.down_blocks[2].resnets[0].conv_shortcut
    widen.weight[range(16), range(16), 0, 0] = 1
    down[2].weight[:count, :16, :2, :2] = components.second
    down[2].bias[:count] = components.second_bias
    _wire_ending(vae)


@torch.no_grad()
def _wire_ending(vae: AutoencoderKL) -> None:
    """Carry the latents past the last norm and activation unharmed; make the encoding exact."""
    encoder, count = vae.encoder, LATENT_CHANNELS
    mirror = encoder.down_blocks[3].resnets[0].conv_shortcut
    mirror.weight[range(count), range(count), 0, 0] = 1
    mirror.weight[range(count, 2 * count), range(count), 0, 0] = -1
    constants = CHANNELS[-1] - 2 * count
    mirror.bias[2 * count :: 2] = _CONSTANT
    mirror.bias[2 * count + 1 :: 2] = -_CONSTANT
    gain = _CONSTANT * (constants / CHANNELS[-1]) ** 0.5
    encoder.conv_out.weight[range(count), range(count), 1, 1] = gain
    encoder.conv_out.weight[range(count), range(count, 2 * count), 1, 1] = -gain
    vae.quant_conv.weight.zero_()
    vae.quant_conv.bias.zero_()
    vae.quant_conv.weight[range(count), range(count), 0, 0] = 1
    vae.quant_conv.bias[count:] = -20.0  # the log-variance


def read_encoder(vae: AutoencoderKL) -> PatchComponents:
    """Read the components back from an encoder that `wire_encoder` set."""
    down = [block.downsamplers[0].conv for block in vae.encoder.down_blocks[:3]]
    first = torch.zeros(16, 3, 4, 4)
    for colour, row, column, channel in _quarters():
        first[:, colour, row::2, column::2] = down[1].weight[:16, channel, :2, :2].detach()
    return PatchComponents(
        first,
        down[1].bias[:16].detach().clone(),
        down[2].weight[:LATENT_CHANNELS, :16, :2, :2].detach().clone(),
        down[2].bias[:LATENT_CHANNELS].detach().clone(),
    )


def _quarters() -> list[tuple[int, int, int, int]]:
    """List colour, row, column of 2x2 pixels, and the channel that the first halving puts it in."""
    return [
        (colour, row, column, colour * 4 + row * 2 + column)
        for colour in range(3)
        for row in range(2)
        for column in range(2)
    ]
