"""How pytest-xdist deals tests to its workers, where it is used."""

from __future__ import annotations

from typing import Any

import pytest

_RAY = "test_ray_"  # files that share a cluster


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files, since the tests of one share what took seconds to make; in our order.

    Marks would do, but ``--dist loadgroup`` of pytest-xdist 3.8 ignores them under pytest 9.2.
    """
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _RAY if _RAY in nodeid else str(super()._split_scope(nodeid))

    config.option.loadscopereorder = False
    return Files(config, log)


@pytest.hookimpl(tryfirst=True)  # before slow tests are left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first, so that all workers end together."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (_RAY not in item.nodeid, item.path not in slow))
