"""The command ``rankwise report``, in this process."""

import argparse

from rankwise.report import page


def make_report(folder, *options):
    """Make the report of a folder, and return the exit status."""
    parser = argparse.ArgumentParser()
    page.add_arguments(parser)
    return page.main(parser.parse_args([str(folder), *options]))
