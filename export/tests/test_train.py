"""Training of the demo model: stages, samples, checkpoints."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import synthetic

EXPORT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXPORT))  # the training scripts are no part of the installed package

from diffbir_export import keys  # noqa: E402
from diffbir_export.weights import CheckpointWeights, check, expected, on_meta  # noqa: E402
from train import __main__ as main  # noqa: E402
from train import features, latents, loop, networks, optim, samples  # noqa: E402
from train.data import Loader, Taught, generator, triples  # noqa: E402
from train.stages import CPU, CUDA, STAGES, Settings  # noqa: E402


@pytest.fixture(scope="module")
def arch(tiny):
    """The smallest networks that the contracts allow, with v-prediction as in the real ones."""
    return replace(tiny, diffusion=networks.load_arch().diffusion)


def taught() -> Taught:
    """Four triples of 160 pixels; the teacher only brightens."""
    clean = np.stack(synthetic())
    return Taught([triples(clean[:, ::4, ::4], clean, np.maximum(clean, 8))])


def drawn() -> samples.Samples:
    """Four pictures, their blurred versions and noisy latents."""
    clean = torch.from_numpy(np.stack(synthetic())).permute(0, 3, 1, 2)
    blurred = torch.nn.functional.avg_pool2d(clean.float(), 5, 1, 2).byte()
    encoded = torch.randn(4, 4, 20, 20, generator=torch.Generator().manual_seed(2))
    return samples.Samples(clean, blurred, encoded, encoded + 0.3 * encoded.flip(0))


def make(name: str, arch, rate: float = 2e-3):
    """A stage small enough for a test, with all it needs."""
    torch.manual_seed(0)
    stage = STAGES[name](arch, Settings(2, 128, rate, ema=0.5), "cpu", 0)
    if name in ("unet", "control"):
        g = torch.Generator().manual_seed(1)
        latent = torch.randn(4, 4, 16, 16, generator=g)
        hint = latent + 0.1 * torch.randn(latent.shape, generator=g)
        stage.bind(latents.Pool(latent, hint), torch.ones(1, 77, arch.unet.context_dim))
    if name == "control":
        torch.manual_seed(0)
        stage.start(networks.UNet(arch.unet).state_dict())
    if name == "decoder":
        stage.start(networks.VAE(arch).decoder, drawn(), features.Features())
    return stage


def run(stage, folder, steps, stop_at=None):
    """Runs to the end, or until `stop_at` more steps are done."""
    left = [stop_at if stop_at is not None else steps]

    def stop():
        left[0] -= 1
        return left[0] < 0

    loader = Loader(taught())
    try:
        return loop.train(stage, folder, loop.Plan(steps=steps, stop=stop), loader)
    finally:
        loader.close()


def steps(stage, batch, count):
    """Takes steps on one batch; loss and parts of each."""
    optimiser = optim.Muon(stage.trained())
    for group in optimiser.param_groups:
        group["lr"] = 1e-3
    for _ in range(count):
        loss, parts = stage.loss(batch, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.detach(), parts


class TestStages:
    @pytest.mark.parametrize("name", ["vae", "cleaner", "unet", "control"])
    def test_steps_lower_the_loss(self, name, arch, monkeypatch):
        monkeypatch.setattr(loop, "WARM_UP", 1)
        stage = make(name, arch, 5e-4)
        batch = (stage.sampler() or (lambda *_: ()))(taught(), 0)
        values = [loss.item() for loss, _parts in steps(stage, batch, 6)]
        assert values[-1] < values[0]

    @pytest.mark.parametrize("name", STAGES)
    def test_a_resumed_run_is_the_same_run(self, name, arch, tmp_path):
        whole = run(make(name, arch), tmp_path / "a", 4)
        part = run(make(name, arch), tmp_path / "b", 4, stop_at=2)
        assert (whole.step, part.step) == (4, 2)
        assert run(make(name, arch), tmp_path / "b", 4).step == 4
        a, b = (loop.read(tmp_path / folder, name) for folder in "ab")
        for key in ("model", "ema"):
            assert all(torch.equal(a[key][k], b[key][k]) for k in a[key])
        assert any(not torch.equal(a["model"][k], a["ema"][k]) for k in a["model"])


class TestDecoder:
    def test_pictures_become_the_teachers(self, arch):
        found = [parts["perceptual"] for _loss, parts in steps(make("decoder", arch), (), 12)]
        assert found[-1] < found[0]

    def test_the_decoder_does_not_train_its_critic(self, arch):
        stage = make("decoder", arch)
        image = torch.zeros(1, 3, 64, 64, requires_grad=True)
        stage.judge(image).mean().backward()
        assert image.grad.abs().sum() > 0
        assert all(p.grad is None for p in stage.model["critic"].parameters())


@pytest.fixture
def command(arch, tmp_path, monkeypatch):
    """The whole command with small networks, crops and budgets; its arguments."""
    (tmp_path / "targets").mkdir()
    np.save(tmp_path / "targets" / "00000.npy", taught().shards[0])
    small = {name: replace(s, batch=2, crop=128) for name, s in CPU.items()}
    monkeypatch.setattr(main, "CPU", small)
    monkeypatch.setattr(main, "CHUNKS", {"cpu": 1})
    monkeypatch.setattr(latents, "CHUNK", 2)
    monkeypatch.setattr(main, "load_arch", lambda: arch)
    monkeypatch.setattr(features.Features, "load", lambda folder: features.Features())
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    argv = ["--out", str(tmp_path / "run"), "--data", str(tmp_path), "--minutes", "0.0001"]
    return main.parser().parse_args(argv)


class TestCommand:
    def test_every_stage_runs_once(self, command):
        for _ in range(2):
            trainer = main.Trainer(command)
            trainer.run()
            trainer.loader.close()
            found = [loop.read(command.out, name)["step"] for name in main.ORDER]
            assert found == [1] * len(main.ORDER)
        assert len(list(command.out.glob("samples_*/*.pt"))) == 1

    def test_without_triples_it_says_how_to_make_them(self, command, tmp_path):
        (tmp_path / "targets" / "00000.npy").unlink()
        with pytest.raises(SystemExit, match=r"train\.targets"):
            main.Trainer(command)


class TestSamples:
    def test_squares_fit_their_latents(self):
        """With latents that are the picture's averages, every square's are still its own."""
        clean = drawn().taught
        small = torch.nn.functional.avg_pool2d(clean.float(), 8)
        pool = samples.Samples(clean, clean, small, small)
        found, cleaned, encoded, sampled = pool.draw(6, 64, generator(0, "x", 0))
        assert found.shape == (6, 3, 64, 64) and torch.equal(found, cleaned)
        assert torch.equal(torch.nn.functional.avg_pool2d(found.float(), 8), encoded)
        assert torch.equal(encoded, sampled)

    def test_equal_crops_equal_samples(self, arch, tmp_path):
        vae = networks.VAE(arch)
        context = torch.ones(1, 77, arch.unet.context_dim)
        denoiser = networks.build_denoiser(arch, networks.UNet(arch.unet).state_dict())
        sampler = networks.Sampler(arch, denoiser, context, 1.0, 2)
        encoder = latents.Encoder(vae, torch.nn.Identity(), "cpu")
        batch = taught().batch(2, 64, generator(0, "x", 0))
        a, b = (samples.Maker(encoder, [sampler])(batch) for _ in "ab")
        assert all(torch.equal(*pair) for pair in zip(a, b, strict=True))
        assert torch.equal(a[0].permute(0, 2, 3, 1), torch.from_numpy(batch[2]))
        torch.save(a, tmp_path / "0.pt")
        assert samples.Samples(*latents.load(tmp_path)).sampled.shape == (2, 4, 8, 8)


class TestSampler:
    def test_an_exact_denoiser_gives_its_picture(self, arch):
        """With v of a known x0 every path of DDIM ends in x0."""
        wanted = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8)
        alphas = torch.from_numpy(networks.alphas_cumprod(arch))

        def exact(x, t, context, hint, strength):
            root, rest = alphas[int(t)].sqrt().item(), (1 - alphas[int(t)]).sqrt().item()
            eps = (x - root * wanted) / rest
            return root * eps - rest * wanted

        sampler = networks.Sampler(arch, exact, torch.ones(1, 77, 8), factor=0.5, steps=6)
        for g in (None, torch.Generator().manual_seed(0)):
            found = sampler.sample(torch.rand(1, 4, 8, 8), torch.randn(1, 4, 8, 8), g)
            assert torch.allclose(found, wanted / 0.5, atol=1e-3)

    def test_timesteps_are_the_spaced_samplers(self, arch):
        sampler = networks.Sampler(arch, None, None, 1.0, 5)
        assert sampler.times == [999, 749, 500, 250, 0]


class TestMuon:
    def test_steps_are_orthogonal(self):
        g = torch.Generator().manual_seed(0)
        values = torch.linalg.svdvals(optim.orthogonal(torch.randn(3, 16, 40, generator=g)))
        assert values.min() > 0.6 and values.max() < 1.3

    def test_narrow_and_flat_weights_are_adams(self):
        assert optim.is_matrix(torch.zeros(16, 16, 3, 3)) and optim.is_matrix(torch.zeros(8, 8))
        assert not optim.is_matrix(torch.zeros(3, 64, 3, 3)) and not optim.is_matrix(torch.zeros(9))

    def test_a_linear_map_is_found(self):
        g = torch.Generator().manual_seed(0)
        wanted, x = torch.randn(12, 20, generator=g), torch.randn(200, 20, generator=g)
        model = torch.nn.Linear(20, 12)
        optimiser = optim.Muon(model)
        for rate in np.geomspace(0.2, 0.002, 200):
            for group in optimiser.param_groups:
                group["lr"] = rate
            error = (model(x) - x @ wanted.T).square().mean()
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
        assert error < 1e-2

    def test_tall_and_wide_kernels_move_alike(self):
        for shape in ((64, 8, 3, 3), (8, 64, 3, 3)):
            layer = torch.nn.Conv2d(shape[1], shape[0], 3, bias=False)
            before = layer.weight.detach().clone()
            optimiser = optim.Muon(layer, decay=0.0)
            optimiser.param_groups[0]["lr"] = 1e-2
            layer.weight.grad = torch.randn(shape)
            optimiser.step()
            moved = (layer.weight - before).square().mean().sqrt().item()
            assert moved == pytest.approx(1e-2 * optim.ADAM_LIKE, rel=0.2)


def test_control_starts_without_any_effect(arch):
    stage = make("control", arch)
    x = torch.randn(2, 4, 8, 8)
    t, context = torch.full((2,), 500.0), stage.context.expand(2, -1, -1)
    with torch.no_grad():
        alone = stage.model.unet(x, t, context, *(torch.zeros(1) for _ in range(13)))
        assert torch.equal(stage.predict(x, t, context, torch.randn(2, 4, 8, 8)), alone)
    assert not any(p.requires_grad for p in stage.model.unet.parameters())


def test_the_schedule_is_the_official_one():
    alphas = networks.alphas_cumprod(networks.load_arch())
    assert len(alphas) == 1000
    assert alphas[0] == pytest.approx(1 - 0.00085) and alphas[-1] == pytest.approx(0.0046601, 1e-4)


def test_a_changed_autoencoder_restarts_what_builds_on_it(arch, tmp_path):
    first = make("unet", arch)
    loop.train(first, tmp_path, loop.Plan(steps=2, parents=(("vae", 1),)))
    again = loop.Run(make("unet", arch), tmp_path, loop.Plan(steps=2, parents=(("vae", 9),)))
    assert again.state.step == 0
    kept = loop.Run(make("unet", arch), tmp_path, loop.Plan(steps=2, parents=(("vae", 1),)))
    assert kept.state.step == 2


def test_checkpoints_have_the_official_keys(arch, tmp_path):
    vae, cleaner = networks.VAE(arch), networks.build_cleaner(arch, "cpu")
    denoiser = networks.build_denoiser(arch, networks.UNet(arch.unet).state_dict())
    files = {}
    for role, state in networks.checkpoints(arch, vae, cleaner, denoiser).items():
        files[role] = tmp_path / f"{role}.safetensors"
        networks_save(state, files[role])
    maps = [(lambda: networks.VAEEncoder(arch.vae, 1.0), keys.vae_map(arch.vae)),
            (lambda: networks.VAEDecoder(arch.vae, 1.0), keys.vae_map(arch.vae)),
            (lambda: networks.Denoiser(arch.unet, arch.control), keys.denoiser_map(arch)),
            (lambda: networks.TextEncoder(arch.text), keys.text_map),
            (lambda: networks.SwinIR(arch.swinir), keys.cleaner_map("cleaner.sr"))]  # fmt: skip
    needed = {}
    for build, key_map in maps:
        needed |= expected(on_meta(build), key_map)
    weights = CheckpointWeights(files)
    for role in files:
        check(weights, role, needed, (), role)


def networks_save(state, path):
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in state.items()}, path)


def test_the_pool_is_scaled_and_does_not_grow(arch, tmp_path):
    sampler = latents.ChunkSampler(64, 0)
    encode = latents.Encoder(networks.VAE(arch), networks.build_cleaner(arch, "cpu"), "cpu")
    limit = latents.Limit(1, 1e9, lambda: False)
    latents.fill(tmp_path, encode, lambda first: iter([sampler(taught(), first)]), limit)
    assert latents.finished(tmp_path)
    pool = latents.Pool(*latents.load(tmp_path))
    assert pool.latents.shape == pool.hints.shape == (latents.CHUNK, 4, 8, 8)
    scaled = pool.scaled(pool.factor())
    assert scaled.latents.std().item() == pytest.approx(1, abs=1e-3)
    a, b = scaled.draw(6, 4, generator(0, "x", 0))
    assert a.shape == b.shape == (6, 4, 4, 4)


def test_every_stage_has_settings():
    assert CPU.keys() == CUDA.keys() == STAGES.keys()
    assert all(s.crop % 128 == 0 for s in (*CPU.values(), *CUDA.values()))
