"""Storage URLs: every mistake gets one line, and no line holds a password."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError

from kansearch.errors import EmptyStorageError, KansearchError, MissingExtraError, StorageError, StorageUrlError
from kansearch.storage.artifacts import Bucket
from kansearch.storage.studies import StoredStudy, load_study
from kansearch.storage.trials import read_records
from kansearch.storage.url import open_storage, parse_url, shown

SECRET = "s3cr3t-w0rd"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is none"),
        ("kansearch.db", "is none"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://study.db", "three slashes"),
        ("sqllite:///study.db", 'did you mean "sqlite"?'),
        (f"postgress://me:{SECRET}@db/x", 'did you mean "postgres"?'),
        (f"mongodb://me:{SECRET}@db/x", "begins with"),
        (f"postgresql+psycopg2://me:{SECRET}@db/x", 'driver "psycopg2"'),
        (f"postgresql//me:{SECRET}@db/x", "is none"),
        (f"postgresql://me/{SECRET}@db/x", "before another @"),
        (f"postgresql://me:{SECRET}@db:notaport/x", "is none"),
        (f"redis://:{SECRET}@db/0", "begins with"),
    ],
)
def test_a_url_that_cannot_be_a_storage_is_refused_without_its_password(url: str, message: str) -> None:
    """What is wrong and what is allowed is said; the password is not."""
    with pytest.raises(StorageUrlError) as caught:
        parse_url(url)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@db/x",
        f"postgresql://me:{SECRET}@db/x?sslmode=require",
        f"postgresql://me:{SECRET}@@db/x",
        f"postgresql://me:{SECRET}/{SECRET}@db/x",
        f"nonsense://me:{SECRET}@db",
        f"me:{SECRET}@db",
        f"postgresql://db/x?user=me&password={SECRET}",
        f"postgresql://me:{SECRET}/x",
        f"postgresql://me:{SECRET}",
        f"postgresql://me;{SECRET}@db/x",
        f"postgresql://me/{SECRET}@db/x",
        f"jdbc:postgresql://me/{SECRET}",
        f"jdbc:postgresql://db/x?user=me&pass={SECRET}",
        f"me:{SECRET}",
        f"me/{SECRET}@db",
        f"postgresql://me:x@{SECRET}@db/x",
        f"postgresql://db/x&password={SECRET}",
        f"postgresql://db/x;{SECRET}",
        f"postgresql://db/x#{SECRET}",
        f"sqlite:///?foo={SECRET}",
        f"sqlite://me:my {SECRET}@db/x",
        f"me:{SECRET}://db",
        f"host=db user=me password={SECRET}",
        f"postgresql//me/{SECRET}@db/x",
        f"postgresql://db/x?user=me&pass={SECRET}",
        f"postgresql://me?{SECRET}@db/x",
        f"sqlite+pysqlcipher://:{SECRET}@/x.db",
        "postgresql://me:8675309",
    ],
)
def test_a_shown_url_has_no_password(url: str) -> None:
    """Whatever the shape of the URL, its password becomes stars; a number too long for a port is one."""
    assert SECRET not in shown(url)
    assert "8675309" not in shown(url)


def test_ports_paths_and_names_are_shown() -> None:
    """A port is no password, though it stands where one would; nor is what follows an @ in a path, or a space."""
    for url in (
        "postgresql://me@db:5432/x",
        "postgresql://me@db/my studies",
        "sqlite:////srv/a@b/x=1.db?timeout=5",
        "postgresql://[::1]:5432/x",
    ):
        assert shown(url) == url


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me@127.0.0.1:9/x?sslmode={SECRET}",
        f"postgresql://me@127.0.0.1:9/x?prepare_threshold={SECRET}",
        f"postgresql://me@127.0.0.1:9/x?connect_timeout={SECRET}",
        "sqlite:///{folder}/s.db?timeout=soon",
    ],
)
def test_an_option_that_makes_no_sense_is_refused_in_one_line(url: str, tmp_path: Path) -> None:
    """Whatever the driver raises; its value is not repeated."""
    (tmp_path / "s.db").touch()
    for read_only in (False, True):
        with pytest.raises(KansearchError) as caught:
            open_storage(url.replace("{folder}", str(tmp_path)), read_only=read_only)
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_short_password_is_not_told_by_its_gaps() -> None:
    """A password of one sign stands in many a word; only where it stands alone it is one."""
    with pytest.raises(StorageError) as caught:
        open_storage("postgresql://me:1@127.0.0.1:9/x")
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("table", ["things (id INTEGER)", "studies (name TEXT)"])
def test_another_programs_database_is_left_alone(table: str, tmp_path: Path) -> None:
    """Before anything is written into it."""
    path = tmp_path / "theirs.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table}")
    before = path.read_bytes()
    with pytest.raises(StorageUrlError, match="is another program's database"):
        open_storage(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("psycopg", "postgres", lambda: open_storage(f"postgresql://me:{SECRET}@127.0.0.1:9/x")),
        ("pymysql", "mysql", lambda: open_storage(f"mariadb://me:{SECRET}@127.0.0.1:9/x")),
        ("boto3", "s3", lambda: Bucket("s3://bucket")),
    ],
)
def test_a_missing_extra_is_named_with_how_to_get_it(
    module: str, extra: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line to copy, without the password."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        use()
    assert str(caught.value).endswith(f" needs the module {module}: pip install 'kansearch[{extra}]'")
    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_server_that_does_not_answer_is_the_operators_to_mend() -> None:
    """A refused connection gives exit code 3 and one line without the password."""
    with pytest.raises(StorageError) as caught:
        open_storage(f"postgresql://me:{SECRET}@127.0.0.1:9/x")
    assert caught.value.exit_code == 3
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "missing" / "s.db", "does not exist"),
        (lambda folder: folder, "is a folder"),
        (
            lambda folder: _written(folder / "notes.txt", b"This is not a database, whatever its name."),
            "not a database",
        ),
        (lambda folder: _written(folder / "half.db", b"SQLite format 3\0" + b"\xff" * 200), "cannot be opened"),
    ],
)
def test_a_sqlite_file_that_cannot_be_opened_is_refused(make: object, message: str, tmp_path: Path) -> None:
    """A folder, a missing folder, another file and a broken database each give one line."""
    assert callable(make)
    with pytest.raises(KansearchError, match=message) as caught:
        open_storage(f"sqlite:///{make(tmp_path)}")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_reading_changes_nothing(make_study: Callable[..., StoredStudy], storage_url: str) -> None:
    """A file of an older version, without the newest table, is read as it is; nobody can write through it."""
    path = Path(storage_url.removeprefix("sqlite:///"))
    make_study().storage.ledger.engine.dispose()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE kansearch_trial_checkpoints")
        connection.execute("UPDATE kansearch_version SET version_num = '1'")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    study = load_study(open_storage(storage_url, read_only=True), "small")
    assert read_records(study) == ()
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.glob("kansearch.db*")] == ["kansearch.db"]
    with pytest.raises(StorageInternalError):
        study.set_budget(study.spec.budget)


def test_a_file_on_read_only_ground_is_read(
    make_study: Callable[..., StoredStudy], storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder where nothing can be created, a file whose write-ahead log is empty is enough."""
    folder = Path(storage_url.removeprefix("sqlite:///")).parent
    make_study().storage.ledger.engine.dispose()
    assert [path.name for path in folder.glob("kansearch.db*")] == ["kansearch.db"]
    can = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and can(path, mode))
    study = load_study(open_storage(storage_url, read_only=True), "small")
    assert [path.name for path in folder.glob("kansearch.db*")] == ["kansearch.db"]
    assert study.budget == 6


def test_a_storage_without_studies_is_left_without_tables(tmp_path: Path) -> None:
    """To look at a database that is not ours must not make it ours."""
    path = tmp_path / "theirs.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE things (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(EmptyStorageError, match="holds no studies; `kansearch optimize` makes them"):
        open_storage(f"sqlite:///{path}", read_only=True)
    assert path.read_bytes() == before


def test_sqlite_files_use_the_write_ahead_log(tmp_path: Path) -> None:
    """Readers and the writer of a study must not wait for each other."""
    storage = open_storage(f"sqlite:///{tmp_path / 's.db'}")
    with storage._backend.engine.connect() as connection:  # type: ignore[attr-defined]
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
