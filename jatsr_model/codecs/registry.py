"""From a codec's name to its plain facts (``resolve``) and to the codec itself (``load``)."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING, Any

from jatsr_model.codecs.base import Codec
from jatsr_model.codecs.spec import CodecConfig, CodecSpec
from shards.errors import ConfigError
from shards.files import sha256_file

if TYPE_CHECKING:
    from transformers import DacModel

CODECS = ("mdct", "dac-44khz", "dac-44khz-untrained")
UNTRAINED_SEED = 0
DAC_VERSION = 1

# Measured (benchmarks/dac_encode.py): longer windows waste less on context, shorter ones need less
# memory; on a CPU one window already occupies all threads.
_WINDOW_FRAMES = 528
_BATCH_SIZE = {"cpu": 1, "cuda": 16}


def resolve(config: CodecConfig) -> CodecSpec:
    """Decide everything that is left open; builds no network, and for mdct imports no torch.

    Raises:
        ConfigError: an option has an unknown value, does not suit the codec or this machine.
        WeightsError: trained weights are needed and missing, damaged or replaced.
    """
    if config.name not in CODECS:
        raise ConfigError(f"--codec: expected one of {', '.join(CODECS)}, got {config.name!r}")
    if config.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: expected auto, cpu or cuda, got {config.device!r}")
    if config.precision not in ("fp32", "bf16"):
        raise ConfigError(f"--precision: expected fp32 or bf16, got {config.precision!r}")
    if config.name != "dac-44khz" and config.weights is not None:
        raise ConfigError(
            f"--codec-weights: codec {config.name} takes no weights",
            hint="choose --codec dac-44khz, or leave --codec-weights out",
        )
    return _resolve_mdct(config) if config.name == "mdct" else _resolve_dac(config)


def _resolve_mdct(config: CodecConfig) -> CodecSpec:
    from jatsr_model.codecs.mdct import IDENTITY, MdctCodec

    if config.device == "cuda":
        raise ConfigError(
            "--device cuda: codec mdct encodes on the CPU (it needs no accelerator)",
            hint="leave --device out, or choose --codec dac-44khz",
        )
    if config.precision != "fp32":
        raise ConfigError(
            f"--precision {config.precision}: codec mdct has no network to run in it",
            hint="leave --precision out, or choose --codec dac-44khz",
        )
    return CodecSpec(
        name="mdct",
        weights=None,
        device="cpu",
        precision="fp32",
        compile=False,
        identity=dict(IDENTITY),
        sample_rate=MdctCodec.sample_rate,
        hop=MdctCodec.hop,
        latent_dim=MdctCodec.latent_dim,
        projected_dim=0,
        stored_rows=MdctCodec.stored_rows,
        stored_dtype="float16",
        encode_context=MdctCodec.encode_context,
        decode_context=MdctCodec.decode_context,
        window_frames=MdctCodec.window_frames,
        batch_size=MdctCodec.batch_size,
    )


def _resolve_dac(config: CodecConfig) -> CodecSpec:
    # The network's numbers stand here so that planning needs no torch; a test compares them.
    weights, origin = _dac_origin(config)
    device = resolve_device(config.device) if config.here else config.device
    compile_it = config.compile and compiler_found(device)
    numerics = {"device": device, "precision": config.precision, "compiled": compile_it}
    grid = {"sample_rate": 44_100, "hop": 512}
    return CodecSpec(
        name=config.name,
        weights=weights,
        device=device,
        precision=config.precision,
        compile=compile_it,
        identity={
            "name": config.name,
            "version": DAC_VERSION,
            **grid,
            **origin,
            "numerics": numerics,
        },
        sample_rate=44_100,
        hop=512,
        latent_dim=1024,
        projected_dim=72,
        stored_rows=9,
        stored_dtype="uint16",
        encode_context=8,
        decode_context=12,
        window_frames=_WINDOW_FRAMES,
        batch_size=_BATCH_SIZE[device],
    )


def _dac_origin(config: CodecConfig) -> tuple[Any, dict[str, Any]]:
    """The weight file, or None, and what the identity says of the weights."""
    if config.name == "dac-44khz-untrained":
        return None, {"untrained": True, "seed": UNTRAINED_SEED}
    from jatsr_model.codecs.weights import find_weights

    found = find_weights(config.weights)
    return found.path, {"weights_sha256": found.sha256, "weights_layout": found.layout}


def resolve_device(wanted: str) -> str:
    """``cpu`` or ``cuda`` for ``--device``; imports torch only where it has to look.

    Raises:
        ConfigError: ``cuda`` is wanted and there is none.
    """
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise ConfigError(
            "--device cuda: torch sees no CUDA device",
            hint="check `nvidia-smi` and the CUDA build of torch, or use --device cpu",
        )
    return "cpu"


def compiler_found(device: str) -> bool:
    """Whether torch can compile for the device: a C++ compiler, and Triton for CUDA."""
    compiler = shutil.which(os.environ.get("CXX") or "g++") is not None
    triton = importlib.util.find_spec("triton") is not None
    return compiler and (device == "cpu" or triton)


def load(spec: CodecSpec) -> Codec:
    """Build the codec; the weight file must still be the one that was resolved.

    Raises:
        WeightsError: the file changed, is damaged or does not fit.
        EnvironmentFailure: the compiler fails.
    """
    if spec.name == "mdct":
        from jatsr_model.codecs.mdct import MdctCodec

        return MdctCodec()
    from jatsr_model.codecs.dac import DacCodec

    return DacCodec(_dac_network(spec), spec)


def _dac_network(spec: CodecSpec) -> DacModel:
    from jatsr_model.codecs import dac_network
    from jatsr_model.codecs.weights import WeightsError

    shape = dac_network.config_44khz()
    if spec.weights is None:
        return dac_network.build(
            shape, dac_network.untrained_state(shape, spec.identity["seed"]), spec.name
        )
    digest, expected = sha256_file(spec.weights), spec.identity["weights_sha256"]
    if digest != expected:
        raise WeightsError(
            f"{spec.weights} has sha256 {digest}, but the run was planned with {expected}",
            hint="the file differs between machines or changed meanwhile; use one and the same",
        )
    state = dac_network.read_state(spec.weights, spec.identity["weights_layout"], shape)
    return dac_network.build(shape, state, str(spec.weights))
