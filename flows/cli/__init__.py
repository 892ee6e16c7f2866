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
from flows.cli.console import console_output, print_usage_error, run_command_line
from flows.cli.dry_run import print_plan
from flows.cli.inventory import Inventory, MonthInDestination, MonthInventory, take_inventory
from flows.cli.prefect_settings import server_defaults
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
    "parse_command",
    "print_plan",
    "print_usage_error",
    "run_command_line",
    "selected",
    "server_defaults",
    "take_inventory",
]
