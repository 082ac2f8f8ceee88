"""Which audio formats this machine really decodes, found by decoding."""

from __future__ import annotations

import io

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from jatsr_model.audio.decode_av import av_installed
from jatsr_model.audio.decode_soundfile import SequentialFile

_FORMATS = {
    "WAV": ("WAV", "PCM_16", 44100),
    "FLAC": ("FLAC", "PCM_16", 44100),
    "AIFF": ("AIFF", "PCM_16", 44100),
    "Ogg Vorbis": ("OGG", "VORBIS", 44100),
    "Opus": ("OGG", "OPUS", 48000),
    "MP3": ("MP3", "MPEG_LAYER_III", 44100),
}
AAC = "AAC (m4a)"
_SECONDS = 0.25
_ALIKE = 0.95  # correlation of what went in and what came out


def probe_decoders() -> dict[str, bool | str]:
    """Encode, decode and compare a short clip in every format, in memory.

    Returns:
        by format: True, or what is wrong in words.
    """
    found: dict[str, bool | str] = {}
    for name, (container, subtype, rate) in _FORMATS.items():
        clip = _clip(rate)
        try:
            file = io.BytesIO()
            sf.write(file, clip, rate, subtype=subtype, format=container)
            file.seek(0)
            with SequentialFile(file) as reader:
                decoded = reader.read(len(clip) + rate, dtype="float32")
        except (sf.LibsndfileError, ValueError) as error:
            found[name] = (
                f"soundfile {sf.__version__}, libsndfile {sf.__libsndfile_version__}: {error}"
            )
        else:
            found[name] = _verdict(clip, decoded)
    found[AAC] = _probe_aac()
    return found


def _probe_aac() -> bool | str:
    if not av_installed():
        return "PyAV is not installed: pip install 'jatsr[av]'"
    try:
        import av
    except ImportError as error:
        return f"PyAV is installed but does not load: {error}"
    clip = _clip(44100)
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="mp4") as writer:
            stream = writer.add_stream("aac", rate=44100, layout="mono")
            frame = av.AudioFrame.from_ndarray(clip[np.newaxis], format="fltp", layout="mono")
            frame.sample_rate = 44100
            writer.mux([*stream.encode(frame), *stream.encode(None)])
        file.seek(0)
        with av.open(file) as reader:
            frames = [frame.to_ndarray()[0] for frame in reader.decode(audio=0)]
    except (av.error.FFmpegError, ValueError) as error:
        return f"PyAV {av.__version__}: {error}"
    return _verdict(clip, np.concatenate(frames) if frames else np.zeros(0, np.float32))


def _clip(rate: int) -> NDArray[np.float32]:
    time = np.arange(round(_SECONDS * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * time) * np.exp(-8 * time)).astype(np.float32)


def _verdict(clip: NDArray[np.float32], decoded: NDArray[np.float32]) -> bool | str:
    """Compare over a range of delays: some decoders keep the encoder's."""
    if len(decoded) < 0.9 * len(clip):
        return f"expected {len(clip)} samples, decoded {len(decoded)}"
    products = np.correlate(decoded, clip, mode="full")
    alike = float(products.max() / (np.linalg.norm(clip) * np.linalg.norm(decoded) + 1e-12))
    return True if alike > _ALIKE else f"decoded samples differ (correlation {alike:.2f})"
