"""What every step needs: durable files, locks, the data directory, progress, retries, stopping, faces."""

from flows.runtime.duckdb_memory import in_memory_duckdb, limit_memory
from flows.runtime.faces import lazy_face
from flows.runtime.files import (
    atomic_write,
    commit_file,
    create_directory,
    describe_free_space,
    explain_full_disk,
    file_lock,
    fsync,
    remove_temporary_files,
    require_free_space,
    temporary_path,
)
from flows.runtime.layout import Layout
from flows.runtime.prefect_url import is_temporary_server, note_temporary_server
from flows.runtime.progress import (
    FinishedMonth,
    LogProgress,
    ProgressCallback,
    begin_run,
    finish_month,
    forward_progress,
    reporter,
    set_progress_listener,
)
from flows.runtime.retry import (
    CONTENTION,
    RetryPolicy,
    announce_retry,
    parse_retry_after,
    retry_transient,
)
from flows.runtime.stopping import check_stopped, clear_stop, is_stopped, pause, request_stop

__all__ = [
    "CONTENTION",
    "FinishedMonth",
    "Layout",
    "LogProgress",
    "ProgressCallback",
    "RetryPolicy",
    "announce_retry",
    "atomic_write",
    "begin_run",
    "check_stopped",
    "clear_stop",
    "commit_file",
    "create_directory",
    "describe_free_space",
    "explain_full_disk",
    "file_lock",
    "finish_month",
    "forward_progress",
    "fsync",
    "in_memory_duckdb",
    "is_stopped",
    "is_temporary_server",
    "lazy_face",
    "limit_memory",
    "note_temporary_server",
    "parse_retry_after",
    "pause",
    "remove_temporary_files",
    "reporter",
    "request_stop",
    "require_free_space",
    "retry_transient",
    "set_progress_listener",
    "temporary_path",
]
