"""Random-weight networks of the real classes, small enough for tests."""

from __future__ import annotations

from pathlib import Path


def save_tiny_model(folder: Path) -> None:
    """A Qwen2-Audio of a few thousand random weights, and a byte-level tokenizer for it."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]}
    )
    processor = Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=16), tokenizer)
    shape = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2}
    torch.manual_seed(0)
    config = Qwen2AudioConfig(
        audio_config={**shape, "encoder_ffn_dim": 16, "num_mel_bins": 16},
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "initializer_range": 0.5,
        },
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2AudioForConditionalGeneration(config)
    with torch.no_grad():
        # Strong audio embeddings, so that different sounds give different texts.
        for name, weight in model.named_parameters():
            if "projector" in name:
                weight.mul_(20)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
