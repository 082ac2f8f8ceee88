"""Fixtures of these tests."""

from threads import one_thread  # noqa: F401 - a fixture
