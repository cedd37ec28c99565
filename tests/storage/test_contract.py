"""Optuna's own contract tests of storages, on ours, on every database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from kansearch.storage.url import open_storage


@pytest.fixture
def storage(any_storage_url: str) -> Iterator[BaseStorage]:
    """A storage without studies."""
    opened = open_storage(any_storage_url)
    yield opened
    opened.close()


class TestStorage(StorageTestCase):
    """As Optuna has them."""
