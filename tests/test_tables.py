from __future__ import annotations

import numpy as np
import pandas as pd

from pyg_kgrec import _tables

HALF = "\ud800"


def test_a_column_of_text_without_utf_8_holds_objects() -> None:
    columns = {"name": ["a", HALF], "id": ["x", "y"], "number": [1, 2], "flag": True, "score": np.ones(2)}
    frame = _tables.frame_of(columns)
    assert frame["name"].tolist() == ["a", HALF]
    assert frame["number"].dtype == np.int64
    assert frame["score"].dtype == np.float64
    assert frame["flag"].tolist() == [True, True]
    assert _tables.index_of(["a", HALF], "user").tolist() == ["a", HALF]


def test_other_columns_are_what_pandas_makes_of_them() -> None:
    columns = {"name": ["a", "b"], "number": [1, 2], "part": "x", "none": [None, 0.5]}
    pd.testing.assert_frame_equal(_tables.frame_of(columns), pd.DataFrame(columns))
    assert _tables.text_of(["a"]) == ["a"]
    pd.testing.assert_index_equal(_tables.index_of([3, 4]), pd.Index([3, 4]))
