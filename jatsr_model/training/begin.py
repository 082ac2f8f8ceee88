"""From what a user asks for to what is trained: a new training, or one that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jatsr_data import LatentDataset
from jatsr_model.dit import Preset, preset
from jatsr_model.model_folder import ModelError, find_model, read_card
from jatsr_model.text import DEFAULT, TextEncoder, find_text_encoder
from jatsr_model.training.augment import CHANGES
from jatsr_model.training.checkpoints import Checkpoint, Found, newest_intact, read_checkpoint
from jatsr_model.training.run_folder import CHECKPOINTS, expect_no_training, read_run
from jatsr_model.training.saving import machine_of
from jatsr_model.training.settings import Recipe, Runtime, flag
from jatsr_model.training.spaces import channels_of, default_model, reading_space
from jatsr_model.training.task import Task
from jatsr_model.training.world import World
from shards.errors import ConfigError
from shards.manifest import read_manifest

# What suits a check that a few crops can be learned by heart, within minutes.
OVERFIT: Mapping[str, Any] = MappingProxyType(
    {
        "steps": 400,
        "batch_size": 8,
        "crop_frames": 128,
        "lr": 1e-3,
        "weight_decay": 0.0,
        "ema": 0.9,
        "condition_dropout": 0.0,
    }
)

SPARE = 0.9  # crops of other epochs may be somewhat fewer


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for. The rest follows from the dataset, or from the training that goes on.

    Args:
        dataset: address; empty for the one of the training that goes on.
        recipe: fields of ``Recipe``.
        runtime: fields of ``Runtime``.
        places: ``codec_weights``, ``start``, ``text_encoder`` (also ``auto`` and ``off``).
        accept: go on also where that is not what the training would have been.
    """

    dataset: str
    recipe: Mapping[str, Any]
    runtime: Mapping[str, Any]
    places: Mapping[str, str]
    accept: bool = False


