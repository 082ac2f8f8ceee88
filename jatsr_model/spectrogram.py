"""Pictures of sound: spectrograms above each other, on one scale of level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

COLUMNS, ROWS = 900, 256  # pixels of a spectrogram
RANGE_DB = 100  # from the loudest point of all panels down to black

_FFT = 2048
_BINS_PER_ROW = _FFT // 2 // ROWS
_FRAMES_AT_ONCE = 128
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 78, 24, 24  # around each spectrogram
_TICK, _BAR_GAP, _BAR_WIDTH = 4, 12, 12
_PAPER, _INK, _MARK = (255, 255, 255), (40, 40, 40), (120, 255, 235)
_FONT_SIZE = 12

# Anchors of matplotlib's "inferno" at equal distances: lightness rises evenly, also in grey.
_ANCHORS = np.array(
    [(0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51),
     (249, 140, 10), (249, 201, 50), (252, 255, 164)]
)  # fmt: skip
_COLOURS = np.stack(
    [np.interp(np.linspace(0, len(_ANCHORS) - 1, 256), range(len(_ANCHORS)), _ANCHORS[:, c])
     for c in range(3)], axis=1
).round().astype(np.uint8)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Panel:
    """One signal of a picture.

    Attributes:
        wave: float ``[channels, samples]``.
        title: what it is.
        marks: what a frequency means -> the frequency in Hz.
    """

    wave: NDArray[np.floating]
    title: str
    marks: Mapping[str, float] = field(default_factory=dict)


def picture(panels: Sequence[Panel], sample_rate: int) -> Image.Image:
    """Draw spectrograms below each other.

    Time runs over the whole width of each, frequency linearly from 0 to half the sample rate;
    levels are in dB below the loudest point of all panels. A few MB beside a copy of one panel.

    Args:
        panels: at least one.
        sample_rate: Hz, of all.
    """
    powers = [power_map(panel.wave) for panel in panels]
    loudest = max(float(power.max()) for power in powers) or 1.0
    height = _TOP + ROWS + _BOTTOM
    image = Image.new("RGB", (_LEFT + COLUMNS + _RIGHT, height * len(panels)), _PAPER)
    for number, (panel, power) in enumerate(zip(panels, powers, strict=True)):
        top = number * height + _TOP
        image.paste(_coloured(power / loudest), (_LEFT, top))
        _Axes(image, top, panel.wave.shape[-1] / sample_rate, sample_rate / 2).draw(panel)
    return image


def power_map(wave: NDArray[np.floating]) -> NDArray[np.float64]:
    """Power over frequency and time, mean of the channels.

    Args:
        wave: float ``[channels, samples]``.

    Returns:
        ``[ROWS, COLUMNS]``, low frequencies first. Each column is the mean over its time.
    """
    samples = wave.shape[-1]
    each = max(1, math.ceil(samples / COLUMNS / (_FFT // 2)))  # transforms per column
    centres = (np.arange(COLUMNS * each) + 0.5) * samples / (COLUMNS * each)
    # Windows stay inside: the edges of the signal are no sound.
    starts = np.clip(centres.astype(np.int64) - _FFT // 2, 0, max(samples - _FFT, 0))
    padded = np.pad(wave, ((0, 0), (0, max(_FFT - samples, 0))))
    window = np.hanning(_FFT + 1)[:-1]
    rows = np.empty((ROWS, COLUMNS))
    step = max(1, _FRAMES_AT_ONCE // each)
    for first in range(0, COLUMNS, step):
        places = starts[first * each : (first + step) * each, None] + np.arange(_FFT)
        bins = np.abs(np.fft.rfft(padded[:, places] * window)[..., :-1]) ** 2
        rows[:, first : first + step] = bins.reshape(
            len(wave), -1, each, ROWS, _BINS_PER_ROW
        ).mean(axis=(0, 2, 4)).T  # fmt: skip
    return rows


def _coloured(power: NDArray[np.float64]) -> Image.Image:
    """Powers relative to the loudest -> an image with low frequencies at the bottom."""
    level = 10 * np.log10(np.maximum(power, 1e-30))
    shade = np.clip(1 + level / RANGE_DB, 0, 1) * 255
    return Image.fromarray(_COLOURS[shade.round().astype(np.uint8)[::-1]])


class _Axes:
    """Everything around and on one spectrogram."""

    def __init__(self, image: Image.Image, top: int, seconds: float, nyquist: float) -> None:
        self._image, self._pen = image, ImageDraw.Draw(image)
        self._font = ImageFont.load_default(_FONT_SIZE)
        self._top, self._bottom = top, top + ROWS
        self._seconds, self._nyquist = seconds, nyquist

    def draw(self, panel: Panel) -> None:
        self._text(_LEFT, self._top - 5, panel.title, "ls")
        for hertz in _ticks(self._nyquist, 6):
            y = self._y(hertz)
            self._pen.line((_LEFT - _TICK, y, _LEFT - 1, y), _INK)
            self._text(_LEFT - _TICK - 3, y, f"{hertz / 1000:g}", "rm")
        self._text(_LEFT - _TICK - 3, self._top - 5, "kHz", "rs")
        for second in _ticks(self._seconds, 10):
            x = _LEFT + round(second / (self._seconds or 1.0) * (COLUMNS - 1))
            self._pen.line((x, self._bottom, x, self._bottom + _TICK - 1), _INK)
            self._text(x, self._bottom + _TICK + 2, f"{second:g} s", "mt")
        self._level_bar()
        for label, hertz in panel.marks.items():
            self._mark(label, hertz)

    def _level_bar(self) -> None:
        left = _LEFT + COLUMNS + _BAR_GAP
        shades = np.repeat(_COLOURS[::-1, None], _BAR_WIDTH, axis=1)
        self._image.paste(Image.fromarray(shades).resize((_BAR_WIDTH, ROWS)), (left, self._top))
        for level in range(0, RANGE_DB + 1, 20):
            y = self._top + round(level / RANGE_DB * (ROWS - 1))
            self._text(left + _BAR_WIDTH + 4, y, f"{-level} dB", "lm")

    def _mark(self, label: str, hertz: float) -> None:
        y = self._y(hertz)
        for x in range(_LEFT, _LEFT + COLUMNS, 12):
            self._pen.line((x, y, min(x + 5, _LEFT + COLUMNS - 1), y), _MARK)
        above = y - self._top > 2 * _FONT_SIZE
        place = (_LEFT + COLUMNS - 6, y - 3 if above else y + 3)
        self._pen.text(place, label, _MARK, self._font, "rs" if above else "rt",
                       stroke_width=2, stroke_fill=(0, 0, 0))  # fmt: skip

    def _text(self, x: int, y: int, text: str, anchor: str) -> None:
        self._pen.text((x, y), text, _INK, self._font, anchor)

    def _y(self, hertz: float) -> int:
        share = min(max(hertz / self._nyquist, 0.0), 1.0)
        return self._bottom - 1 - round(share * (ROWS - 1))


def _ticks(end: float, at_most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten in [0, end]."""
    if not end > 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(end / at_most))
    step = next(k * power for k in (1, 2, 5, 10) if end / (k * power) <= at_most)
    return [round(k * step, 12) for k in range(int(end / step) + 1)]
