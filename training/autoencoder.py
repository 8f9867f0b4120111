"""Make the autoencoder: 128x128 pixels to 16x16x16 latents and back.

    python autoencoder.py --data data --out weights/vae --minutes 17
    python autoencoder.py --resume --denoiser weights --learning-rate 8e-4 --minutes 25

The encoder is fitted, not trained (encoder.py); the decoder is trained. The second form goes on
from the decoder in --out and feeds it what the denoiser predicts as well: the decoder is the last
to see a picture, so it learns to leave the denoiser's small errors out of it.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from dataset import PortraitSet, composite, random_colours
from denoiser import TIMESTEPS, Denoiser, forget_path
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from encoder import (
    CHANNELS,
    LATENT_CHANNELS,
    PatchComponents,
    disagreement,
    load_components,
    wire_encoder,
)
from parallel import Trainer, launch, spend


def build(components: PatchComponents) -> AutoencoderKL:
    """Build the autoencoder with the encoder wired in and the decoder ready to be trained."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=128,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        force_upcast=False,
    )
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):  # residual branches start silent
            torch.nn.init.zeros_(module.conv2.weight)
            torch.nn.init.zeros_(module.conv2.bias)
    wire_encoder(vae, components)
    _prepare_decoder(vae)
    return vae


@torch.no_grad()
def _prepare_decoder(vae: AutoencoderKL) -> None:
    """Let the first channels pass straight through, so colours arrive before training starts."""
    decoder = vae.decoder
    straight = [block.upsamplers[0].conv for block in decoder.up_blocks[:3]]
    straight += [
        module.conv_shortcut
        for module in decoder.modules()
        if isinstance(module, ResnetBlock2D) and module.conv_shortcut is not None
    ]
    for conv in straight:
        conv.weight[:6] = 0
        conv.bias[:6] = 0
        middle = conv.kernel_size[0] // 2
        conv.weight[range(6), range(6), middle, middle] = 1
    conv = decoder.up_blocks[2].upsamplers[0].conv
    conv.weight[-4:] = 0
    conv.bias[-4:] = torch.tensor([4.0, -4.0, 4.0, -4.0])
    decoder.conv_out.weight[:] *= 0.3
    for colour in range(3):
        decoder.conv_out.weight[colour, colour, 1, 1] = 2.0
        decoder.conv_out.weight[colour, colour + 3, 1, 1] = -2.0
    vae.post_quant_conv.weight.zero_()
    vae.post_quant_conv.bias.zero_()
    vae.post_quant_conv.weight[range(LATENT_CHANNELS), range(LATENT_CHANNELS), 0, 0] = 1


@torch.no_grad()
def _point_colours(vae: AutoencoderKL, images: torch.Tensor, latents: torch.Tensor) -> None:
    """Set the straight channels to each cell's mean colour, by least squares from its latent."""
    cells = F.avg_pool2d(images, 8).permute(0, 2, 3, 1).reshape(-1, 3)
    inputs = latents.permute(0, 2, 3, 1).reshape(-1, LATENT_CHANNELS)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    solution = torch.linalg.lstsq(inputs, cells).solution.T
    conv = vae.decoder.conv_in
    conv.weight[:6] = 0
    for sign, start in ((1, 0), (-1, 3)):
        conv.weight[start : start + 3, :, 1, 1] = sign * solution[:, :-1]
        conv.bias[start : start + 3] = sign * solution[:, -1]


def starting_point(
    args: argparse.Namespace, portraits: PortraitSet, components: PatchComponents
) -> AutoencoderKL:
    """Load the autoencoder to go on from, or build one."""
    if args.resume:
        return AutoencoderKL.from_pretrained(args.out, torch_dtype=torch.float32)
    vae = build(components)
    pixels = portraits.training_pixels(256)
    images = composite(pixels, random_colours(len(pixels), np.random.default_rng(0), 0.3))
    _point_colours(vae, images, components(images))
    return vae


