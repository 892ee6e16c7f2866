"""Settings from the environment (`TAXI_*`) and `.env`; the only module that reads either."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator


class Settings(BaseSettings):
    """Every setting with its default, its bounds, and when to change it."""

    model_config = SettingsConfigDict(
        env_prefix="TAXI_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,  # for the few that have Google's own name and not ours
    )

    data_dir: Path = Field(
        default=Path("data"),
        description="Where files land and the local warehouse lives; --data-dir goes before it.",
    )
    concurrency: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Months worked on at once. Each takes up to half a gigabyte of memory; more "
        "than there are cores only helps while downloads are slow.",
    )
    http_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest silence of a server, and longest wait for a connection.",
    )
    http_attempts: int = Field(
        default=5,
        ge=1,
        description="Attempts in a row without a single new byte before a download is given up.",
    )
    http_backoff_seconds: float = Field(
        default=1.0,
        ge=0,
        description="First pause between attempts; it doubles, with jitter, up to 30 s.",
    )
    max_uncompressed_bytes: int = Field(
        default=64 * 2**30,
        gt=0,
        description="A compressed file that unpacks to more is refused (the largest real month "
        "has some 4 GB).",
    )
    max_reject_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of a month's rows that may be rejected before the month fails.",
    )
    lock_timeout_seconds: float = Field(
        default=600.0,
        ge=0,
        description="How long to wait for another run of the same month, or for another process "
        "that holds the local warehouse.",
    )
    postgres_url: SecretStr | None = Field(
        default=None,
        description="The server of --to postgres: postgresql://user:password@host:5432/database, or "
        "`embedded` for a private one under the data directory.",
    )
    postgres_indexes: Literal["none", "brin", "btree"] = Field(
        default="none",
        description="Index on the pick-up time. brin: a few kB, quick to build, for ranges of time; "
        "btree: some 30 bytes a row, for single moments. `none` removes no index.",
    )
    postgres_lock_timeout_seconds: float = Field(
        default=2.0,
        gt=0,
        le=60,
        description="How long one attempt to swap a month in waits for readers while new readers "
        "queue behind it; attempts go on for TAXI_LOCK_TIMEOUT_SECONDS. Less if dashboards stall, "
        "more if swaps never find a gap between long queries.",
    )
    gcp_project: str | None = Field(
        default=None,
        description="Google Cloud project to work in and to be billed; default: the credentials' own.",
    )
    gcp_key_file: Path | None = Field(
        default=None,
        description="JSON key of a service account. Without it: the block gcp-credentials, then the "
        "application default credentials.",
    )
    gcp_key_json: SecretStr | None = Field(
        default=None,
        description="The key itself instead of a file, where there is no place for one (a container).",
    )
    gcs_bucket: str | None = Field(
        default=None,
        description="The bucket of --to gcs, without gs://; without it: the block de-gcs.",
    )
    gcs_folder: str = Field(
        default="",
        description="Folder of the bucket below which `data/` is kept, to share a bucket with others.",
    )
    storage_emulator_host: str | None = Field(
        default=None,
        validation_alias="STORAGE_EMULATOR_HOST",
        description="A storage emulator instead of Google, such as http://127.0.0.1:9023; Google's own "
        "name for it. No credentials are needed then.",
    )
    bigquery_dataset: str = Field(
        default="trips_data_all",
        description="The dataset of --to bigquery; created if the project does not have it.",
    )
    bigquery_location: str = Field(
        default="US",
        description="Where that dataset is created, such as EU or europe-west1; one that is there stays "
        "where it is. The bucket of flows/gcs_to_bq.py has to be in the same place.",
    )
    bigquery_emulator_host: str | None = Field(
        default=None,
        validation_alias="BIGQUERY_EMULATOR_HOST",
        description="A BigQuery emulator's REST endpoint instead of Google, such as "
        "http://127.0.0.1:9050; Google's own name for it. No credentials are needed then.",
    )
    bigquery_storage_emulator_host: str | None = Field(
        default=None,
        validation_alias="BIGQUERY_STORAGE_EMULATOR_HOST",
        description="The same emulator's gRPC address for the Storage Write API, such as 127.0.0.1:9060; "
        "both or none of the two.",
    )
    alert_block: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="Prefect notification block that is told when a run fails, as type/name, such as "
        "slack-webhook/taxi. Without it nobody is told; see docs/operations.md.",
    )
    month_deployment: str = Field(
        default="month-on-worker/etl-month",
        pattern=r"^[^/]+/[^/]+$",
        description="The deployment that --runner deployment gives each month to, as flow/deployment. "
        "Another one if the months are to run on another work pool than that of prefect.yaml.",
    )
    synthetic_rows: int = Field(
        default=100_000, ge=1, description="Rows of a synthetic month (--source synthetic)."
    )
    synthetic_seed: int = Field(default=0, ge=0, description="Another seed gives other synthetic trips.")
    synthetic_broken_rows: int = Field(
        default=0, ge=0, description="Broken lines to mix into a synthetic month."
    )


@lru_cache(maxsize=1)
def _read_settings() -> Settings:
    settings = Settings()
    known = {f"TAXI_{name.upper()}" for name in Settings.model_fields}
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    if unknown := sorted(
        name for name in given - known if name.startswith("TAXI_") and not name.startswith("TAXI_TEST_")
    ):
        raise UsageError(f"unknown setting {', '.join(unknown)}; legal are {', '.join(sorted(known))}")
    return settings


_overrides: dict[str, object] = {}


@contextlib.contextmanager
def override_settings(**changes: object) -> Generator[None]:
    """Let options of a command go before the environment, for as long as the block lasts."""
    before = dict(_overrides)
    _overrides.update(changes)
    try:
        yield
    finally:
        _overrides.clear()
        _overrides.update(before)


def get_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        UsageError: a value is out of its bounds; names the variable and the bound.
    """
    try:
        return _read_settings().model_copy(update=_overrides)
    except UnicodeDecodeError as error:
        raise UsageError(f".env is not UTF-8 ({error}); save it as UTF-8") from None
    except ValidationError as error:
        wrong = "; ".join(
            f"TAXI_{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors()
        )
        raise UsageError(f"bad setting: {wrong}") from None
