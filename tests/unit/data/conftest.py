from __future__ import annotations

import pandas as pd
import pytest
from data_cases import make_data


@pytest.fixture
def data() -> pd.DataFrame:
    return make_data()
