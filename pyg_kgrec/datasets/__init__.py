"""Named data sets, and a generated one."""

from pyg_kgrec.datasets.lastfm import LastFM
from pyg_kgrec.datasets.movielens import MovieLens100K
from pyg_kgrec.datasets.synthetic import SyntheticKG

__all__ = ["LastFM", "MovieLens100K", "SyntheticKG"]
