"""The command ``rankwise report``, in this process."""

import argparse

from rankwise.report import command


def make_report(folder, *options):
    """Make the report of a folder, and return the exit status."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args([str(folder), *options]))
