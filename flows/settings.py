"""Settings from the environment (`TAXI_*`), `.env` and `taxi.toml`; no other module reads these."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tomllib
from collections.abc import Generator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from flows.errors import UsageError
from transforms.gates import EVERY_DATASET, GivenGates, legal_measures, unknown_measures

SETTINGS_FILE = Path("taxi.toml")

MEMORY_OF_A_MONTH = 2**30
MOST_MONTHS_AT_ONCE = 8

EXAMPLE_OF_GATES = '{"yellow": {"zero_distance": {"warn": 0.1, "fail": 0.5}}}'


class Settings(BaseSettings):
    """Every setting with its default, its bounds, and the reason to change it."""

    model_config = SettingsConfigDict(
        env_prefix="TAXI_",
        env_file=".env",
        toml_file=SETTINGS_FILE,
        env_ignore_empty=True,
        extra="ignore",
        use_attribute_docstrings=True,
        populate_by_name=True,  # for the settings that carry Google's name in the environment
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment takes precedence over `.env`, and `.env` over `taxi.toml`."""
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)

    to: Annotated[tuple[str, ...], NoDecode] = Field(default=("duckdb",), min_length=1)
    """Where months go without --to, in deployments too: one or more destinations, such as `duckdb gcs`."""
    data_dir: Path = Path("data")
    """Directory for downloaded files and the local warehouse; --data-dir takes precedence."""
    concurrency: int = Field(default_factory=lambda: default_concurrency(), ge=1, le=64)
    """Months processed at the same time; default: as many as this machine or container has cores, or
    gigabytes of memory if these are fewer, at most 8. The first month takes 0.5 GB, each further one 0.1 to
    0.2 GB. More months than cores only help if downloads are slow."""
    http_timeout_seconds: float = Field(default=30.0, gt=0)
    """Maximum time to wait for a connection, and for a server that sends nothing."""
    http_least_bytes_per_second: int = Field(default=1_000, ge=0)
    """Least rate of a download; one that stays below it for a whole window is interrupted and tried again,
    from where it stopped. 0 waits for any server."""
    http_rate_window_seconds: float = Field(default=60.0, gt=0)
    """The window over which that rate is measured."""
    http_attempts: int = Field(default=5, ge=1)
    """Consecutive attempts without a single new byte before a download fails."""
    http_backoff_seconds: float = Field(default=1.0, ge=0)
    """Pause before the second attempt; it doubles each time, with jitter, up to 30 s."""
    max_uncompressed_bytes: int = Field(default=64 * 2**30, gt=0)
    """Limit for the size of a source file, of a compressed one after unpacking; larger ones are refused (the
    largest real month has about 4 GB)."""
    min_free_disk_bytes: int = Field(default=2**30, ge=0)
    """Room that a download leaves on the disk, but never more than a twentieth of the disk; 0 lets it fill
    the disk."""
    max_reject_ratio: float = Field(default=0.01, ge=0, le=1)
    """Share of a month's rows that may be rejected; with more, the month fails."""
    gates: Annotated[dict[str, dict[str, dict[Literal["warn", "fail"], float | None]]], NoDecode] = Field(
        default_factory=dict
    )
    """Thresholds beyond which a month is worth a warning, or is not published, by dataset (or `all`) and
    measure, as JSON: {"yellow": {"zero_distance": {"warn": 0.1, "fail": 0.5}}}. What is not given stays at
    its default; null switches a threshold off. `taxi-etl gates` prints those in force."""
    lock_timeout_seconds: float = Field(default=600.0, ge=0)
    """Maximum time that a month waits for another run of it and for locks in Postgres, in all, or that the
    months of a run wait for another process that has the local warehouse open."""
    views: bool = True
    """Create and update the views and the tables of zones and codes in every warehouse, see
    docs/reference/views.md; false leaves existing ones as they are."""
    duckdb_memory_mb: int = Field(default=512, ge=128)
    """Megabytes of each DuckDB connection (staging, quality report, local warehouse); beyond it DuckDB spills
    to the data directory. A file of 20 million rows into the local warehouse then takes 0.65 GB for the whole
    process, unbounded 0.7 GB. With less than 384 one thread inserts a month alone, in twice the time. Raise
    it if DuckDB says that it is out of memory."""
    postgres_url: SecretStr | None = None
    """Server for --to postgres: postgresql://user:password@host:5432/database, or `embedded` for a private
    one below the data directory."""
    postgres_schema: str = Field(default="public", pattern=r"^[^\x00]{1,63}$")
    """Schema of the tables and of the ledger; created if it does not exist."""
    postgres_indexes: Literal["none", "brin", "btree"] = "none"
    """Index on the pick-up time. brin: a few kB, fast to build, for time ranges; btree: about 30 bytes per
    row, for exact times. `none` does not drop an existing index."""
    postgres_lock_timeout_seconds: float = Field(default=2.0, gt=0, le=60)
    """How long one attempt to swap a month in waits for readers while new readers queue behind it; attempts
    are repeated for TAXI_LOCK_TIMEOUT_SECONDS. Lower it if dashboards stall, raise it if swaps never find a
    gap between long queries."""
    adbc_postgresql_driver: str | None = None
    """Another build of the ADBC driver for Postgres than the installed one: path or name of its library. It
    copies in this process, without the extra one (0.25 s of CPU in a run, 150 MB); see
    docs/reference/postgres.md."""
    gcp_project: str | None = None
    """Google Cloud project for resources and billing; default: that of the credentials."""
    gcp_key_file: Path | None = None
    """JSON key file of a service account; without it, the block gcp-credentials, then the application default
    credentials."""
    gcp_key_json: SecretStr | None = None
    """The key itself, for environments without a place for a key file (a container)."""
    gcs_bucket: str | None = None
    """Bucket for --to gcs, without gs://; without this setting, the block de-gcs."""
    gcs_folder: str = ""
    """Folder of the bucket that contains `data/`, for a bucket shared with others."""
    storage_emulator_host: str | None = Field(default=None, validation_alias="STORAGE_EMULATOR_HOST")
    """Storage emulator to use instead of Google, such as http://127.0.0.1:9023; the name is Google's. No
    credentials are needed."""
    bigquery_dataset: str = "trips_data_all"
    """Dataset for --to bigquery; created if it does not exist."""
    bigquery_location: str = "US"
    """Location in which that dataset is created, such as EU or europe-west1; an existing one stays where it
    is. The bucket of flows/gcs_to_bq.py must be in the same location."""
    bigquery_emulator_host: str | None = Field(default=None, validation_alias="BIGQUERY_EMULATOR_HOST")
    """REST endpoint of a BigQuery emulator to use instead of Google, such as http://127.0.0.1:9050; the name
    is Google's. No credentials are needed."""
    bigquery_storage_emulator_host: str | None = Field(
        default=None, validation_alias="BIGQUERY_STORAGE_EMULATOR_HOST"
    )
    """The emulator's gRPC address for the Storage Write API, such as 127.0.0.1:9060; set both or neither."""
    iceberg_catalog: str | None = None
    """Catalog for --to iceberg by its name in pyiceberg's own configuration; without it, a private one below
    the data directory. See docs/reference/iceberg.md."""
    alert_block: str | None = Field(default=None, pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")
    """Prefect notification block for failed runs, as type/name, such as slack-webhook/taxi; without it no
    alerts are sent. See docs/reference/operations.md."""
    month_deployment: str = Field(default="month-on-worker/etl-month", pattern=r"^[^/]+/[^/]+$")
    """Deployment that --runner deployment uses for each month, as flow/deployment; name another to run the
    months on another work pool than the one in prefect.yaml."""
    synthetic_rows: int = Field(default=100_000, ge=1)
    """Rows of a synthetic month (--source synthetic)."""
    synthetic_seed: int = Field(default=0, ge=0)
    """Seed of the synthetic trips; another seed gives other trips."""
    synthetic_broken_rows: int = Field(default=0, ge=0)
    """Invalid lines to add to a synthetic month."""

    @field_validator("to", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:  # noqa: ANN401 - anything may be given
        """A list as the environment has it, `duckdb postgres`; `taxi.toml` has lists of its own."""
        return re.findall(r"[^\s,]+", value) if isinstance(value, str) else value

    @field_validator("gates", mode="before")
    @classmethod
    def _read_gates(cls, given: object) -> object:
        try:
            return json.loads(given) if isinstance(given, str) else given
        except ValueError as error:
            raise ValueError(f"this is no JSON ({error}); legal is {EXAMPLE_OF_GATES}") from None

    @field_validator("gates")
    @classmethod
    def _check_gates(cls, given: GivenGates) -> GivenGates:
        from transforms.datasets import DATASETS  # here, because it imports Polars

        for name, gates in given.items():
            if name not in (EVERY_DATASET, *DATASETS):
                raise ValueError(
                    f"unknown dataset {name!r}; legal are {EVERY_DATASET}, {', '.join(DATASETS)}"
                )
            datasets = DATASETS.values() if name == EVERY_DATASET else [DATASETS[name]]
            columns = {column for dataset in datasets for column in dataset.column}
            if unknown := unknown_measures(gates, columns):
                raise ValueError(
                    f"unknown measure {', '.join(unknown)} of {name}; legal are {', '.join(legal_measures())}"
                )
        return given


def default_concurrency(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many months this machine can work on at once; limits of a container count.

    Args:
        cgroup: where the kernel says what a container may use, in the files of either version of cgroups.

    Returns:
        As many as there are cores, or gigabytes of memory if these are fewer; 1 to `MOST_MONTHS_AT_ONCE`.
    """
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        if limits := _numbers(cgroup / name):
            memory = min(memory, limits[0])
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        quota = [number for name in names for number in _numbers(cgroup / name)]
        if len(quota) == len(("quota", "period")):
            cores = min(cores, quota[0] / quota[1])
    return int(max(1, min(cores, round(memory / MEMORY_OF_A_MONTH), MOST_MONTHS_AT_ONCE)))


def _numbers(path: Path) -> list[int]:
    """The numbers in a file of the kernel's; none if there is no such file, or no limit (`max`, or -1)."""
    try:
        words = path.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdigit() for word in words) else []


@lru_cache(maxsize=1)
def _read_settings() -> Settings:
    _check_file()
    settings = Settings()
    known = {f"TAXI_{name.upper()}" for name in Settings.model_fields}
    names = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    ours = {name for name in names if name.startswith("TAXI_") and not name.startswith("TAXI_TEST_")}
    if unknown := sorted(ours - known):
        raise UsageError(f"unknown setting {', '.join(unknown)}; legal are {', '.join(sorted(known))}")
    return settings


def _check_file() -> None:
    """Refuse a `taxi.toml` that is no TOML, or has something in it that is no setting."""
    try:
        names = tomllib.loads(SETTINGS_FILE.read_text(encoding="utf-8")).keys()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UsageError(f"{SETTINGS_FILE} cannot be read: {error}") from None
    if unknown := sorted(names - Settings.model_fields.keys()):
        legal = ", ".join(sorted(Settings.model_fields))
        raise UsageError(f"unknown setting {', '.join(unknown)} in {SETTINGS_FILE}; legal are {legal}")


def setting_origins() -> dict[str, str]:
    """Where the value of each setting comes from, by its name.

    Returns:
        `environment`, `.env`, `taxi.toml` or `default`.
    """
    sources = {
        "environment": EnvSettingsSource(Settings),
        ".env": DotEnvSettingsSource(Settings),
        str(SETTINGS_FILE): TomlConfigSettingsSource(Settings),
    }
    given = {origin: {name.lower() for name in source()} for origin, source in sources.items()}
    # Three settings have Google's names in the environment, which differ in case only.
    return {
        name: next((origin for origin, names in given.items() if name in names), "default")
        for name in Settings.model_fields
    }


_overrides: dict[str, object] = {}


@contextlib.contextmanager
def override_settings(**changes: object) -> Generator[None]:
    """Let options of a command take precedence over the environment, for as long as the block lasts.

    Args:
        changes: values by the names of the settings; they are not validated.
    """
    global _overrides
    previous, _overrides = _overrides, {**_overrides, **changes}
    try:
        yield
    finally:
        _overrides = previous


def get_settings() -> Settings:
    """The settings of this process; environment, `.env` and `taxi.toml` are read once.

    Raises:
        UsageError: names the variable that is unknown or has an illegal value, and what is legal.
    """
    try:
        return _read_settings().model_copy(update=_overrides)
    except UnicodeDecodeError as error:
        raise UsageError(f".env is not UTF-8 ({error}); save it as UTF-8") from None
    except ValidationError as error:
        origins = setting_origins()
        wrong = "; ".join(
            f"TAXI_{name.upper()}={e['input']!r} ({origins.get(name)}): {e['msg']}"
            for e in error.errors()
            for name in (str(e["loc"][0]),)
        )
        raise UsageError(f"bad setting: {wrong}") from None
