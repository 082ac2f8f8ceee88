"""The DAC encoder rearranged for speed: the same weights and sums, another memory layout.

Three things make it faster than the stock module on a CPU, all of them measured by
``benchmarks/dac_encode.py``: one-dimensional convolutions written as two-dimensional ones of
height 1 in channels-last order (the layout the CPU kernels want), the reciprocal inside Snake
computed once, and, in bf16, the squared sine from a short polynomial of its reduced argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shards.errors import EnvironmentFailure

if TYPE_CHECKING:
    from transformers.models.dac.modeling_dac import DacEncoder

# sin(pi r)^2 = q P(q) with q = r^2 and |r| <= 1/2: the Taylor series (1 - cos(2 pi r)) / 2.
# Six terms leave an error below 4e-6, far under the 4e-3 of a bf16 rounding.
_SIN2_TERMS = [
    -((-1.0) ** k) * (2 * math.pi) ** (2 * k) / math.factorial(2 * k) / 2 for k in range(1, 8)
]


def sin2_polynomial(x: Tensor) -> Tensor:
    """``sin(x)^2`` to about 1e-6 (absolute) for moderate ``x``, cheap to vectorise."""
    turns = x * (1 / math.pi)
    q = (turns - torch.round(turns)).square()
    total = torch.full_like(q, _SIN2_TERMS[-1])
    for term in reversed(_SIN2_TERMS[:-1]):
        total = total * q + term
    return total * q


class Snake(nn.Module):
    """``x + sin(alpha x)^2 / alpha`` per channel, computed in float32, returned in ``dtype``."""

    alpha: Tensor
    inverse: Tensor

    def __init__(self, alpha: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        shaped = alpha.detach().float().reshape(1, -1, 1, 1)
        self.register_buffer("alpha", shaped.clone())
        # The original adds 1e-9 before the reciprocal; so must we, to get its bits.
        self.register_buffer("inverse", (shaped + 1e-9).reciprocal())
        self._dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, channels, 1, samples]`` -> the same shape in the layer's dtype."""
        x = x.float()
        if self._dtype is torch.float32:
            return x + self.inverse * torch.sin(self.alpha * x).pow(2)
        return (x + self.inverse * sin2_polynomial(self.alpha * x)).to(self._dtype)


def _flat_conv(conv: nn.Conv1d, dtype: torch.dtype) -> nn.Conv2d:
    """A Conv1d as a Conv2d over images of height 1, weights in channels-last order."""
    with torch.device("meta"):
        flat = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            (1, conv.kernel_size[0]),
            stride=(1, conv.stride[0]),
            padding=(0, int(conv.padding[0])),
            dilation=(1, conv.dilation[0]),
        )
    if conv.bias is None:
        raise ValueError(f"expected a convolution with a bias, not {conv}")
    weight = conv.weight.detach()[:, :, None, :].to(dtype)
    flat.weight = nn.Parameter(weight.clone(memory_format=torch.channels_last), requires_grad=False)
    flat.bias = nn.Parameter(conv.bias.detach().to(dtype).clone(), requires_grad=False)
    return flat


class _Downsample(nn.Module):
    """A convolution of kernel 2s and stride s as one of kernel 2 over groups of s samples.

    In channels-last order the grouping is a view; the CPU kernels run the dense form up to three
    times faster than the strided one.
    """

    def __init__(self, conv: nn.Conv1d, dtype: torch.dtype) -> None:
        super().__init__()
        self.stride = conv.stride[0]
        if conv.kernel_size[0] != 2 * self.stride or conv.padding[0] != self.stride / 2:
            raise ValueError(f"expected kernel 2s, padding s/2 with an even stride s, not {conv}")
        with torch.device("meta"):
            grouped = nn.Conv1d(conv.in_channels * self.stride, conv.out_channels, 2)
        weight = conv.weight.detach().reshape(*conv.weight.shape[:2], 2, self.stride)
        grouped.weight = nn.Parameter(weight.permute(0, 3, 1, 2).flatten(1, 2))
        grouped.bias = conv.bias
        self.conv = _flat_conv(grouped, dtype)

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, :, 0, :].transpose(1, 2)  # [B, samples, channels], contiguous
        rows = nn.functional.pad(rows, (0, 0, self.stride // 2, self.stride // 2))
        groups = rows.reshape(rows.shape[0], rows.shape[1] // self.stride, -1)
        features: Tensor = self.conv(groups.transpose(1, 2)[:, :, None, :])
        return features


class _Residual(nn.Module):
    def __init__(self, unit: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Snake(unit.snake1.alpha, dtype),
            _flat_conv(unit.conv1, dtype),
            Snake(unit.snake2.alpha, dtype),
            _flat_conv(unit.conv2, dtype),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)  # type: ignore[no-any-return]


class FlatEncoder(nn.Module):
    """The encoder of a ``DacModel``, its weights copied, for inference only.

    Args:
        encoder: the stock encoder.
        dtype: of weights and of the activations between layers: float32 or bfloat16. Snake is
            computed in float32 in both cases and the result is float32.
    """

    def __init__(self, encoder: DacEncoder, dtype: torch.dtype) -> None:
        super().__init__()
        layers: list[nn.Module] = [_flat_conv(encoder.conv1, dtype)]
        for block in encoder.block:
            units = (block.res_unit1, block.res_unit2, block.res_unit3)
            layers += [_Residual(unit, dtype) for unit in units]
            layers += [Snake(block.snake1.alpha, dtype), _Downsample(block.conv1, dtype)]
        layers += [Snake(encoder.snake1.alpha, dtype), _flat_conv(encoder.conv2, dtype)]
        self.layers = nn.Sequential(*layers)
        self._dtype = dtype

    def forward(self, waves: Tensor) -> Tensor:
        """Waveforms ``[B, n * hop]`` -> what the quantiser sees, float32 ``[B, channels, n]``."""
        images = waves.to(self._dtype)[:, None, None, :]
        images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.layers(images)
        return features[:, :, 0, :].float().contiguous()


def compiled(encoder: FlatEncoder, example: Tensor) -> Callable[[Tensor], Tensor]:
    """The encoder through the inductor compiler, for the one shape of ``example``; compiles now.

    Raises:
        EnvironmentFailure: if the compiler fails.
    """
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor import config
    from torch._inductor.exc import InductorError

    fast: Callable[[Tensor], Tensor] = torch.compile(encoder, dynamic=False, fullgraph=True)
    # Freezing packs the weights into the layout of the CPU kernels once instead of at each call
    # and adds the residual inside the kernel. It is read while tracing, hence the first call here.
    freezing = example.device.type == "cpu"
    try:
        with config.patch(freezing=freezing), torch.inference_mode():
            fast(example)
    except (BackendCompilerFailed, InductorError) as error:
        raise EnvironmentFailure(
            f"the DAC encoder was to be compiled, but the compiler failed: {error}",
            hint="repair the C++ compiler (CXX), or build without it: --no-compile",
        ) from error
    return fast
