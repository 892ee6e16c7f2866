"""What a person types and sees: options, console, dry run, inventory, signals, exit codes."""

from typing import TYPE_CHECKING

from flows.runtime import lazy_face

if TYPE_CHECKING:
    from flows.cli.command_line import (
        LOAD_OPTIONS,
        MONTH_OPTIONS,
        LoadCommand,
        command_parser,
        load_parser,
        parse_command,
        request_from,
        selection_from,
    )
    from flows.cli.console import console_output, run_command_line, table_console
    from flows.cli.dry_run import print_bucket_plan
    from flows.cli.inventory import Inventory, MonthInDestination, MonthInventory, take_inventory
    from flows.cli.logs import messages_to, print_line
    from flows.cli.paths import check_directory, path_argument
    from flows.cli.prefect_settings import (
        PROJECT_FILES,
        import_flow,
        prefect_session,
        read_project_file,
        require_prefect_server,
    )
    from flows.cli.run_load import run_load_command
    from flows.cli.run_report import run_and_report, write_report
    from flows.cli.signals import exit_with, signals_deferred

__getattr__ = lazy_face(__name__)

__all__ = [
    "LOAD_OPTIONS",
    "MONTH_OPTIONS",
    "PROJECT_FILES",
    "Inventory",
    "LoadCommand",
    "MonthInDestination",
    "MonthInventory",
    "check_directory",
    "command_parser",
    "console_output",
    "exit_with",
    "import_flow",
    "load_parser",
    "messages_to",
    "parse_command",
    "path_argument",
    "prefect_session",
    "print_bucket_plan",
    "print_line",
    "read_project_file",
    "request_from",
    "require_prefect_server",
    "run_and_report",
    "run_command_line",
    "run_load_command",
    "selection_from",
    "signals_deferred",
    "table_console",
    "take_inventory",
    "write_report",
]
