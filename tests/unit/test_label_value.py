from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from admission.label_value import as_label_value, is_label_value


@pytest.mark.parametrize("text", ["", "a", "A1", "a-b_c.d", "x" * 63])
def test_what_the_api_server_accepts_stays(text: str) -> None:
    assert is_label_value(text)
    assert as_label_value(text) == text


@pytest.mark.parametrize("text", ["-a", "a.", "a/b", "a b", "x" * 64, "é", "a\n", "_"])
def test_what_it_refuses_is_made_to_fit(text: str) -> None:
    assert not is_label_value(text)
    assert is_label_value(as_label_value(text))


def test_names_that_differ_only_where_they_are_cut_get_different_labels() -> None:
    assert as_label_value("x" * 70 + "a") != as_label_value("x" * 70 + "b")
    assert as_label_value("org/model") != as_label_value("org model")


@given(st.text(max_size=100).filter(lambda text: text.isprintable()))
def test_any_text_becomes_a_label_value(text: str) -> None:
    assert is_label_value(as_label_value(text))


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_names_never_share_a_label(one: str, other: str) -> None:
    assume(one != other)
    assume(all(text.encode("utf-8", "ignore").decode() == text for text in (one, other)))
    assert as_label_value(one) != as_label_value(other)
