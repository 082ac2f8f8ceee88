"""Networks by name: those of published systems, exact to the parameter, and ours.

The published ones come with their defects repaired where that needs no parameter (the scale of
time, padding inside attention); ``legacy=True`` gives the original function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.recipe import MSE, Claim, Preset
from shards.errors import ConfigError


def preset(name: str, *, legacy: bool = False) -> Preset:
    """Look up a preset.

    Raises:
        ConfigError: no such name, or it has no legacy mode.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no network '{name}'", hint="one of " + ", ".join(PRESETS))
    return PRESETS[name].legacy() if legacy else PRESETS[name]


def _jatsr(hidden: int, depth: int, kv_heads: int = 4) -> DiTConfig:
    return DiTConfig(
        latent_dim=1024,
        hidden=hidden,
        depth=depth,
        heads=hidden // 64,
        kv_heads=kv_heads,
        mlp_hidden=4 * hidden,
        dropout=0.1,
        drop_path=0.05,
    )


_V3 = _jatsr(1280, 28)

_SAGA = DiTConfig(
    latent_dim=64,
    hidden=1536,
    depth=24,
    heads=24,
    kv_heads=24,
    mlp="swiglu",
    mlp_hidden=6144,
    patch=1,
    entry="convolution",
    norm="scaled-layer",
    modulation="token",
    time="fourier",
    rotary=32,
    text_dim=768,
    text_kv_heads=12,
    rolloff_dim=768,
)


def _ours(hidden: int, depth: int, kv_heads: int, mlp_hidden: int) -> DiTConfig:
    return DiTConfig(
        latent_dim=72,
        hidden=hidden,
        depth=depth,
        heads=hidden // 64,
        kv_heads=kv_heads,
        mlp="swiglu",
        mlp_hidden=mlp_hidden,
        entry="linear",
        norm="layer",
        modulation="shared",
        qk_norm=True,
        rolloff_dim=256,
        null="learned",
        skip=True,
    )


def _mdct(config: DiTConfig, bottleneck: int) -> DiTConfig:
    return replace(config, latent_dim=512, patch=2, entry="bottleneck", bottleneck=bottleneck)


_ENVELOPE = DiTConfig(
    latent_dim=72,
    hidden=256,
    depth=4,
    heads=4,
    kv_heads=2,
    mlp="swiglu",
    mlp_hidden=768,
    patch=2,
    entry="levels",
    norm="layer",
    modulation="token",
    qk_norm=True,
    rolloff_dim=64,
    band=4,
)
_MDCT_ENVELOPE = replace(
    _ENVELOPE,
    latent_dim=512,
    hidden=160,
    depth=4,
    heads=4,
    kv_heads=1,
    mlp_hidden=320,
    power=4,
    cutoff=True,
)
_envelope = partial(Preset, prediction="envelope", losses={"levels": 1.0}, condition_dropout=0.7)


def _published(
    name: str,
    config: DiTConfig,
    about: str,
    *claims: Claim,
    losses: Mapping[str, float] = MSE,
) -> Preset:
    return Preset(
        name=name,
        config=config,
        space="dac-z",
        about=about,
        claims=claims,
        times="tent",
        losses=losses,
        published=True,
    )


_NOTE = "JaTSR MODEL_V2_IMPROVEMENTS"


def _claim(parameters: float, source: str = "JaTSR README") -> Claim:
    return Claim("parameters", parameters, source)


_MOD1 = {"mse": 1.0, "frequency": 0.15, "multiscale": 0.15}
_MOD2 = {**_MOD1, "consistency": 0.03}
_MOD3 = {"charbonnier": 1.0, "frequency": 0.15, "multiscale": 0.15, "consistency": 0.03}

_ALL = (
    _published("v1", _jatsr(512, 12), "JaTSR, train_ddp_v1", _claim(60e6)),
    _published(
        "v2",
        _jatsr(1024, 16),
        "JaTSR, train_ddp_v2",
        _claim(288e6),
        _claim(230e6, _NOTE),
        Claim("training-bytes", 18e9, _NOTE, seconds=6.0),
    ),
    _published("v3", _V3, "JaTSR, train_ddp_v3", _claim(766e6)),
    _published("v3mod1", _V3, "v3, losses over latent time", _claim(780e6), losses=_MOD1),
    _published("v3mod2", _V3, "v3mod1 and consistency", _claim(766e6), losses=_MOD2),
    _published("v3mod3", _V3, "v3mod2, Charbonnier for MSE", _claim(766e6), losses=_MOD3),
    _published("v3m2", replace(_V3, norm="rms"), "v3 with RMSNorm and condition dropout"),
    Preset(
        name="saga",
        config=_SAGA,
        space="stable-audio",
        about="the size of SAGA-SR: text, two roll-offs, no modulation",
        frame_rate=44_100 / 2048,
        prediction="v",
        published=True,
    ),
    Preset(
        name="xs",
        config=_ours(128, 4, 1, 384),
        space="dac-72",
        about="for trying things out",
    ),
    Preset(
        name="s",
        config=_ours(512, 14, 4, 1280),
        space="dac-72",
        about="the cost of v1: deeper, with roll-offs",
    ),
    Preset(
        name="m",
        config=_ours(1024, 16, 4, 2688),
        space="dac-72",
        about="the cost of v2, with roll-offs",
    ),
    Preset(
        name="l",
        config=replace(_ours(1280, 24, 4, 3200), text_dim=768, text_kv_heads=4, rolloff_dim=768),
        space="dac-72",
        about="the cost of v3, with roll-offs and text",
    ),
    _envelope(
        name="envelope",
        config=_ENVELOPE,
        space="dac-72",
        about="envelopes alone, made to sound in one step",
    ),
    _envelope(
        name="mdct-envelope",
        config=_MDCT_ENVELOPE,
        space="mdct",
        about="the embedded codec, envelopes alone: what comes with jatsr",
    ),
    Preset(
        name="mdct-xs",
        config=_mdct(_ours(128, 4, 1, 384), 128),
        space="mdct",
        about="the embedded codec, for trying things out",
    ),
    Preset(
        name="mdct-s",
        config=_mdct(_ours(384, 10, 2, 1024), 256),
        space="mdct",
        about="the embedded codec, at the cost of s",
    ),
    Preset(
        name="mdct-m",
        config=_mdct(_ours(768, 12, 4, 2048), 512),
        space="mdct",
        about="the embedded codec, at the cost of m",
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({p.name: p for p in _ALL})
