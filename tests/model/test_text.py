"""Captions through a real T5 of a few random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_dit import WITH_TEXT, awake, latents

from jatsr_model.dit import Conditions
from jatsr_model.text import GROUP, TextEncoder, find_text_encoder
from shards.errors import ConfigError, EnvironmentFailure

WIDTH = WITH_TEXT.text_dim
WORDS = ["calm", "loud", "piano", "drums", "night", "slow", "fast", "song"]
CAPTIONS = [
    "calm piano",
    "",
    "loud drums fast song",
    "a slow night song " * 8,  # more than 16 tokens
    "  calm piano ",
    "fast " * 200,  # more than there may be
    "Piano: 120 bpm, è",
]


def save_tiny_t5(folder: Path, seed: int = 0) -> Path:
    """Encoder, decoder, and a tokenizer of words and letters that ends captions with </s>."""
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS), "▁"]
    pieces += [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = [(piece, 0.0 if k < 3 else -1.0 - k / 10) for k, piece in enumerate(pieces)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=4, d_ff=16, num_layers=2, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TextEncoder:
    return TextEncoder(folder, width=WIDTH)


def own(encoder: TextEncoder, captions: list[str]) -> list[torch.Tensor]:
    """The states of each caption without padding."""
    text, mask, _ = encoder(captions)
    return [row[on] for row, on in zip(text, mask, strict=True)]


def test_states_are_those_of_the_network(folder: Path, encoder: TextEncoder) -> None:
    from transformers import AutoTokenizer, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = T5EncoderModel.from_pretrained(folder).eval()
    text, mask, has = encoder(CAPTIONS)
    assert text.dtype == torch.float32
    assert text.shape == (len(CAPTIONS), 128, WIDTH)
    assert has.tolist() == [bool(caption) for caption in CAPTIONS]
    assert mask.any(1).tolist() == has.tolist()
    assert not text[~mask].any()
    for row, caption in enumerate(CAPTIONS):
        if not caption:
            continue
        ids = tokenizer(caption.strip(), truncation=True, max_length=128, return_tensors="pt")
        assert ids["input_ids"][0, -1] == tokenizer.eos_token_id
        with torch.no_grad():
            expected = network(**ids).last_hidden_state[0]
        assert mask[row].tolist() == [k < len(expected) for k in range(128)]
        torch.testing.assert_close(text[row, mask[row]], expected, rtol=1e-3, atol=1e-4)
    assert (text[0] - text[2]).abs().max() > 0.1


@given(st.lists(st.sampled_from(CAPTIONS + WORDS + [f"{a} {b}" for a in WORDS for b in WORDS]),
                min_size=1, max_size=2 * GROUP + 3))  # fmt: skip
def test_a_caption_does_not_depend_on_its_neighbours(
    encoder: TextEncoder, captions: list[str]
) -> None:
    """Bit for bit, whether it was met before or not."""
    alone = [own(encoder, [caption])[0] for caption in captions]
    encoder._kept._states.clear()
    encoder._kept._bytes = 0
    for _ in range(2):
        for found, expected in zip(own(encoder, captions), alone, strict=True):
            assert torch.equal(found, expected)


def test_captions_are_computed_once_while_there_is_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = len(own(TextEncoder(folder), [WORDS[0]])[0]) * WIDTH * 2  # bytes of a word
    encoder, computed = TextEncoder(folder, cache_bytes=3 * one), []
    run = encoder._run

    def counted(tokens: Any, length: int) -> torch.Tensor:
        computed.append(len(tokens))
        return run(tokens, length)

    monkeypatch.setattr(encoder, "_run", counted)
    expected = own(encoder, WORDS[:3])
    assert all(map(torch.equal, own(encoder, WORDS[:3]), expected))
    encoder(WORDS[:1] * 5)
    assert computed == [3]
    encoder([WORDS[3]])  # the second word was not used for longest
    encoder([WORDS[0], WORDS[2], WORDS[3]])
    assert computed == [3, 1]
    encoder([WORDS[1]])
    assert computed == [3, 1, 1]
    assert len(encoder(WORDS).text) == len(WORDS)  # more than there is room for
    assert encoder._kept._bytes <= 3 * one
    assert encoder._kept._bytes == sum(s.nbytes for s in encoder._kept._states.values())


def test_few_lengths_of_batches(encoder: TextEncoder) -> None:
    assert [encoder([caption]).text.shape[1] for caption in CAPTIONS[:4]] == [16, 16, 16, 64]
    assert encoder([CAPTIONS[5]]).text.shape[1] == 128
    short = TextEncoder(encoder.folder, max_tokens=20)([CAPTIONS[5], "calm"])
    assert short.text.shape[1] == 20
    assert short.text_mask.sum(1).tolist() == [20, 2]


def test_networks_take_it_and_an_empty_caption_is_none(encoder: TextEncoder) -> None:
    network, noisy, t = awake(WITH_TEXT), latents(2, 8), torch.full((2,), 0.5)
    given = Conditions(low=latents(2, 8, 1))
    with torch.no_grad():
        without = network(noisy, t, given)
        embedded = Conditions(low=given.low, **encoder(["", "loud drums"])._asdict())
        found = network(noisy, t, embedded)
        null = network(noisy, t, embedded.without("text"))
    torch.testing.assert_close(found[0], without[0])
    torch.testing.assert_close(null, without)
    assert (found[1] - without[1]).abs().max() > 1e-3


def test_it_is_frozen_and_leaves_chance_alone(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    encoder = TextEncoder(folder)
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(CAPTIONS)
    assert torch.equal(torch.rand(3), expected)
    assert not found.text.requires_grad
    assert not any(
        p.requires_grad or p.dtype != torch.float32 for p in encoder._network.parameters()
    )
    assert not encoder._network.training
    assert torch.equal(found.text, TextEncoder(folder)(CAPTIONS).text)


def test_identity_is_that_of_the_weights(folder: Path, tmp_path: Path) -> None:
    same = shutil.copytree(folder, tmp_path / "same")
    (same / "README.md").write_text("T5")
    identity = TextEncoder(folder).identity
    assert TextEncoder(same).identity == identity
    other = save_tiny_t5(tmp_path / "other", seed=1)
    assert TextEncoder(other).identity != identity
    assert TextEncoder(folder, max_tokens=64).identity != identity


def test_loading_shows_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    TextEncoder(folder)
    assert capfd.readouterr() == ("", "")


def test_another_width_names_the_flag(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--text-encoder(.|\n)*8 wide, the network takes(.|\n)*768"
    ):
        TextEncoder(folder, width=768)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_not_found(folder: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "t5")
    assert find_text_encoder(copy) == copy
    (copy / name).unlink()
    assert find_text_encoder(copy) is None
    with pytest.raises(ConfigError, match=rf"--text-encoder(.|\n)*{name}(.|\n)*hf download"):
        TextEncoder(copy)


def spoil_tensor(folder: Path) -> None:
    """Weights of another network."""
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "block.1" not in k}, folder / "model.safetensors",
              {"format": "pt"})  # fmt: skip


def spoil_numbers(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["encoder.final_layer_norm.weight"][0] = float("nan")
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def spoil_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))


def cut(name: str) -> Any:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (cut("config.json"), "should describe a T5"),
        (cut("tokenizer.json"), "cannot be loaded"),
        (cut("model.safetensors"), "cannot be loaded"),
        (spoil_tensor, "lack"),
        (spoil_numbers, "not finite"),
        (spoil_kind, "'bert'"),
    ],
)
def test_damage_is_told(folder: Path, tmp_path: Path, spoil: Any, match: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "t5")
    spoil(copy)
    with pytest.raises(ConfigError, match=rf"--text-encoder(.|\n)*{match}"):
        TextEncoder(copy)(["calm"])


def into_cache(folder: Path, cache: Path, name: str) -> Path:
    """As the hub's client lays out a repository."""
    repository = cache / ("models--" + name.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    return shutil.copytree(folder, repository / "snapshots" / "abc123")


def test_a_name_is_looked_up_in_the_cache_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    for name in ("tiny/t5", "/nowhere/at/all", "no such name"):
        assert find_text_encoder(name) is None
        with pytest.raises(ConfigError, match=f"--text-encoder {name}"):
            TextEncoder(name)
    cached = into_cache(folder, tmp_path, "tiny/t5")
    assert find_text_encoder("tiny/t5") == cached
    assert TextEncoder("tiny/t5", download=True).identity == TextEncoder(folder).identity


def test_a_download_has_to_be_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(name: str, allow_patterns: list[str]) -> str:
        if name == "tiny/none":
            raise ConnectionError("no route")
        assert not any(Path("pytorch_model.bin").match(pattern) for pattern in allow_patterns)
        return str(into_cache(folder, tmp_path, name))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(ConfigError):
        TextEncoder("tiny/t5")
    assert TextEncoder("tiny/t5", download=True)(["calm"]).has_text.all()
    with pytest.raises(EnvironmentFailure, match="no route"):
        TextEncoder("tiny/none", download=True)