@dataclass
class LatentSource:
    """Pairs of latents and the pictures that they should decode to."""

    portraits: PortraitSet
    components: PatchComponents
    noise: float
    denoiser: Denoiser | None
    predicted_share: float

    def batch(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode training portraits; of a share, take what the denoiser predicts instead."""
        predicted = 0
        if self.denoiser is not None:
            predicted = int((rng.random(count) < self.predicted_share).sum())
        images = self.portraits.uncaptioned_batch(count - predicted, rng)
        latents = self.components(images)
        # A little noise makes neighbouring latents decode alike: small errors will not show.
        latents = latents + self.noise * torch.randn_like(latents)
        if self.denoiser is not None and predicted:
            drawn, shown = self.portraits.batch(predicted, rng)
            clean = self.components(drawn)
            guesses = self.denoiser.predict_clean(clean, _late_timesteps(predicted, rng), shown)
            latents, images = torch.cat([latents, guesses]), torch.cat([images, drawn])
        return latents, images


def _late_timesteps(count: int, rng: np.random.Generator) -> torch.Tensor:
    """Choose pure noise half the time: what is guessed there errs most like finished samples."""
    steps = rng.integers(0, TIMESTEPS, count)
    steps[rng.random(count) < 0.5] = TIMESTEPS - 1
    return torch.from_numpy(steps)


def edges(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 on pixels and on their differences keeps flat art flat and its edges sharp.

    The squared error speeds up the start, when whole areas are still off.
    """
    loss = F.l1_loss(output, target) + F.mse_loss(output, target)
    for ours, theirs in zip(edges(output), edges(target), strict=True):
        loss = loss + F.l1_loss(ours, theirs)
    return loss


def decode(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    latents = latents.contiguous(memory_format=torch.channels_last)
    return vae.decoder(vae.post_quant_conv(latents))


@torch.no_grad()
def held_out_psnr(vae: AutoencoderKL, pixels: np.ndarray) -> float:
    """Measure the whole autoencoder, wired encoder included, on portraits kept from training."""
    images = composite(pixels, random_colours(len(pixels), np.random.default_rng(1), 0))
    errors = [
        (vae(batch).sample.clamp(-1, 1) - batch).square().mean((1, 2, 3)) / 4
        for batch in images.split(32)
    ]
    return (-10 * torch.cat(errors).log10()).mean().item()


def train(rank: int, args: argparse.Namespace) -> None:
    """Train the decoder within the time budget; rank 0 reports, and writes it at the end."""
    portraits = PortraitSet(args.data, args.held_out)
    components = load_components(portraits)
    vae = starting_point(args, portraits, components).to(memory_format=torch.channels_last)
    denoiser = Denoiser.load(args.denoiser) if args.denoiser else None
    source = LatentSource(portraits, components, args.latent_noise, denoiser, args.predicted_share)
    trainer = Trainer(
        [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()],
        args.learning_rate,
        ema_decay=0.99,
        betas=(0.9, 0.99),
        weight_decay=0.0,
    )
    if rank == 0:
        off = disagreement(vae, components, portraits)
        print(f"encoder differs from its components by {off:.4f}", flush=True)
    torch.manual_seed(100 + rank)
    rng, running = np.random.default_rng(rank), []
    for share in spend(args.minutes):
        latents, images = source.batch(args.batch, rng)
        output = decode(vae, latents)
        loss = reconstruction_loss(output, images)
        trainer.step(loss, share)
        error = F.mse_loss(output.detach().clamp(-1, 1), images).item() / 4
        running = [*running[-49:], (loss.item(), -10 * np.log10(error))]
        if rank == 0 and (trainer.step_count == 1 or trainer.step_count % 50 == 0):
            mean_loss, psnr = np.mean(running, 0)
            print(
                f"step {trainer.step_count} {share:.0%} loss {mean_loss:.4f}, {psnr:.1f} dB",
                flush=True,
            )
    if rank == 0:
        trainer.use_ema()
        save(args.out, vae)
        psnr = held_out_psnr(vae.float(), portraits.held_out_pixels())
        pictures = trainer.step_count * args.batch * args.processes
        print(
            f"{trainer.step_count} steps, {pictures} pictures; held-out PSNR {psnr:.1f} dB",
            flush=True,
        )


def save(out: Path, vae: AutoencoderKL) -> None:
    """Write the autoencoder in half precision."""
    vae.eval().half().save_pretrained(out)
    forget_path(out)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("weights/vae"))
    parser.add_argument("--minutes", type=float, default=17)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="threads per process")
    parser.add_argument("--batch", type=int, default=4, help="pictures per process and step")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--latent-noise", type=float, default=0.05)
    parser.add_argument("--held-out", type=int, default=128, help="portraits kept from training")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the weights in --out; take a lower --learning-rate",
    )
    parser.add_argument(
        "--denoiser", type=Path, help="pipeline folder whose predictions to learn from as well"
    )
    parser.add_argument(
        "--predicted-share", type=float, default=0.7, help="share of those, with --denoiser"
    )
    args = parser.parse_args(argv)
    # Before the processes start, so that they share the fit.
    load_components(PortraitSet(args.data, args.held_out), args.out if args.resume else None)
    launch(train, args)


if __name__ == "__main__":
    main()
