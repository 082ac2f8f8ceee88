"""Where the windows of a long signal lie, and where one of them gives way to the next.

Neighbours overlap. In the middle of an overlap the sound of one fades into that of the other; what
lies outside is context, which a network needs to know how a sound goes on, and is discarded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from shards.errors import ConfigError

SPLINT = 2  # frames on both sides of a fade that the joint of two sounds sees
_LEAST_FADE = 4


@dataclass(frozen=True)
class Window:
    """A window of a signal, in frames.

    Attributes:
        start: first frame that the network sees.
        stop: the one after the last.
        first: first frame that is heard.
        last: the one after the last that is heard.
    """

    start: int
    stop: int
    first: int
    last: int

    @property
    def frames(self) -> int:
        """That the network sees."""
        return self.stop - self.start


@dataclass(frozen=True)
class Layout:
    """How windows are laid over a signal.

    All begin at multiples of ``stride``, except that the last one ends with the signal. Only the
    single window of a signal that is shorter is not full.

    Args:
        window: frames of a window.
        context: frames at an inner end of a window that are not heard.
        fade: frames in which one window gives way to the next.
    """

    window: int
    context: int
    fade: int

    def __post_init__(self) -> None:
        """Check that a window is long enough.

        Raises:
            ConfigError: its joints would overlap.
        """
        if self.stride // 2 < self.span:
            least = 2 * (2 * self.context + self.fade) + 2 * self.span
            raise ConfigError(
                f"windows of {self.window} frames are too short to be joined with "
                f"{self.context} frames of context",
                hint=f"use --window-frames {least} or more; a model is best at the length of the "
                "crops that it was trained on",
            )

    @property
    def stride(self) -> int:
        """Frames from one window to the next."""
        return self.window - 2 * self.context - self.fade

    @property
    def span(self) -> int:
        """Frames that both windows of a joint have to give."""
        return self.fade + 2 * SPLINT

    def windows(self, frames: int) -> Iterator[Window]:
        """Windows of a signal of so many frames; neighbours are both heard for ``span`` frames."""
        starts = self._starts(frames)
        joints = [
            (after + before + self.window - self.span) // 2 for before, after in pairwise(starts)
        ]
        for number, start in enumerate(starts):
            yield Window(
                start=start,
                stop=min(start + self.window, frames),
                first=joints[number - 1] if number else 0,
                last=joints[number] + self.span if number < len(joints) else frames,
            )

    def _starts(self, frames: int) -> list[int]:
        if not frames:
            return []
        last = max(frames - self.window, 0)
        return [*range(0, last, self.stride), last]


def layout_for(window: int, decode_context: int) -> Layout:
    """Context of an eighth of a window, and a fade of a sixteenth.

    Args:
        window: frames.
        decode_context: frames that the codec needs on both sides.

    Raises:
        ConfigError: the window is too short for that.
    """
    context = max(window // 8, SPLINT + decode_context)
    return Layout(window, context, max(window // 16, _LEAST_FADE))
