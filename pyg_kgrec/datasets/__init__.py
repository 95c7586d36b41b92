"""Named data sets, and a generated one."""

from pyg_kgrec.datasets.synthetic import SyntheticKG

__all__ = ["SyntheticKG"]
