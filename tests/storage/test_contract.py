"""Optuna's own contract tests of storages, on ours, on every database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from kansearch.storage.url import open_storage


@pytest.fixture
def storage(database_url: str) -> Iterator[BaseStorage]:
    """A storage in an empty database."""
    opened = open_storage(database_url)
    yield opened
    opened.close()


class TestStorage(StorageTestCase):
    """As Optuna has them."""
