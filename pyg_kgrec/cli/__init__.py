"""The command ``pyg-kgrec``: from files to a table of recommendations."""

from pyg_kgrec.cli.main import main

__all__ = ["main"]
