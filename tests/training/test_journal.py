"""What a training writes down can be read back, also after it was continued."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from jatsr_model.commands.training_bar import Lines, TerminalBar, training_bar
from jatsr_model.losses import LOSSES
from jatsr_model.training import journal as module
from jatsr_model.training.journal import LOG, Journal, loss_tag
from shards.errors import EnvironmentFailure


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "audio": 0})
    return found.Reload()


def steps_shown(folder: Path, tag: str) -> list[int]:
    """Steps of a tag; none where it is not there, or all of it was purged."""
    found = events(folder)
    return [e.step for e in found.Scalars(tag)] if tag in found.Tags()["scalars"] else []


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def test_what_was_logged_is_read_back(tmp_path: Path) -> None:
    began = time.time()
    with Journal(tmp_path / "run") as journal:
        for step in range(1, 301):
            journal.log(step, {"Loss/Total": 1 / step, "LR": 1e-5 * step})
        journal.log(300, {"Val/Loss": 0.25})
    found = events(tmp_path / "run")
    assert sorted(found.Tags()["scalars"]) == ["LR", "Loss/Total", "Val/Loss"]
    losses = found.Scalars("Loss/Total")
    assert [(e.step, e.value) for e in losses] == [
        (step, np.float32(1 / step)) for step in range(1, 301)
    ]
    assert all(began <= e.wall_time <= time.time() for e in losses)
    read = lines(tmp_path / "run")
    assert len(read) == 301
    assert read[-1].pop("time") >= round(began, 3)
    assert read[-1] == {"step": 300, "Val/Loss": 0.25}
    assert [line["Loss/Total"] for line in read[:-1]] == [1 / step for step in range(1, 301)]


def test_what_is_not_finite_is_null_in_json(tmp_path: Path) -> None:
    values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": np.float32(2), "e": 1}
    with Journal(tmp_path) as journal:
        journal.log(1, {**values, "f": torch.tensor(3.0)})
    (line,) = lines(tmp_path)
    assert [line[tag] for tag in "abcdef"] == [None, None, None, 2.0, 1.0, 3.0]
    assert math.isnan(events(tmp_path).Scalars("a")[0].value)
    assert events(tmp_path).Scalars("b")[0].value == math.inf


def test_without_lines_there_is_no_file(tmp_path: Path) -> None:
    with Journal(tmp_path, json_lines=False) as journal:
        journal.log(1, {"a": 1.0})
    assert not (tmp_path / LOG).exists()
    assert steps_shown(tmp_path, "a") == [1]


@pytest.mark.parametrize(("start", "kept"), [(4, [1, 2, 3, 4]), (0, []), (9, list(range(1, 7)))])
def test_what_lies_after_the_step_continued_from_is_gone(
    tmp_path: Path, start: int, kept: list[int]
) -> None:
    with Journal(tmp_path) as journal:
        for step in range(1, 7):
            journal.log(step, {"a": 1.0})
            journal.log(step, {"b": 1.0})
    with Journal(tmp_path, start=start) as journal:
        journal.log(start + 1, {"a": 2.0})
    assert [line["step"] for line in lines(tmp_path) if "a" in line] == [*kept, start + 1]
    assert steps_shown(tmp_path, "a") == [*kept, start + 1]
    assert [line["step"] for line in lines(tmp_path) if "b" in line] == kept
    assert steps_shown(tmp_path, "b") == kept


def test_a_log_of_before_the_first_checkpoint_is_begun_anew(tmp_path: Path) -> None:
    for _ in range(2):
        with Journal(tmp_path) as journal:
            journal.log(0, {"Val/Loss": 1.0})
    assert len(lines(tmp_path)) == 1
    assert steps_shown(tmp_path, "Val/Loss") == [0]


@given(steps=st.lists(st.integers(0, 9), max_size=8), start=st.integers(0, 9), data=st.data())
def test_cutting_leaves_the_right_lines(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], start: int, data: st.DataObject
) -> None:
    """Lines of any order, the last one torn anywhere, and one that is no line."""
    path = tmp_path_factory.mktemp("log") / LOG
    whole = [json.dumps({"step": step, "n": n}).encode() + b"\n" for n, step in enumerate(steps)]
    last = data.draw(st.integers(0, len(whole[-1]))) if whole else 0
    torn = [*whole[:-1], whole[-1][:last]] if whole else []
    path.write_bytes(b"\x00\n" + b"".join(torn))
    module._cut(path, start)
    survivors = whole if whole and last == len(whole[-1]) else whole[:-1]
    kept = [line for line, step in zip(survivors, steps, strict=False) if step < start]
    assert path.read_bytes() == b"".join(kept)
    assert os.listdir(path.parent) == [LOG]


def test_a_killed_process_leaves_lines_and_events_that_are_read(tmp_path: Path) -> None:
    """It is not closed; what the disk has then is whole lines."""
    journal = Journal(tmp_path)
    for step in range(1, 20):
        journal.log(step, {"a": 1.0})
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 20))
    assert steps_shown(tmp_path, "a") == list(range(1, 20))
    journal.close()
    events_of_it = next(tmp_path.glob("events*"))
    events_of_it.write_bytes(events_of_it.read_bytes()[:-3])
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"step": 20, "a"')
    with Journal(tmp_path, start=19) as journal:
        journal.log(20, {"a": 1.0})
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 21))
    assert steps_shown(tmp_path, "a") == [*range(1, 19), 20]


@pytest.mark.parametrize("channels", [1, 2])
def test_audio_is_heard_as_it_was(tmp_path: Path, channels: int) -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, (channels, 4410)).astype(np.float32)
    wave[0, :3] = [1.5, -1.5, np.nan]
    with Journal(tmp_path) as journal:
        journal.audio(5, "Audio/00", wave, 44100)
        journal.audio(5, "Audio/01", torch.from_numpy(wave), 22050)
    for tag, rate in (("Audio/00", 44100), ("Audio/01", 22050)):
        (event,) = events(tmp_path).Audio(tag)
        assert (event.step, event.content_type) == (5, "audio/wav")
        assert (event.sample_rate, event.length_frames) == (rate, 4410)
        heard, found_rate = soundfile.read(io.BytesIO(event.encoded_audio_string), always_2d=True)
        assert found_rate == rate
        expected = np.nan_to_num(wave).clip(-1, 1).T
        np.testing.assert_allclose(heard, expected, atol=1.01 / 32768)


def test_losses_have_names_that_readers_know() -> None:
    names = {name: loss_tag(name) for name in (*LOSSES, "consistency")}
    assert names == {
        "mse": "Loss/MSE",
        "charbonnier": "Loss/Charbonnier",
        "frequency": "Loss/LatentPerc_FreqDomain",
        "multiscale": "Loss/LatentPerc_MultiScale",
        "consistency": "Loss/LatentPerc_Consistency",
        "levels": "Loss/Levels",
    }
    assert loss_tag("another") == "Loss/another"


def test_a_scalar_costs_little(tmp_path: Path) -> None:
    """The best of several rounds: what this thread does, not what else the machine does."""
    values = {f"Loss/{n}": 0.5 + n for n in range(15)}
    with Journal(tmp_path) as journal:
        best = min(_seconds(lambda: journal.log(1, values)) for _ in range(50))
    assert best / len(values) < 0.2e-3


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    for place in ("write", "flush"):
        with monkeypatch.context() as patch:
            patch.setattr(RecordWriter, place, _full)
            with pytest.raises(EnvironmentFailure, match=r"No space left.*writing the log"):
                journal.log(1, {"a": 1.0})
            with pytest.raises(EnvironmentFailure, match="No space left"):
                journal.audio(1, "b", np.zeros((1, 10)), 44100)
            with pytest.raises(EnvironmentFailure, match="No space left"):
                Journal(tmp_path / place)
    journal.close()


def test_the_bar_is_moved_and_closed(tmp_path: Path) -> None:
    class Recorder:
        seen: list[object] = []  # noqa: RUF012 - of this test

        def show(self, *figures: float) -> None:
            self.seen.append(figures)

        def close(self) -> None:
            self.seen.append("closed")

    with Journal(tmp_path, bar=Recorder()) as journal:
        journal.progress(3, 0.5, 100.0)
    journal.close()
    assert Recorder.seen == [(3, 0.5, 100.0), "closed"]
    with Journal(tmp_path) as journal:
        journal.progress(3, 0.5, 100.0)


def test_a_bar_of_a_terminal_says_how_long_the_rest_takes(capsys: pytest.CaptureFixture) -> None:
    bar = TerminalBar(total=100, start=40)
    bar.show(50, 0.12345, 512.4)
    bar.note("a message")
    bar.show(60, 0.5, 512.4)
    bar.close()
    said = capsys.readouterr().err
    assert "60/100" in said
    assert "loss 0.5, 512 audio-hours/hour" in said
    assert "a message\n" in said
    assert "<" in said  # elapsed < remaining


def test_elsewhere_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bar = training_bar(total=100, start=40)
    assert isinstance(bar, Lines)
    for step, moment in ((41, 1.0), (45, 5.0), (70, 30.0), (90, 40.0), (100, 50.0)):
        now[0] = 1000.0 + moment
        bar.show(step, 0.25, 90.0)
    bar.close()
    assert capsys.readouterr().err.splitlines() == [
        "train: 41 of 100 steps, 00:59 left, loss 0.25, 90 audio-hours/hour",
        "train: 90 of 100 steps, 00:08 left, loss 0.25, 90 audio-hours/hour",
        "train: 100 of 100 steps, 00:00 left, loss 0.25, 90 audio-hours/hour",
    ]
