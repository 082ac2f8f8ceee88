"""Advice after an allocation failed: true by the count, and given only then."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import torch

from jatsr_model.dit import PRESETS, preset
from jatsr_model.dit.measure import TRAINING_BYTES, measure, parameters_by_module
from jatsr_model.training.memory import Load, advice, free_memory, memory_advice, out_of_memory
from shards.errors import EnvironmentFailure, JatsrError

CPU = torch.device("cpu")


def needed(
    name: str, batch: int, frames: int, *, recompute: bool, shards: int = 1, short: float = 1
) -> float:
    cost = measure(preset(name), frames / preset(name).frame_rate)
    crop = cost.recomputed_bytes if recompute else cost.activation_bytes
    return TRAINING_BYTES * cost.parameters / shards + short * batch * crop


def smallest_of(name: str) -> str:
    """The smallest network for the latents of another."""
    sizes = {
        other: sum(parameters_by_module(p.config).values())
        for other, p in PRESETS.items()
        if p.space == preset(name).space
    }
    return min(sizes, key=lambda other: sizes[other])


def followed(text: str, name: str, batch: int, frames: int, *, recompute: bool) -> float:
    """Bytes that are needed by whoever follows a piece of advice."""

    def given(flag: str) -> str | None:
        found = re.search(rf"--{flag} ([\w.-]+)", text)
        return found and found[1]

    return needed(
        given("model") or name,
        int(given("micro-batch") or batch),
        int(given("crop-frames") or frames),
        recompute=recompute or "--recompute" in text,
    )


@pytest.mark.parametrize("name", ["s", "mdct-m"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("share", [0.08, 0.3, 0.7, 0.99])
def test_advice_fits(name: str, share: float, *, recompute: bool) -> None:
    """Whatever part of the memory that is needed there is."""
    free = int(share * needed(name, 24, 1720, recompute=recompute))
    text = advice(Load(preset(name), 24, 1720, recompute), free)
    if "no network" in text:
        smallest = needed(smallest_of(name), 1, 1720, recompute=True)
        assert smallest > 0.9 * free
        assert f"{smallest / 0.9e9:.1f} GB" in text
        return
    assert text.startswith("use --")
    for choice in text.removeprefix("use ").split(", or "):
        assert 0.2 * free < followed(choice, name, 24, 1720, recompute=recompute) <= 0.9 * free


def test_micro_batches_are_the_largest_that_divide_and_fit() -> None:
    for batch in (1, 2, 3, 4, 6, 8, 12):
        free = int(1.001 * needed("s", batch, 1376, recompute=False) / 0.9)
        assert f"use --micro-batch {batch}, or" in advice(Load(preset("s"), 24, 1376, False), free)
        less = int(0.999 * needed("s", batch, 1376, recompute=False) / 0.9)
        assert f"use --micro-batch {batch}," not in advice(Load(preset("s"), 24, 1376, False), less)


def test_each_setting_is_named_when_it_is_its_turn() -> None:
    big = preset("mdct-m")
    alone = needed("mdct-m", 1, 5168, recompute=False)
    recomputed = needed("mdct-m", 1, 5168, recompute=True)
    state = needed("mdct-m", 0, 5168, recompute=True)
    assert advice(Load(big, 1, 5168, False), int(0.99 * alone)) == "use --recompute"
    text = advice(Load(big, 4, 5168, True), int((recomputed + state) / 2 / 0.9))
    found = re.fullmatch(
        r"use --crop-frames (\d+) with --recompute --micro-batch 1 in a new training", text
    )
    assert found
    assert 2300 <= int(found[1]) <= 2584
    assert int(found[1]) % 16 == 0
    assert advice(Load(big, 1, 5168, True), int(0.8 * state)).startswith("use --model mdct-")
    least = int(needed(smallest_of("mdct-m"), 0, 5168, recompute=True))
    assert "no network for these latents fits" in advice(Load(big, 1, 5168, True), least)


def test_ranks_that_share_the_state_need_less() -> None:
    free = int(1.1 * needed("v3", 1, 1376, recompute=False, shards=8))
    assert "--model" in advice(Load(preset("v3"), 8, 1376, False), free)
    assert advice(Load(preset("v3"), 8, 1376, False, shards=8), free).startswith("use --recompute")


def test_channels_count_and_crops_are_advised() -> None:
    free = int(1.001 * needed("s", 8, 1376, recompute=False) / 0.9)
    stereo = Load(preset("s"), 8, 1376, recompute=False, channels=2)
    assert advice(stereo, free).startswith("use --micro-batch 4, or")


def test_a_count_that_fell_short_is_corrected() -> None:
    """By the count everything fits thrice; it did not, so it must be less."""
    free = int(3 * needed("s", 8, 1376, recompute=False))
    assert advice(Load(preset("s"), 8, 1376, False), free).startswith("use --micro-batch 4")


@pytest.mark.parametrize(
    "fail",
    [
        lambda: torch.empty(1 << 50),
        lambda: bytearray(1 << 60),
        lambda: np.empty(1 << 55),
        lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")),
        lambda: _raise(RuntimeError("CUDA error: out of memory")),
        lambda: _raise(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ...")),
    ],
)
def test_failed_allocations_become_advice(fail) -> None:
    load = Load(preset("s"), 8, 1376, recompute=False)
    message = "out of memory on cpu: s with 8 crops"
    with pytest.raises(EnvironmentFailure, match=message) as caught, memory_advice(load, CPU):
        fail()
    assert caught.value.hint.startswith("use --micro-batch")
    assert out_of_memory(caught.value.__cause__)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        JatsrError("out of memory"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_left_alone(error: BaseException) -> None:
    assert not out_of_memory(error)
    load = Load(preset("s"), 8, 1376, recompute=False)
    with pytest.raises(type(error)) as caught, memory_advice(load, CPU):
        raise error
    assert caught.value is error


def test_free_memory_is_no_more_than_there_is() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 100e6 < free_memory(CPU) <= 1.05 * total


def _raise(error: BaseException) -> None:
    raise error
