import json

import pytest

from dynawatt.governing.table import ClockRow, GovernorTable

from .pods import ROWS, table


def test_a_table_survives_json_and_is_small():
    text = json.dumps(table().to_dict(), separators=(",", ":"))
    assert GovernorTable.from_dict(json.loads(text)) == table()
    assert len(text) < 400


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"attainment": 1.0}, "attainment"),
        ({"tbt": 0}, "tbt_s"),
        ({"drain": float("nan")}, "number"),
        ({"prompt": "1000"}, "number"),
        ({"kv": True}, "number"),
        ({"ttft": 1}, "ttft"),
        ({"rows": []}, "rows"),
        ({"rows": [[800 + i, 1, 1, 1] for i in range(17)]}, "rows"),
        ({"rows": 3}, "rows"),
        ({"rows": [3]}, "row"),
        ({"rows": [[800, 1, 1]]}, "3 numbers"),
        ({"rows": [[800.5, 1, 1, 1]]}, "whole"),
        ({"rows": [[800, -1, 1, 1]]}, "0 or more"),
        ({"rows": [[1200, 1, 1, 1], [800, 2, 2, 2]]}, "ascend"),
        ({"rows": [[800, 2, 1, 1], [1200, 1, 2, 2]]}, "at least as much"),
        ({"more": 1}, "exactly"),
    ],
)
def test_bad_tables_are_refused(changes, problem):
    with pytest.raises(ValueError, match=problem):
        GovernorTable.from_dict({**table().to_dict(), **changes})


def test_a_missing_key_is_refused():
    values = table().to_dict()
    del values["drain"]
    with pytest.raises(ValueError, match="exactly"):
        GovernorTable.from_dict(values)


@pytest.mark.parametrize(
    ("floor_mhz", "ceiling_mhz", "expected"),
    [
        (800, 1980, [800, 1200, 1600, 1980]),
        (600, 1980, [800, 1200, 1600, 1980]),
        (1000, 1980, [1000, 1200, 1600, 1980]),
        (1000, 1500, [1000, 1200, 1500]),
        (1700, 1800, [1700, 1800]),
        (1980, 1980, [1980]),
        (2100, 2200, [2100, 2200]),
    ],
)
def test_rows_of_a_claim(floor_mhz, ceiling_mhz, expected):
    assert [row.clock_mhz for row in table().within(floor_mhz, ceiling_mhz)] == expected


def test_a_floor_between_rows_carries_what_the_lower_row_does():
    assert table().within(1000, 1980)[0] == ROWS[0]._replace(clock_mhz=1000)


@pytest.mark.parametrize(("floor_mhz", "ceiling_mhz"), [(1980, 800), (0, 800)])
def test_a_range_that_is_none_is_refused(floor_mhz, ceiling_mhz):
    with pytest.raises(ValueError, match="floor"):
        table().within(floor_mhz, ceiling_mhz)


def test_one_row_is_enough():
    assert [row.clock_mhz for row in table(rows=(ClockRow(1980, 1.0, 1.0, 1),)).within(800, 1980)] == [1980]
