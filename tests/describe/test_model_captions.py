"""The captioning model's real code path with a tiny network, its cache, and clips."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tiny_models import save_tiny_model

from pipeline.captions.clip import CLIP_RATE, middle_clip
from pipeline.captions.model import PROMPT, AudioCaptioner
from pipeline.captions.run import CaptionCache, caption_tracks
from shards.errors import ConfigError, TrackError

Clip = NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_tiny_model(path)
    return path


@pytest.fixture(scope="module")
def captioner(folder: Path) -> AudioCaptioner:
    return AudioCaptioner(folder, batch_size=3, max_new_tokens=12)


def sounds() -> list[Clip]:
    generator = np.random.default_rng(0)
    time = np.arange(CLIP_RATE * 4) / CLIP_RATE
    return [
        generator.standard_normal(CLIP_RATE * 2).astype(np.float32) * 0.3,
        np.sin(2 * np.pi * 300 * time).astype(np.float32),
        generator.standard_normal(CLIP_RATE * 31).astype(np.float32) * 0.01,
        np.sin(2 * np.pi * 3000 * time[:900]).astype(np.float32),
        np.zeros(CLIP_RATE, np.float32),
    ]


def test_captions_do_not_depend_on_the_batch(captioner: AudioCaptioner) -> None:
    clips = sounds()
    together = captioner.caption(clips)
    assert len(together) == len(clips)
    assert len(set(together)) > 1
    assert together == [captioner.caption([clip])[0] for clip in clips]
    assert together == captioner.caption(clips[::-1])[::-1]
    assert captioner.caption([]) == []


def test_agrees_with_the_library_called_by_hand(folder: Path, captioner: AudioCaptioner) -> None:
    import torch
    from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder)
    model = Qwen2AudioForConditionalGeneration.from_pretrained(folder).eval()
    clip = sounds()[1]
    inputs = processor(text=PROMPT, audio=[clip], sampling_rate=16000, return_tensors="pt")
    tokens = inputs["input_ids"]
    audio = {k: inputs[k] for k in ("input_features", "feature_attention_mask")}
    new: list[int] = []
    with torch.no_grad():  # greedy by hand, without cache and without padding
        for _ in range(12):
            logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **audio).logits
            best = int(logits[0, -1].argmax())
            if best == processor.tokenizer.eos_token_id:
                break
            new.append(best)
            tokens = torch.cat([tokens, torch.tensor([[best]])], dim=1)
    text = processor.tokenizer.decode(new, skip_special_tokens=True)
    from pipeline.captions.text import clean

    assert captioner.caption([clip])[0] == clean(text, 2000)


def test_identity_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    one = AudioCaptioner(folder, max_new_tokens=3).identity
    assert json.loads(json.dumps(one)) == one
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert AudioCaptioner(copy, max_new_tokens=3).identity == one
    assert AudioCaptioner(copy, max_new_tokens=4).identity != one
    weights = copy / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    assert AudioCaptioner(copy, max_new_tokens=3).identity["sha256"] != one["sha256"]


def test_missing_and_foreign_models_name_the_flag(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match="--captions"):
        AudioCaptioner(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="'bert'"):
        AudioCaptioner(tmp_path)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(ConfigError, match="cannot be read"):
        AudioCaptioner(tmp_path)
    shutil.copy(folder / "config.json", tmp_path)  # no weights
    with pytest.raises(ConfigError, match="cannot be loaded"):
        AudioCaptioner(tmp_path)


class Counting:
    """Names a clip by its length; remembers what it was asked."""

    batch_size = 2
    identity: Mapping[str, Any] = {"name": "counting"}

    def __init__(self) -> None:
        self.asked: list[int] = []

    def caption(self, clips: Sequence[Clip]) -> list[str]:
        assert len(clips) <= self.batch_size
        self.asked += [len(clip) for clip in clips]
        return ["" if len(clip) == 99 else f"{len(clip)} samples, é" for clip in clips]


def load(path: Path) -> Clip:
    if path.name == "bad":
        raise TrackError("no audio", stage="decode")
    return np.zeros(int(path.name), np.float32)


def test_tracks_are_captioned_once(tmp_path: Path) -> None:
    cache = CaptionCache(tmp_path / "cache", Counting.identity)
    items = [(name, Path(name)) for name in ("5", "6", "bad", "5", "0", "7", "99")]
    model, done = Counting(), []
    run = caption_tracks(items, model, cache, load=load, progress=done.append)
    assert run.captions == {name: f"{name} samples, é" for name in ("5", "6", "7")}
    assert run.failures == {"bad": "no audio", "0": "0 is too short to be heard"}
    assert (model.asked, run.generated, sum(done)) == ([5, 6, 7, 99], 4, 6)
    again = caption_tracks([*items, ("8", Path("8"))], model, cache, load=load)
    assert model.asked == [5, 6, 7, 99, 8]
    assert again.captions == {**run.captions, "8": "8 samples, é"}
    assert not list(tmp_path.rglob("*.tmp"))


def test_interrupted_run_keeps_what_was_done(tmp_path: Path) -> None:
    class Dying(Counting):
        def caption(self, clips: Sequence[Clip]) -> list[str]:
            if self.asked:
                raise RuntimeError("power cut")
            return super().caption(clips)

    cache = CaptionCache(tmp_path, Counting.identity)
    items = [(name, Path(name)) for name in ("1", "2", "3")]
    with pytest.raises(RuntimeError):
        caption_tracks(items, Dying(), cache, load=load)
    model = Counting()
    assert len(caption_tracks(items, model, cache, load=load).captions) == 3
    assert model.asked == [3]


def test_cache_belongs_to_an_identity_and_survives_damage(tmp_path: Path) -> None:
    cache = CaptionCache(tmp_path, {"name": "a"})
    assert cache.get("t") is None
    cache.put("t", "text")
    assert cache.get("t") == "text"
    assert CaptionCache(tmp_path, {"name": "a"}).get("t") == "text"
    assert CaptionCache(tmp_path, {"name": "b"}).get("t") is None
    (file,) = tmp_path.rglob("t.json")
    for damage in ('{"caption": "te', "[]", '{"caption": "text"}', ""):
        file.write_text(damage)
        assert cache.get("t") is None


@pytest.mark.parametrize(
    ("seconds", "middle"), [(8.0, (0.0, 8.0)), (30.0, (0.0, 30.0)), (50.0, (10.0, 40.0))]
)
def test_middle_clip(tmp_path: Path, seconds: float, middle: tuple[float, float]) -> None:
    """The clip of a rising ramp tells where it was cut."""
    rate = 22050
    ramp = np.linspace(0, 0.9, int(seconds * rate))
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([ramp, ramp], axis=1), rate, subtype="FLOAT")
    clip = middle_clip(path)
    assert clip.dtype == np.float32
    assert len(clip) == pytest.approx((middle[1] - middle[0]) * CLIP_RATE, abs=2)
    inner = clip[2000:-2000]
    at = (np.arange(len(clip))[2000:-2000] / CLIP_RATE + middle[0]) / seconds * 0.9
    np.testing.assert_allclose(inner, at, atol=1e-3)
