"""Fixtures of the sinks' tests; a test module takes them up by `pytest_plugins = ["sinks_fixtures"]`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Instance
from sinks import Feed, RedisServer, remove_regions


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server of the embedded kind."""
    made = RedisServer(tmp_path / "redis")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def feed(instance: Instance) -> Iterator[Feed]:
    """A feed with one instrument."""
    made = Feed(instance)
    made.add_instrument("BTC/USD")
    yield made
    made.close()
    remove_regions(instance)
