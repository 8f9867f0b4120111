"""Measure a pipeline folder, only through diffusers' own classes.

    python evaluate.py references --out references.npy      # exact drawings to compare against
    python evaluate.py score --references references.npy    # do pictures show their captions?
    python evaluate.py schedulers --references references.npy
    python evaluate.py reconstruction --data data           # the autoencoder alone
    python evaluate.py sampler       # does the pipeline agree with a sampler written out here?
    python evaluate.py img2img       # does a picture keep its identity when edited?
    python evaluate.py speed
    python evaluate.py determinism
    python evaluate.py grid --out grid.webp

Accuracy is analysis by synthesis: for each attribute, the generated picture is compared with exact
drawings that differ in that attribute alone; it counts when the nearest is the one asked for.
"""

import argparse
import hashlib
import time
import warnings
from itertools import pairwise
from multiprocessing import Pool
from pathlib import Path
from random import Random

import numpy as np
import torch
from autoencoder import held_out_psnr
from dataset import PortraitSet
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image, ImageDraw, ImageFont
from portraits import ATTRIBUTES, Portrait, caption, draw, draw_rgb, sample_portrait, with_value

CAPTION_SEED = 20777  # training portraits came from seed 1
SCHEDULERS = {
    "DDIM": DDIMScheduler,
    "DPM++ 2M": DPMSolverMultistepScheduler,
    "Euler": EulerDiscreteScheduler,
    "UniPC": UniPCMultistepScheduler,
}
FREE_PROMPTS = (
    "portrait of a friendly librarian with long wavy auburn hair, glasses, green jumper",
    "an angry sailor, grey hair, full beard, navy background, wearing a white t-shirt",
    "astrophysicist, dark skin, black hair in a bun, smiling, purple dress, yellow backdrop",
    "blond-haired barista with a moustache, winking, wearing an orange shirt, blue background",
)


def unseen_portraits(count: int) -> list[Portrait]:
    rng = Random(CAPTION_SEED)
    return [sample_portrait(rng) for _ in range(count)]


