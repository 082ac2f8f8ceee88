"""One file on its way through the upsampler."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from jatsr_model.audio.blocks import Block, Fifo
from jatsr_model.audio.resample import Resampler, output_length
from jatsr_model.upsampling.attacks import Attacks
from jatsr_model.upsampling.audio_out import AudioWriter
from jatsr_model.upsampling.joints import Joiner
from jatsr_model.upsampling.levels import SilenceGate
from jatsr_model.upsampling.model import Model
from jatsr_model.upsampling.pool import Request
from jatsr_model.upsampling.requests import Pending, Requests
from jatsr_model.upsampling.settings import Settings
from jatsr_model.upsampling.sound import Sound, gain_for
from jatsr_model.upsampling.splice import Crossover, Splicer
from jatsr_model.upsampling.windows import Layout


class PassedThrough:
    """An input that is only resampled; bit for bit what it was if the rate stays.

    Args:
        sound: the input.
        writer: of the output.
    """

    def __init__(self, sound: Sound, writer: AudioWriter) -> None:
        rate = writer.rate
        samples = output_length(sound.facts.samples, sound.rate, rate)
        self._own = Resampler(sound.rate, rate, sound.channels)
        self._out = _Output(SilenceGate(sound.facts.silence, rate, samples), writer)

    def push(self, block: Block) -> Iterator[Request]:
        """Take ``(C, n)`` at the input's rate; asks for nothing."""
        self._out.write(self._own.push(block))
        return iter(())

    def flush(self) -> Iterator[Request]:
        """The end of the input."""
        self._out.write(self._own.flush())
        return iter(())

    def drain(self) -> None:
        """Nothing was waited for."""

    @property
    def pending(self) -> tuple[Request, ...]:
        """Nothing is."""
        return ()


class Extended:
    """An input whose upper band is generated.

    Args:
        sound: the input.
        over: where its own band ends.
        model: that generates.
        settings: how.
        layout: of windows.
        writer: of the output.
    """

    def __init__(
        self, sound: Sound, over: Crossover, model: Model, settings: Settings, layout: Layout,
        writer: AudioWriter,
    ) -> None:  # fmt: skip
        facts, codec, channels, rate = sound.facts, model.codec, sound.channels, writer.rate
        self._model, self._gain = model, gain_for(sound, model.target_lufs)
        self._left = output_length(facts.samples, sound.rate, codec.sample_rate)
        self._requests = Requests(
            model, settings, layout, sound.key,
            channels=channels, samples=self._left, cutoff=over.high,
        )  # fmt: skip
        self._pending: deque[Pending] = deque()
        self._joiner = Joiner(layout.span, codec.hop)
        self._to_codec = Resampler(sound.rate, codec.sample_rate, channels)
        self._from_codec = Resampler(codec.sample_rate, rate, channels)
        self._own = Resampler(sound.rate, rate, channels)
        self._own_band, self._generated = Fifo(), Fifo()
        self._attacks = Attacks(rate, channels, over) if model.tells_envelopes else None
        self._splicer = Splicer(rate, channels, over)
        self._samples = output_length(facts.samples, sound.rate, rate)
        gate = SilenceGate(facts.silence, rate, self._samples)
        self._out = _Output(gate, writer)

    def push(self, block: Block) -> Iterator[Request]:
        """Take ``(C, n)`` at the input's rate; asks for windows to be sampled."""
        self._own_band.push(self._own.push(block))
        return self._ask(self._requests.push(self._gain.apply(self._to_codec.push(block))))

    def flush(self) -> Iterator[Request]:
        """The end of the input."""
        self._own_band.push(self._own.flush())
        yield from self._ask(self._requests.push(self._gain.apply(self._to_codec.flush())))
        yield from self._ask(self._requests.flush())

    def drain(self) -> None:
        """Write what has been sampled, in order."""
        while self._pending and self._pending[0].request.is_done:
            pending = self._pending.popleft()
            wave = self._joiner.take(pending.window, self._sound(pending), last=pending.is_last)
            wave = self._gain.undo(wave[:, : self._left])
            self._left -= wave.shape[1]
            self._generated.push(self._from_codec.push(wave))
            if pending.is_last:
                self._generated.push(self._from_codec.flush(self._samples))
            self._splice()
            if pending.is_last:
                self._finish()

    @property
    def pending(self) -> tuple[Request, ...]:
        """What was asked for and is not written yet."""
        return tuple(pending.request for pending in self._pending)

    def _ask(self, found: Iterator[Pending]) -> Iterator[Request]:
        for pending in found:
            self._pending.append(pending)
            yield pending.request

    def _sound(self, pending: Pending) -> Block:
        """What is heard of a window, ``(C, n)``."""
        window, kinds, codec = pending.window, pending.kinds, self._model.codec
        if not pending.request.rows:
            frames = window.last - window.first
            return np.zeros((len(kinds.which), frames * codec.hop), np.float32)
        first = max(window.first - codec.decode_context, window.start)
        last = min(window.last + codec.decode_context, window.stop)
        data = pending.request.data[..., first - window.start : last - window.start]
        wave = self._model.decode(data)[kinds.which] * kinds.signs
        skip = (window.first - first) * codec.hop
        heard: Block = wave[:, skip : skip + (window.last - window.first) * codec.hop]
        return heard

    def _splice(self) -> None:
        ready = min(self._own_band.available, self._generated.available)
        if ready:
            own, generated = self._own_band.take(ready), self._generated.take(ready)
            if self._attacks is not None:
                own, generated = self._attacks.push(own, generated)
            self._out.write(self._splicer.push(own, generated))

    def _finish(self) -> None:
        if self._attacks is not None:
            self._out.write(self._splicer.push(*self._attacks.flush()))
        self._out.write(self._splicer.flush())


class _Output:
    """Digital silence stays so; then to the file."""

    def __init__(self, gate: SilenceGate, writer: AudioWriter) -> None:
        self._gate, self._writer, self._place = gate, writer, 0

    def write(self, block: Block) -> None:
        if block.shape[1]:
            self._writer.write(self._gate.apply(block, self._place))
            self._place += block.shape[1]
