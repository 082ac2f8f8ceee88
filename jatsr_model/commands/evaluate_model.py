"""``jatsr evaluate --model --data``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jatsr_model.metrics.evaluation import Watcher
from jatsr_model.metrics.measure import open_extras
from jatsr_model.metrics.music import find_music
from jatsr_model.metrics.pictures import save_picture
from jatsr_model.metrics.settings import Settings
from jatsr_model.metrics.subjects import FLOAT_WAV
from jatsr_model.metrics.trial_report import TrialReport
from jatsr_model.metrics.trials import Trials
from jatsr_model.model_folder import find_model
from jatsr_model.upsampling import settings as upsampling
from jatsr_model.upsampling.model import Model, device_for, load_model
from jatsr_model.upsampling.render import Renderer
from shards.scratch import scratch_folder

_SAMPLING = ("steps", "solver", "grid", "guidance", "window_frames", "target_hz")


def evaluate_model(
    options: Mapping[str, Any], settings: Settings, rates: list[int], pictures: Path | None
) -> TrialReport:
    """Try a model on files.

    Args:
        options: of the command.
        settings: of the measurements.
        rates: Hz, of the low-res versions.
        pictures: folder for pictures, below which every rate has its own; None for none.

    Raises:
        ConfigError: there are no files, or an option does not suit the model.
        EnvironmentFailure: the machine is at fault.
    """
    files = find_music(options["data"])
    subject = _subject(options, settings)
    trials = Trials(
        subject.renderer,
        subject.model,
        settings,
        rates,
        open_extras(),
        lambda rate: _watcher(pictures, rate, settings),
    )
    bar = tqdm(total=len(files) * len(rates), desc="evaluate", unit="clip", disable=None,
               leave=False)  # fmt: skip
    with bar, scratch_folder() as scratch:
        trials.run(files, scratch, bar.update)
    return TrialReport(trials.reports(), subject.facts)


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is tried.

    Attributes:
        model: None where nothing is generated.
        renderer: that has it.
        facts: JSON-ready.
    """

    model: Model | None
    renderer: Renderer
    facts: Mapping[str, Any]


def _subject(options: Mapping[str, Any], measured: Settings) -> _Subject:
    given = {name: options[name] for name in _SAMPLING if options[name] is not None}
    settings = upsampling.Settings(rate=measured.rate, seed=measured.seed, **given)
    if options["model"] == upsampling.IDENTITY:
        return _Subject(None, Renderer(None, settings, FLOAT_WAV), {"model": upsampling.IDENTITY})
    device = device_for(options["device"])
    model = load_model(find_model(options["model"]), device, options["codec_weights"])
    settings = settings.on(device.type, options["precision"], options["batch_size"])
    facts = {
        "model": str(options["model"]),
        "network": model.name,
        "weights_sha256": model.digest,
        "codec": model.codec.name,
        "device": device.type,
        **{name: getattr(settings, name) for name in (*_SAMPLING, "precision", "seed")},
        "target_hz": model.told_hz(settings.target_hz),
    }
    return _Subject(model, Renderer(model, settings, FLOAT_WAV), facts)


def _watcher(folder: Path | None, rate: int, settings: Settings) -> Watcher | None:
    if folder is None:
        return None
    return lambda prepared, row: save_picture(folder / f"{rate}", prepared, row, settings)
