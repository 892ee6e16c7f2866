"""What a person types and sees: options, console, dry run, inventory, signals, exit codes."""

from flows.cli.command_line import (
    LoadCommand,
    OneLineParser,
    add_destination_option,
    add_directory_option,
    add_month_options,
    add_summary_option,
    add_transform_option,
    check_directory,
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
    "Inventory",
    "LoadCommand",
    "MonthInDestination",
    "MonthInventory",
    "OneLineParser",
    "add_destination_option",
    "add_directory_option",
    "add_month_options",
    "add_summary_option",
    "add_transform_option",
    "check_directory",
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