def new_training(folder: Path, wish: Wish, world: World) -> tuple[Task, tuple[str, ...]]:
    """A new training, and notes for people.

    Raises:
        ConfigError: values that cannot work, or there is a training in the folder already.
        FormatError: there is no readable dataset.
    """
    expect_no_training(folder)
    world.barrier()  # all have looked before one of them begins
    places = dict(wish.places)
    if "start" in places:
        places["start"] = str(find_model(places["start"], flag="--start"))
    manifest = read_manifest(wish.dataset)
    known = preset(wish.recipe.get("model") or default_model(manifest))
    reading_space(known, manifest)  # they must fit
    _expect_bands(known, wish.recipe)
    text, notes = _text(places.get("text_encoder", "auto"), known, world)
    on_gpu = world.device.type == "cuda"
    values = {
        "condition_dropout": known.condition_dropout,
        **(OVERFIT if wish.recipe.get("overfit") else {}),
        "precision": "bf16" if on_gpu else "fp32",
        **wish.recipe,
        "model": known.name,
        "losses": {**known.losses, **wish.recipe.get("losses", {})},
        "text_encoder": text.identity if text else "",
        "start": read_card(Path(places["start"]))[1] if "start" in places else "",
    }
    values.setdefault("warmup", min(Recipe.warmup, values.get("steps", Recipe.steps) // 10))
    if "batch_size" not in values:
        values["batch_size"], said = _batch_size(Recipe(**values), wish.dataset, world.size)
        notes += said
    task = Task(
        dataset=_lasting(wish.dataset),
        folder=folder,
        recipe=Recipe(**values),
        runtime=Runtime(**{"compile": on_gpu, **wish.runtime}),
        places={name: _lasting(place) for name, place in places.items()},
        text=text,
        channels=channels_of(manifest),
    )
    return task, notes


def _expect_bands(known: Preset, wanted: Mapping[str, Any]) -> None:
    for name in CHANGES:
        if wanted.get(name) and known.space != "mdct":
            raise ConfigError(
                f"{flag(name)}: latents of {known.space} are no bands of audio", hint="leave it out"
            )


def same_training(folder: Path, wish: Wish, world: World) -> tuple[Task, tuple[str, ...]]:
    """The training of a folder, where its newest intact checkpoint left it, and notes for people.

    Checkpoints that are damaged are passed over.

    Raises:
        ConfigError: something differs that decides the result; says what.
        FormatError: the folder holds no training.
        ModelError: there are checkpoints, but none of them is intact.
    """
    if "start" in wish.places:
        raise ConfigError(
            f"--start {wish.places['start']} begins a new training, --resume continues one",
            hint="leave out one of them",
        )
    run = read_run(folder)
    places = {**run.places, **wish.places}
    text_place = places.get("text_encoder", DEFAULT if run.recipe.text_encoder else "off")
    text, _ = _text(text_place, preset(run.recipe.model), world)
    asked = {**wish.recipe, "text_encoder": text.identity if text else ""}
    if "losses" in asked:
        asked["losses"] = {**run.recipe.losses, **asked["losses"]}
    _expect_bands(preset(run.recipe.model), wish.recipe)
    recipe = _changed(run.recipe, asked, accept=wish.accept)
    checkpoint, notes = _newest(folder / CHECKPOINTS, world)
    runtime = replace(run.runtime, **wish.runtime)
    if checkpoint is not None and not wish.accept:
        _expect_same_machine(checkpoint.facts["machine"], recipe, runtime, world)
    dataset = _lasting(wish.dataset) if wish.dataset else run.dataset
    task = Task(
        dataset=dataset,
        folder=folder,
        recipe=recipe,
        runtime=runtime,
        places=places,
        text=text,
        channels=channels_of(read_manifest(dataset)),
        checkpoint=checkpoint,
        accept=wish.accept,
    )
    return task, notes


def _batch_size(recipe: Recipe, dataset: str, ranks: int) -> tuple[int, tuple[str, ...]]:
    """The usual batch, or less where an epoch has fewer crops; and notes for people."""
    usual = -(-recipe.batch_size // ranks) * ranks
    crops = len(LatentDataset(dataset, "train", recipe.crop_frames, recipe.lr_variants))
    if crops * SPARE >= usual:
        return usual, ()
    fitting = max(int(crops * SPARE) // ranks, 1) * ranks
    return fitting, (f"an epoch has {crops} crops only, so --batch-size is {fitting}",)


def _lasting(place: str) -> str:
    """A path that means the same in every folder; names and addresses as they are."""
    path = Path(place).expanduser()
    return str(path.absolute()) if path.exists() else place


def _text(place: str, known: Preset, world: World) -> tuple[TextEncoder | None, tuple[str, ...]]:
    """The text encoder of a network that takes text; ``auto`` goes without if it is not there."""
    width = known.config.text_dim
    if place == "off" or not width:
        if place not in ("off", "auto"):
            raise ConfigError(
                f"--text-encoder {place}: --model {known.name} takes no text",
                hint="leave it out, or take a model that does; see jatsr models",
            )
        return None, ()
    if place != "auto":
        return TextEncoder(place, world.device, width=width), ()
    if find_text_encoder(DEFAULT) is None:
        return None, (
            f"captions are left out: {DEFAULT} is not on this machine; give --text-encoder PATH",
        )
    return TextEncoder(DEFAULT, world.device, width=width), ()


def _changed(recipe: Recipe, asked: Mapping[str, Any], *, accept: bool) -> Recipe:
    wanted = replace(recipe, **asked)
    now, then = wanted.to_json(), recipe.to_json()
    differing = [name for name in then if now[name] != then[name]]
    if differing == ["steps"] and recipe.schedule != "cosine":
        differing = []  # the rate of a step does not depend on how many there are
    if differing and not accept:
        raise ConfigError(
            "--resume: the training has "
            + ", ".join(f"{flag(n)} {then[n]!r}, not {now[n]!r}" for n in differing),
            hint="leave these options out to continue exactly; --accept-changes continues in "
            "another way",
        )
    return wanted


def _newest(folder: Path, world: World) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """The newest intact checkpoint, which the main rank finds for all."""
    found = world.of_main(newest_intact(folder) if world.is_main else Found(None))
    if found.path is None:
        if found.damaged:
            raise ModelError(
                f"--resume: no checkpoint in {folder} is intact: {found.damaged[0]}",
                hint="copy one of them again, or begin a new training with another --name",
            )
        return None, ("there is no checkpoint yet, so it begins again",)
    notes = tuple(f"passed over: {message}" for message in found.damaged)
    return read_checkpoint(found.path), notes


def _expect_same_machine(
    then: Mapping[str, Any], recipe: Recipe, runtime: Runtime, world: World
) -> None:
    """What a machine decides: numbers of its generators, and who drops which activations."""
    now = machine_of(runtime, world)
    config = preset(recipe.model).config
    drops = config.dropout + config.drop_path > 0 and not recipe.overfit
    listens = recipe.losses.get("consistency", 0) > 0  # to a crop drawn by each process
    matter = list(then) if drops or listens else ["device"]
    differing = [name for name in matter if then[name] != now[name]]
    if differing:
        said = ", ".join(f"{_said(name)} {then[name]} (now {now[name]})" for name in differing)
        raise ConfigError(
            f"--resume: the training ran with {said}, which decides what is drawn at random",
            hint="run it like that to continue exactly; --accept-changes continues in another way",
        )


def _said(name: str) -> str:
    return name if name == "processes" else flag(name)
