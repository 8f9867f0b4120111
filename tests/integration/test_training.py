"""The training scripts, run for seconds: what they write is a pipeline that draws."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
safetensors = pytest.importorskip("safetensors.torch")

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "src" / "backend" / "imaging" / "builtin" / "weights"
BRIEFLY = ["--held-out", "8", "--processes", "1", "--minutes", "0.03", "--batch", "2"]

# Rank 0 pulls the first number up and rank 1 pulls the second down; the third is pulled both ways.
PULLING_WORKER = """
import torch
from parallel import Trainer, spend

def work(rank, args):
    numbers = torch.nn.Parameter(torch.zeros(3))
    trainer = Trainer([numbers], 0.1, ema_decay=0.9, weight_decay=0.0)
    pull = torch.tensor([[-1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])[rank]
    for share in spend(args.minutes):
        trainer.step((numbers * pull).sum(), share)
    torch.save(numbers.detach(), args.out / f"{rank}.pt")
"""

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:diffusers|transformers")


@pytest.fixture(scope="module")
def scripts():
    """Import the scripts as they run, from their own folder; leave torch's state as it was."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.syspath_prepend(ROOT / "training")
        names = ("render", "dataset", "encoder", "autoencoder", "denoiser", "evaluate", "parallel")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(scripts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    scripts.render.main(["--count", "48", "--processes", "1", "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def weights(scripts, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    scripts.autoencoder.main(["--data", str(data), "--out", str(folder / "vae"), *BRIEFLY])
    scripts.denoiser.main(
        ["--data", str(data), "--out", str(folder), "--channels", "16", "32", "16", *BRIEFLY]
    )
    return folder


def states(folder):
    """Load what the networks of a pipeline's folder learned, in single precision."""
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    unet = diffusers.UNet2DConditionModel.from_pretrained(
        folder / "unet", torch_dtype=torch.float32
    )
    return {"vae": vae.state_dict(), "unet": unet.state_dict()}


def shift(folder, name):
    """Move one tensor of a network's file by a half, so that a fresh start would show."""
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = safetensors.load_file(path)
    tensors[name] += 0.5
    safetensors.save_file(tensors, path)


def copy(source, target):
    for path in source.rglob("*.*"):
        (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return target


def test_what_was_trained_is_a_pipeline_that_draws(weights):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        weights, local_files_only=True, torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        "red hair, blue background",
        num_inference_steps=2,
        guidance_scale=1.5,
        generator=torch.Generator().manual_seed(1),
    ).images[0]
    assert picture.size == (128, 128)


def test_the_tokenizer_is_the_shipped_one(weights):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        written = (weights / "tokenizer" / name).read_bytes()
        assert written == (SHIPPED / "tokenizer" / name).read_bytes()


def test_no_folder_of_the_maker_is_written_down(weights):
    configs = [*weights.rglob("*.json"), *SHIPPED.rglob("*.json")]
    assert configs
    assert not [path for path in configs if "_name_or_path" in path.read_text()]


def test_the_shipped_folder_holds_the_files_that_training_writes(weights):
    def files(folder):
        return {path.relative_to(folder) for path in folder.rglob("*.*")}

    assert files(SHIPPED) == files(weights)


def test_the_encoder_computes_its_components_and_gives_them_back(scripts, data, weights):
    portraits = scripts.dataset.PortraitSet(data, 8)
    components = scripts.encoder.load_components(portraits, weights / "vae")
    vae = scripts.autoencoder.build(components)
    assert scripts.encoder.disagreement(vae, components, portraits) < 0.02
    for name, value in vars(scripts.encoder.read_encoder(vae)).items():
        assert torch.equal(value, getattr(components, name))


def test_data_without_a_fit_takes_that_of_the_encoder(scripts, data, weights, tmp_path):
    fresh = copy(data, tmp_path / "data")
    (fresh / "components.pt").unlink()
    portraits = scripts.dataset.PortraitSet(fresh, 8)
    taken = scripts.encoder.load_components(portraits, SHIPPED / "vae")
    kept = scripts.encoder.load_components(portraits)
    assert torch.equal(taken.second, kept.second)
    with pytest.raises(SystemExit, match=r"differs by .* from the encoder"):
        scripts.encoder.load_components(portraits, weights / "vae")


def test_denoiser_resumes_from_the_weights_in_its_folder(scripts, data, weights, tmp_path):
    out = copy(weights, tmp_path / "weights")
    shift(out / "unet", "conv_out.bias")
    resume = ["--resume", "--learning-rate", "0", *BRIEFLY]
    scripts.denoiser.main(["--data", str(data), "--out", str(out), *resume])
    before, after = states(weights), states(out)
    before["unet"]["conv_out.bias"] += 0.5
    for part in ("unet", "vae"):
        for name, value in before[part].items():
            assert torch.allclose(after[part][name], value, atol=1e-3), name


def test_decoder_learns_on_from_predictions_and_the_encoder_stays(scripts, data, weights, tmp_path):
    vae = copy(weights, tmp_path / "weights") / "vae"
    shift(vae, "decoder.conv_out.bias")
    resume = ["--resume", "--denoiser", str(weights), "--learning-rate", "1e-4", *BRIEFLY]
    scripts.autoencoder.main(["--data", str(data), "--out", str(vae), *resume])
    before, after = states(weights)["vae"], states(vae.parent)["vae"]
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)
    before["decoder.conv_out.bias"] += 0.5
    for name, value in before.items():
        assert torch.allclose(after[name], value, atol=0.02), name
    assert not torch.equal(
        after["decoder.conv_in.weight"].half(), before["decoder.conv_in.weight"].half()
    )


def test_two_processes_average_their_gradients(scripts, tmp_path, monkeypatch):
    (tmp_path / "pulling_worker.py").write_text(PULLING_WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    worker = importlib.import_module("pulling_worker")
    args = SimpleNamespace(processes=2, threads=1, minutes=0.005, out=tmp_path)
    scripts.parallel.launch(worker.work, args)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(first, second)
    assert first[0] > 0 > first[1]
    assert first[0] == -first[1]
    assert first[2] == 0


def test_a_prediction_without_noise_is_the_latents_themselves(scripts, weights):
    denoiser = scripts.denoiser.Denoiser.load(weights)
    clean = torch.randn(2, 16, 16, 16)
    shown = scripts.evaluate.unseen_portraits(2)
    guessed = denoiser.predict_clean(clean, torch.zeros(2, dtype=torch.long), shown)
    assert (guessed - clean).abs().max() < 0.5


def test_exact_drawings_score_full_marks(scripts):
    shown = scripts.evaluate.unseen_portraits(2)
    images = [scripts.evaluate.draw_rgb(portrait) for portrait in shown]
    references = [scripts.evaluate._alternatives(portrait) for portrait in shown]
    images[1] = images[1] ^ 1  # one off, so that the error is not zero
    images[0] = images[0] ^ 1
    result = scripts.evaluate.score(images, shown, references)
    assert result["mean"] == 1.0
    assert result["psnr"] == pytest.approx(48.1, abs=0.1)
    assert result["clouds"] < 1
