import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.promql import equals, joined, one_of, quoted, shown, tagged, union


def unquoted(literal):
    """As PromQL reads a string literal, as far as we write any."""
    assert literal[0] == literal[-1] == '"'
    body = literal[1:-1]
    assert not re.search(r'(?<!\\)(\\\\)*"', body)
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], body)


@given(st.text(alphabet='ab"\\\n$.|{}', max_size=12))
def test_no_value_ends_its_literal(text):
    assert unquoted(quoted(text)) == text
    assert unquoted(equals("pod", text).removeprefix("pod=")) == text


@given(
    st.lists(st.text(alphabet='ab-.|$(["\\', min_size=1, max_size=6), min_size=1, max_size=3),
    st.text("ab-.|", max_size=6),
)
def test_a_pattern_matches_its_values_and_no_others(values, other):
    pattern = unquoted(one_of("pod", values).removeprefix("pod=~"))
    assert all(re.fullmatch(pattern, value) for value in values)
    assert bool(re.fullmatch(pattern, other)) == (other in values)


def test_plain_names_stay_plain():
    assert one_of("pod", ["a-1", "b-2"]) == 'pod=~"a-1|b-2"'


def test_matchers_are_joined_once_each():
    assert joined('a="1"', "", ' a="1", ', 'b="2"') == 'a="1",b="2"'


def test_a_tag_is_no_template():
    assert tagged("up", what="$1") == 'label_replace(up, "what", "$$1", "", "")'
    assert union(["a", "b"]) == "a or b"


@pytest.mark.parametrize(("length", "whole"), [(240, True), (241, False)])
def test_long_queries_are_cut_for_people(length, whole):
    assert (shown("x" * length) == "x" * length) == whole
    assert len(shown("x" * 9999)) < 250