def load(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, local_files_only=True, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeds(first: int, count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def sample(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    steps: int,
    guidance: float,
    batch: int = 8,
) -> np.ndarray:
    """Generate a picture a prompt, seeded by its index: (count, 128, 128, 3) uint8."""
    images = []
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        images += pipeline(
            some,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=seeds(start, len(some)),
        ).images
    return np.stack([np.asarray(image) for image in images])


def _alternatives(portrait: Portrait) -> np.ndarray:
    return np.stack(
        [
            draw_rgb(with_value(portrait, attribute, value))
            for attribute, table in ATTRIBUTES.items()
            for value in table
        ]
    )


def score(images: np.ndarray, portraits: list[Portrait], references: np.ndarray) -> dict:
    """Compare pictures with the drawings that they should be.

    Args:
        images: (count, 128, 128, 3) uint8.
        portraits: what was asked for, one a picture.
        references: every drawing that differs from a portrait in one attribute alone, in the
            order of ATTRIBUTES: (count, 55, 128, 128, 3) uint8.

    Returns:
        The share of pictures that show each attribute; "mean" of those; "psnr" to the exact
        drawing in dB; "clouds", the standard deviation within the flat background, of 255.
    """
    hits: dict[str, list[bool]] = {attribute: [] for attribute in ATTRIBUTES}
    psnr, clouds = [], []
    for image, portrait, drawings in zip(images, portraits, references, strict=False):
        errors = np.square(drawings.astype(np.float32) - image).mean((1, 2, 3))
        start = 0
        for attribute, table in ATTRIBUTES.items():
            best = list(table)[int(errors[start : start + len(table)].argmin())]
            hits[attribute].append(best == getattr(portrait, attribute))
            start += len(table)
        error = np.square(draw_rgb(portrait).astype(np.float32) - image).mean()
        psnr.append(10 * np.log10(255**2 / error))
        behind = np.asarray(draw(portrait))[..., 3] == 0
        clouds.append(image[behind].astype(np.float32).std(0).mean())
    return {
        **{attribute: float(np.mean(found)) for attribute, found in hits.items()},
        "mean": float(np.mean([np.mean(found) for found in hits.values()])),
        "psnr": float(np.mean(psnr)),
        "clouds": float(np.mean(clouds)),
    }


def show(label: str, result: dict) -> None:
    values = " ".join(
        f"{name} {value:.2f}" if value <= 1 else f"{name} {value:.1f}"
        for name, value in result.items()
    )
    print(f"{label}: {values}", flush=True)


def run_references(args: argparse.Namespace) -> None:
    with Pool(args.threads) as pool:
        np.save(args.out, np.stack(pool.map(_alternatives, unseen_portraits(args.count), 4)))


def run_score(args: argparse.Namespace) -> None:
    _score_settings(load(args.weights), args, "")


def run_schedulers(args: argparse.Namespace) -> None:
    pipeline = load(args.weights)
    config = pipeline.scheduler.config
    for name, scheduler in SCHEDULERS.items():
        pipeline.scheduler = scheduler.from_config(config)
        _score_settings(pipeline, args, f"{name}, ")


def _score_settings(
    pipeline: StableDiffusionPipeline, args: argparse.Namespace, label: str
) -> None:
    portraits = unseen_portraits(args.count)
    references = np.load(args.references, mmap_mode="r")
    for steps in args.steps:
        for guidance in args.guidance:
            images = sample(pipeline, [caption(p) for p in portraits], steps, guidance)
            show(f"{label}{steps} steps, guidance {guidance}", score(images, portraits, references))


@torch.no_grad()
def run_reconstruction(args: argparse.Namespace) -> None:
    pixels = PortraitSet(args.data, args.count).held_out_pixels()
    print(f"held-out PSNR {held_out_psnr(load(args.weights).vae, pixels):.2f} dB")


@torch.no_grad()
def plain_sampler(
    pipeline: StableDiffusionPipeline, prompt: str, steps: int, guidance: float, seed: int
) -> np.ndarray:
    """Sample by the training's own equations, without the pipeline or its scheduler."""

    def encode(text: str) -> torch.Tensor:
        ids = pipeline.tokenizer(
            text,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
            max_length=pipeline.tokenizer.model_max_length,
        ).input_ids
        return pipeline.text_encoder(ids).last_hidden_state

    words = torch.cat([encode(""), encode(prompt)])
    signal = pipeline.scheduler.alphas_cumprod
    latents = torch.randn(
        1, pipeline.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(seed)
    )
    times = [round(1000 * (1 - i / steps)) - 1 for i in range(steps)] + [-1]
    for now, then in pairwise(times):
        a, b = signal[now], signal[then] if then >= 0 else torch.tensor(1.0)
        nothing, asked = pipeline.unet(latents.repeat(2, 1, 1, 1), now, words).sample.chunk(2)
        velocity = nothing + guidance * (asked - nothing)
        clean = a.sqrt() * latents - (1 - a).sqrt() * velocity
        noise = a.sqrt() * velocity + (1 - a).sqrt() * latents
        latents = b.sqrt() * clean + (1 - b).sqrt() * noise
    pixels = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    return ((pixels[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def run_sampler(args: argparse.Namespace) -> None:
    pipeline = load(args.weights)
    for steps in args.steps:
        worst = 0
        for index, portrait in enumerate(unseen_portraits(4)):
            theirs = pipeline(
                caption(portrait),
                num_inference_steps=steps,
                guidance_scale=2.0,
                generator=seeds(index, 1),
            ).images[0]
            ours = plain_sampler(pipeline, caption(portrait), steps, 2.0, index)
            worst = max(worst, int(np.abs(np.asarray(theirs).astype(int) - ours).max()))
        print(f"{steps} steps: largest difference {worst}/255")


def run_img2img(args: argparse.Namespace) -> None:
    """Start from exact drawings and ask for a new expression, in full or by that word alone."""
    pipeline = StableDiffusionImg2ImgPipeline(
        **load(args.weights).components, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    rng = Random(5)
    bases = unseen_portraits(args.count)
    asked = [
        with_value(
            p,
            "expression",
            rng.choice([e for e in ATTRIBUTES["expression"] if e != p.expression]),
        )
        for p in bases
    ]
    with Pool(args.threads) as pool:
        references = pool.map(_alternatives, asked, 4)
    drawings = [Image.fromarray(draw_rgb(p)) for p in bases]
    for strength in (0.3, 0.6, 0.8):
        for wording, prompts in (
            ("full caption", [caption(p) for p in asked]),
            ("expression only", [p.expression for p in asked]),
        ):
            images = [
                pipeline(
                    prompt,
                    image=drawing,
                    strength=strength,
                    num_inference_steps=args.steps[0],
                    guidance_scale=args.guidance[0],
                    generator=seeds(index, 1)[0],
                ).images[0]
                for index, (drawing, prompt) in enumerate(zip(drawings, prompts, strict=True))
            ]
            pixels = np.stack([np.asarray(image) for image in images])
            show(f"strength {strength}, {wording}", score(pixels, asked, references))


def run_speed(args: argparse.Namespace) -> None:
    pipeline = load(args.weights)
    prompt = caption(unseen_portraits(1)[0])
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for guidance in args.guidance:
            line = []
            for steps in (4, 8, 12, 20):
                times = []
                for seed in range(5):
                    started = time.perf_counter()
                    pipeline(
                        prompt,
                        num_inference_steps=steps,
                        guidance_scale=guidance,
                        generator=seeds(seed, 1),
                    )
                    times.append(time.perf_counter() - started)
                line.append(f"{steps} steps {sorted(times)[2]:.2f}s")
            print(f"{threads} threads, guidance {guidance}: {', '.join(line)}", flush=True)


def run_determinism(args: argparse.Namespace) -> None:
    pipeline, prompts = load(args.weights), [caption(p) for p in unseen_portraits(8)]

    def digests(threads: int) -> tuple[list[str], np.ndarray]:
        torch.set_num_threads(threads)
        images = sample(pipeline, prompts, args.steps[0], args.guidance[0], batch=1)
        return [hashlib.sha256(image.tobytes()).hexdigest() for image in images], images

    one, pixels_one = digests(1)
    again, _ = digests(1)
    two, pixels_two = digests(2)
    two_again, _ = digests(2)
    print(
        f"1 thread twice the same: {one == again}; 2 threads twice the same: {two == two_again}; "
        f"1 and 2 threads the same: {sum(a == b for a, b in zip(one, two, strict=True))}/8, "
        f"largest difference {np.abs(pixels_one.astype(int) - pixels_two).max()}/255"
    )


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def run_grid(args: argparse.Namespace) -> None:
    """Draw 20 full captions and 4 free wordings, the first of each seed, none chosen."""
    prompts = [caption(p) for p in unseen_portraits(20)] + list(FREE_PROMPTS)
    images = sample(load(args.weights), prompts, args.steps[0], args.guidance[0])
    columns, side, text = 6, 256, 58
    rows = -(-len(prompts) // columns)
    sheet = Image.new("RGB", (columns * side, rows * (side + text)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (prompt, image) in enumerate(zip(prompts, images, strict=True)):
        x, y = index % columns * side, index // columns * (side + text)
        sheet.paste(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), (x, y))
        for number, line in enumerate(_wrap(prompt.removeprefix("portrait, "), 40)[:4]):
            pen.text((x + 4, y + side + 1 + 14 * number), line, fill="black", font=font)
    sheet.save(args.out)


COMMANDS = {
    "references": run_references,
    "score": run_score,
    "schedulers": run_schedulers,
    "reconstruction": run_reconstruction,
    "sampler": run_sampler,
    "img2img": run_img2img,
    "speed": run_speed,
    "determinism": run_determinism,
    "grid": run_grid,
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--references", type=Path, default=Path("references.npy"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--steps", type=int, nargs="+", default=[8])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.5])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore", FutureWarning)
    torch.set_num_threads(args.threads)
    COMMANDS[args.command](args)


if __name__ == "__main__":
    main()
