"""What filters and mixtures choose, from the table of samples alone."""

from __future__ import annotations

import pytest
from reading import write_lengths

from jatsr_data import Filter, LatentDataset, Mixture
from shards.errors import ConfigError

ROWS = [
    {
        "source": "/music/a/1.wav",
        "rolloff": [0.9, 0.3, 0.3],
        "tags": {"genre": "Jazz", "license": "CC-BY 4.0"},
    },
    {
        "source": "/music/a/b/2.wav",
        "rolloff": [0.2, 0.2, 0.2],
        "tags": {"genre": "rock", "copyright": "(c) 2020 cc0"},
    },
    {
        "source": "/music/ab/3.wav",
        "rolloff": [0.5, 0.3, 0.3],
        "tags": {"genre": "jazz"},
        "caption": "",
        "caption_source": "",
    },
    {"source": "/other/4.wav", "rolloff": [0.7, 0.3, 0.3], "caption_source": "sidecar"},
    {
        "source": "/other/5.wav",
        "rolloff": [0.7, 0.3, 0.3],
        "tags": {"license": "all rights reserved", "copyright": "CC0"},
    },
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filters")
    write_lengths(folder, [100, 200, 300, 400, 500], per_shard=2, rows=ROWS)
    return folder


def chosen(folder, **conditions):
    dataset = LatentDataset(folder, crop_frames=64, select=Filter(**conditions))
    assert len(dataset.index) + sum(dataset.index.dropped.values()) == dataset.index.total == 5
    lengths = dataset.index.frames.tolist()
    return [length // 100 for length in lengths]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"min_rolloff": 0.5}, [1, 3, 4, 5]),
        ({"max_rolloff": 0.6}, [2, 3]),
        ({"min_rolloff": 0.3, "max_rolloff": 0.75}, [3, 4, 5]),
        ({"min_seconds": 300 * 512 / 44100}, [3, 4, 5]),
        ({"max_seconds": 2.0}, [1]),
        ({"captioned": True}, [1, 2, 4, 5]),
        ({"captioned": False}, [3]),
        ({"caption_sources": ("sidecar", "tags")}, [4]),
        ({"licences": ("CC",)}, [1, 2]),
        ({"licences": ("cc0", "by")}, [1, 2]),
        ({"tags": {"genre": ("JAZZ", "folk")}}, [1, 3]),
        ({"tags": {"genre": ("jazz",)}, "captioned": True}, [1]),
    ],
)
def test_filters(folder, conditions, expected):
    assert chosen(folder, **conditions) == expected


def test_a_filter_that_leaves_nothing_says_which_condition_took_what(folder):
    with pytest.raises(ConfigError, match=r"min_rolloff=0.6 leaves out 2, max_seconds=1.0 .* 3"):
        chosen(folder, min_rolloff=0.6, max_seconds=1.0)


@pytest.mark.parametrize(
    "bad",
    [{"min_rolloff": 11000.0}, {"licences": "cc0"}, {"tags": {"genre": "jazz"}},
     {"min_seconds": 3.0, "max_seconds": 1.0}],
)  # fmt: skip
def test_filters_that_cannot_be_meant(bad):
    with pytest.raises(ConfigError, match="Filter: "):
        Filter(**bad)


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        (Mixture("tag:genre", {"jazz": 3.0}), [3, 1, 3, 1, 1]),
        (Mixture("source", {"/music/a": 2.0, "/music/a/": 4.0}), [4, 4, 2, 1, 1]),
        (Mixture("source", {"/music": 0.0}, other=5.0), [0, 0, 0, 5, 5]),
        (Mixture("caption_source", {"sidecar": 2.0}, other=0.0), [0, 0, 0, 2, 0]),
    ],
)
def test_mixtures(folder, mixture, expected):
    index = LatentDataset(folder, crop_frames=64, mixture=mixture).index
    found = dict(zip(index.frames.tolist(), index.repeats.expected.tolist(), strict=True))
    assert [found.get(100 * n, 0) for n in range(1, 6)] == expected


def test_mixtures_that_cannot_be_meant(folder):
    for by, weights in (("genre", {}), ("source", {"/a": -1.0}), ("source", {"/a": float("nan")})):
        with pytest.raises(ConfigError, match="Mixture: "):
            Mixture(by, weights)
    with pytest.raises(ConfigError, match=r"no excerpt belongs to \['polka'\]"):
        LatentDataset(folder, mixture=Mixture("tag:genre", {"jazz": 1.0, "polka": 2.0}))
    with pytest.raises(ConfigError, match="all weights are 0"):
        LatentDataset(folder, mixture=Mixture("source", {"/": 0.0}, other=0.0))


def test_filters_leave_the_crops_of_what_stays_alone(folder):
    """The draws of an excerpt are its own: what else is chosen does not change them."""
    starts = []
    for select in (Filter(), Filter(min_rolloff=0.5)):
        dataset = LatentDataset(folder, crop_frames=64, select=select, seed=3)
        crops = dataset.epoch(4).part(0, 1)
        keys = [dataset.index.key[n].as_py() for n in crops.sample]
        starts.append(set(zip(keys, crops.start.tolist(), crops.variant.tolist(), strict=True)))
    assert starts[1] < starts[0]
