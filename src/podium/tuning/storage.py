"""Where a study is kept: a journal file on this machine, or a database that several machines share."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from podium.errors import UserError
from podium.tuning.journal import Flock, mend

JOURNAL = "journal.log"
BEAT = 30
"""Seconds between the signs of life that a running trial leaves in a database."""
GRACE = 120
"""Seconds without one after which a trial's process is taken to be dead."""


def quiet() -> None:
    """Optuna says nothing by itself, nor that what is used here is experimental."""
    optuna.logging.disable_default_handler()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", module="optuna")


def open_storage(url: str | None, folder: Path, say: Callable[[str], None] = lambda text: None) -> BaseStorage:
    """The storage of a study: ``folder``'s journal, or a database. What cannot be reached is a UserError."""
    quiet()
    if url is not None:
        return _database(url)
    journal = folder / JOURNAL
    try:
        folder.mkdir(parents=True, exist_ok=True)
        gone = mend(journal)
        storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=Flock(journal)))
    except OSError as error:
        raise UserError(
            f"{journal}: cannot be written ({error.strerror or error}); free space or choose another place with --out"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{journal}: is damaged in its middle ({error}); move {folder} away and run the command again"
        ) from error
    if gone:
        say(f"{journal}: its last line was torn by a kill; {gone} bytes cut off, nothing finished is lost")
    return storage


def _database(url: str, attempts: int = 5) -> BaseStorage:
    import sqlalchemy

    shown = masked(url)
    try:
        return RDBStorage(url, heartbeat_interval=BEAT, grace_period=GRACE)
    except ImportError as error:
        driver = str(error.__cause__ or error.__context__ or error)
        raise UserError(
            f"--storage {shown}: the database's driver is not installed ({driver}); install it, for PostgreSQL with pip install "
            "'psycopg[binary]' and postgresql+psycopg://user@host/name, for MySQL with pip install pymysql and mysql+pymysql://"
        ) from None
    except sqlalchemy.exc.NoSuchModuleError as error:
        raise UserError(
            f"--storage {shown}: {error}; write postgresql://, mysql:// or sqlite://, or leave it out for a journal file"
        ) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        made_by_another = isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in reason
        if made_by_another and attempts > 1:  # at this very moment: the tables of a new database
            time.sleep(0.2)
            return _database(url, attempts - 1)
        raise UserError(
            f"--storage {shown}: cannot be reached ({reason}); start the server, correct the address, or leave it out for a "
            "journal file"
        ) from None


def masked(url: str) -> str:
    """A database's address without its password, for people."""
    import sqlalchemy

    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        raise UserError(
            "--storage: is not the address of a database; write postgresql://user@host/name, or leave it out for a journal file"
        ) from None


def advice(url: str | None) -> str | None:
    """What should be known of the storage that was chosen."""
    if url is not None and url.startswith("sqlite"):
        return (
            "SQLite is not made for several processes that write at once; leave --storage out for a journal file on one machine, or "
            "take PostgreSQL for several"
        )
    return None


def dashboard(url: str | None, folder: Path) -> str:
    """The command that shows a study in the browser."""
    return f"optuna-dashboard {masked(url) if url else folder / JOURNAL}"
