"""Train the text encoder and the denoiser; write a Stable Diffusion pipeline.

    python denoiser.py --data data --out weights --minutes 26

Latents come from the fixed linear encoder (encoder.py), so this can run beside the training of the
decoder; `weights/vae` is needed only at the end.
"""

import argparse
import json
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from dataset import PortraitSet
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from encoder import LATENT_CHANNELS, load_components
from parallel import Trainer, launch, spend
from portraits import Portrait, tokens
from transformers import CLIPTextConfig, CLIPTextModel
from vocabulary import MAX_LENGTH, build_tokenizer, save_tokenizer, vocabulary

TEXT_WIDTH = 128
TIMESTEPS = 1000


def build_text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary()),
            hidden_size=TEXT_WIDTH,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            projection_dim=TEXT_WIDTH,
        )
    )


def build_unet(channels: tuple[int, ...]) -> UNet2DConditionModel:
    """Cross-attention places attributes; `addition_embed_type` also tells every block all of them.

    The last stage works on 4x4 cells, small enough for each to know where in the picture it is.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_scheduler() -> DDIMScheduler:
    """Cosine noise that ends in pure noise, so a picture's flat background is free to change."""
    return DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


@cache
def _signal_shares() -> torch.Tensor:
    return build_scheduler().alphas_cumprod.float()


