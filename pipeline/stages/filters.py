"""Zero-phase low-pass filters of random design, as SAGA-SR trains with.

The reference filters forwards and backwards (``sosfiltfilt``), which needs the whole signal. The
result is a filter with the real response |H(f)|^2; here it runs as the symmetric FIR with that
response, which streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block, joined
from pipeline.stages.degradation import SAMPLE_RATE, Degradation, DownUp

if TYPE_CHECKING:
    from pipeline.stages.fir import ZeroPhaseFir

TYPES = ("cheby1", "butterworth", "bessel", "elliptic")
ORDERS = range(2, 11)
RIPPLE_DB = 0.1  # passband, cheby1 and elliptic
ATTENUATION_DB = 60.0  # stopband, elliptic


class FilterDegradation(Degradation):
    """A zero-phase IIR response, then resampling to twice the cutoff and back.

    Args:
        params: ``type``, ``order``, ``cutoff`` (Hz) and the design values of ``design_params``.
    """

    version = "1"
    needs_prepare = False

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self._fir: ZeroPhaseFir | None = None
        self._resampled: DownUp | None = None

    def push(self, block: Block) -> Block:
        """See ``Degradation.push``."""
        if self._fir is None or self._resampled is None:
            from pipeline.stages.fir import ZeroPhaseFir, zero_phase_taps  # scipy loads slowly

            self._fir = ZeroPhaseFir(zero_phase_taps(sections(self.params)), block.shape[0])
            self._resampled = DownUp(self.params["rate"], block.shape[0])
        return self._resampled.push(self._fir.push(block))

    def flush(self) -> Block:
        """See ``Degradation.flush``."""
        if self._fir is None or self._resampled is None:
            return np.zeros((1, 0), np.float32)
        last = self._resampled.push(self._fir.flush())
        return joined([last, self._resampled.flush()], last.shape[0])


def design_params(kind: str, order: int, cutoff: int) -> dict[str, Any]:
    """JSON-ready facts that determine a filter.

    Args:
        kind: one of ``TYPES``.
        order: of the filter that is applied forwards and backwards.
        cutoff: Hz.
    """
    params: dict[str, Any] = {"kind": "filters", "type": kind, "order": order, "cutoff": cutoff}
    if kind in ("cheby1", "elliptic"):
        params["ripple_db"] = RIPPLE_DB
    if kind == "elliptic":
        params["attenuation_db"] = ATTENUATION_DB
    if kind == "bessel":
        params["norm"] = "phase"
    return params | {"phase": "zero", "rate": min(2 * cutoff, SAMPLE_RATE)}


def sections(params: Mapping[str, Any]) -> NDArray[np.float64]:
    """Second-order sections ``(k, 6)`` of the one-way filter, at 44.1 kHz."""
    from scipy import signal  # loads slowly

    order, options = params["order"], {"fs": SAMPLE_RATE, "output": "sos"}
    cutoff, kind = params["cutoff"], params["type"]
    if kind == "cheby1":
        sos = signal.cheby1(order, params["ripple_db"], cutoff, **options)
    elif kind == "butterworth":
        sos = signal.butter(order, cutoff, **options)
    elif kind == "bessel":
        sos = signal.bessel(order, cutoff, norm=params["norm"], **options)
    elif kind == "elliptic":
        sos = signal.ellip(order, params["ripple_db"], params["attenuation_db"], cutoff, **options)
    else:
        raise ValueError(f"filter type: expected one of {', '.join(TYPES)}, found {kind!r}")
    return np.asarray(sos, np.float64)
