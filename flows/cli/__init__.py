"""What a person types and sees: options, console, dry run, inventory, signals, exit codes."""

from flows.cli.command_line import (
    Command,
    OneLineParser,
    add_month_options,
    check_common_options,
    check_directory,
    parse_command,
    selected,
)
from flows.cli.console import console_output, run_command_line, stdout_console
from flows.cli.dry_run import print_plan
from flows.cli.inventory import Inventory, MonthInDestination, MonthInventory, take_inventory
from flows.cli.logs import messages_to
from flows.cli.prefect_settings import read_project_file, require_prefect_server, server_defaults
from flows.cli.signals import exit_with

__all__ = [
    "Command",
    "Inventory",
    "MonthInDestination",
    "MonthInventory",
    "OneLineParser",
    "add_month_options",
    "check_common_options",
    "check_directory",
    "console_output",
    "exit_with",
    "messages_to",
    "parse_command",
    "print_plan",
    "read_project_file",
    "require_prefect_server",
    "run_command_line",
    "selected",
    "server_defaults",
    "stdout_console",
    "take_inventory",
]
