"""What a person types and sees: options, console, dry run, inventory, signals, exit codes."""

from flows.cli.command_line import (
    LOAD_OPTIONS,
    MONTH_OPTIONS,
    LoadCommand,
    OneLineParser,
    add_month_options,
    check_directory,
    command_parser,
    load_parser,
    parse_command,
    requested,
    selected,
)
from flows.cli.console import console_output, print_usage_error, run_command_line
from flows.cli.inventory import Inventory, MonthInDestination, MonthInventory, take_inventory
from flows.cli.prefect_settings import server_defaults
from flows.cli.run_load import run_load_command
from flows.cli.signals import exit_with

__all__ = [
    "LOAD_OPTIONS",
    "MONTH_OPTIONS",
    "Inventory",
    "LoadCommand",
    "MonthInDestination",
    "MonthInventory",
    "OneLineParser",
    "add_month_options",
    "check_directory",
    "command_parser",
    "console_output",
    "exit_with",
    "load_parser",
    "parse_command",
    "print_usage_error",
    "requested",
    "run_command_line",
    "run_load_command",
    "selected",
    "server_defaults",
    "take_inventory",
]