def signal_and_noise(timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return alpha and sigma of each timestep, shaped to multiply latents."""
    signal = _signal_shares()[timesteps][:, None, None, None]
    return signal.sqrt(), (1 - signal).sqrt()


def to_ids(lines: list[list[str]]) -> torch.Tensor:
    """Look up token names, as the tokenizer does for the captions that they stand for."""
    index = vocabulary()
    ids = torch.zeros(len(lines), MAX_LENGTH, dtype=torch.long)
    for row, names in enumerate(lines):
        line = [1, *(index[name] for name in names), 2]
        ids[row, : len(line)] = torch.tensor(line)
    return ids


def random_wordings(portraits: list[Portrait], rng: Random, unconditional: float) -> torch.Tensor:
    """Word portraits at random: a share empty, a third with attributes left out, half shuffled."""
    return to_ids(
        [
            [] if rng.random() < unconditional else tokens(p, rng, rng.choice((0.0, 0.0, 0.3)))
            for p in portraits
        ]
    )


def sample_timesteps(count: int, noisier: float) -> torch.Tensor:
    """Favour noisy steps, where the caption decides; one in sixteen is pure noise."""
    angle = torch.rand(count).clamp(1e-3, 1 - 1e-3) * torch.pi / 2
    share = torch.atan(noisier * torch.tan(angle)) * 2 / torch.pi
    steps = (share * TIMESTEPS).long().clamp(0, TIMESTEPS - 1)
    return torch.where(torch.rand(count) < 1 / 16, TIMESTEPS - 1, steps)


def face_weights() -> torch.Tensor:
    """Weigh the cells of brows, eyes, mouth and collar more: small, but where people look."""
    weights = torch.ones(16, 16)
    weights[5:16, 4:12] = 2.5
    return weights / weights.mean()


class Denoiser:
    """The networks that are trained together: words to embeddings, noisy latents to velocity."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel):
        self.text_encoder = text_encoder
        self.unet = unet.to(memory_format=torch.channels_last)

    @classmethod
    def build(cls, channels: tuple[int, ...]) -> "Denoiser":
        """Make one with random weights, the same in every process."""
        torch.manual_seed(0)
        return cls(build_text_encoder(), build_unet(channels))

    @classmethod
    def load(cls, folder: Path) -> "Denoiser":
        """Take the networks of a pipeline's folder, in single precision."""
        return cls(
            CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32),
            UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32),
        )

    def parameters(self) -> list[torch.nn.Parameter]:
        """List what both networks learn."""
        return [p for module in (self.text_encoder, self.unet) for p in module.parameters()]

    def velocity(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        """Predict the velocity of noisy latents from the tokens of their captions."""
        words = self.text_encoder(ids).last_hidden_state
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        return self.unet(noisy, timesteps, words).sample

    @torch.no_grad()
    def predict_clean(
        self, clean: torch.Tensor, timesteps: torch.Tensor, portraits: list[Portrait]
    ) -> torch.Tensor:
        """Noise latents to `timesteps` and predict them back from their full captions."""
        alpha, sigma = signal_and_noise(timesteps)
        noisy = alpha * clean + sigma * torch.randn_like(clean)
        ids = to_ids([tokens(portrait) for portrait in portraits])
        return alpha * noisy - sigma * self.velocity(noisy, timesteps, ids)


def velocity_loss(
    denoiser: Denoiser, clean: torch.Tensor, ids: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Noise latents and compare the velocity predicted with the true one."""
    alpha, sigma = signal_and_noise(timesteps)
    noise = torch.randn_like(clean)
    velocity = denoiser.velocity(alpha * clean + sigma * noise, timesteps, ids)
    error = (velocity - (alpha * noise - sigma * clean)).square()
    # Velocity error is (1 + SNR) times the error in the picture; beyond SNR 4 it is noise
    # estimation that counts for little, so the weight stops growing there.
    snr = (alpha / sigma).square()
    return (error * face_weights() * ((1 + snr.clamp(max=4)) / (1 + snr))).mean()


def train(rank: int, args: argparse.Namespace) -> None:
    """Train within the time budget; rank 0 reports, and writes the pipeline at the end."""
    portraits = PortraitSet(args.data, args.held_out)
    components = load_components(portraits)
    denoiser = Denoiser.load(args.out) if args.resume else Denoiser.build(tuple(args.channels))
    trainer = Trainer(denoiser.parameters(), args.learning_rate, ema_decay=0.998)
    torch.manual_seed(100 + rank)
    rng, wordings = np.random.default_rng(rank), Random(rank)
    average = None
    for share in spend(args.minutes):
        images, shown = portraits.batch(args.batch, rng)
        ids = random_wordings(shown, wordings, args.unconditional)
        loss = velocity_loss(
            denoiser, components(images), ids, sample_timesteps(args.batch, args.noisier)
        )
        norm = trainer.step(loss, share)
        average = loss.item() if average is None else 0.97 * average + 0.03 * loss.item()
        if rank == 0 and (trainer.step_count == 1 or trainer.step_count % 50 == 0):
            print(
                f"step {trainer.step_count} {share:.0%} loss {average:.4f} gradient {norm:.2f}",
                flush=True,
            )
    if rank == 0:
        trainer.use_ema()
        save_pipeline(args.out, denoiser)
        pictures = trainer.step_count * args.batch * args.processes
        print(f"{trainer.step_count} steps, {pictures} pictures", flush=True)


def save_pipeline(out: Path, denoiser: Denoiser) -> None:
    """Write the pipeline in half precision, with the trained autoencoder from the same folder.

    The text encoder stays in single precision: unlike diffusers, transformers loads in the
    precision it finds, and a pipeline of both does not run.
    """
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(out / "vae").half(),
        text_encoder=denoiser.text_encoder.eval(),
        tokenizer=build_tokenizer(),
        unet=denoiser.unet.eval().half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out)
    save_tokenizer(out / "tokenizer")
    index = out / "model_index.json"
    index.write_text(index.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    for part in ("vae", "unet"):
        forget_path(out / part)


def forget_path(folder: Path) -> None:
    """Take the folder that a network was once loaded from out of its configuration."""
    config = folder / "config.json"
    values = json.loads(config.read_text())
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("weights"))
    parser.add_argument("--minutes", type=float, default=26)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="threads per process")
    parser.add_argument("--batch", type=int, default=12, help="pictures per process and step")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--channels", type=int, nargs=3, default=[96, 144, 128])
    parser.add_argument("--held-out", type=int, default=128, help="portraits kept from training")
    parser.add_argument(
        "--unconditional", type=float, default=0.08, help="share of empty captions, for guidance"
    )
    parser.add_argument(
        "--noisier", type=float, default=2.0, help="how far training favours noise; 1 is uniform"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the weights in --out; take a lower --learning-rate",
    )
    args = parser.parse_args(argv)
    # Before the processes start, so that they share the fit.
    load_components(PortraitSet(args.data, args.held_out), args.out / "vae")
    launch(train, args)


if __name__ == "__main__":
    main()
