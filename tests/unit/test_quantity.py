from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.quantity import parse_quantity


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, Fraction(0)),
        (2, Fraction(2)),
        (0.5, Fraction(1, 2)),
        ("16Gi", Fraction(16 * 2**30)),
        ("1Ki", Fraction(1024)),
        ("500m", Fraction(1, 2)),
        ("0.1", Fraction(1, 10)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("1e3", Fraction(1000)),
        ("1E3", Fraction(1000)),
        ("1E", Fraction(10**18)),
        ("1e-3", Fraction(1, 1000)),
        ("-1k", Fraction(-1000)),
        ("+2", Fraction(2)),
        ("100n", Fraction(1, 10**7)),
        ("9" * 30, Fraction(int("9" * 30))),
    ],
)
def test_a_quantity_is_its_exact_value(value: object, expected: Fraction) -> None:
    assert parse_quantity(value) == expected


@pytest.mark.parametrize(
    "value",
    [None, True, "", "one", "1 Gi", "1gi", "1GiB", "1.2.3", "e3", "0x10", "١", "1\n", "9" * 65, [], {}, float("inf"), float("nan")],
)  # fmt: skip
def test_anything_else_is_no_quantity(value: object) -> None:
    assert parse_quantity(value) is None


@given(st.integers(-(10**15), 10**15), st.sampled_from(["", "m", "k", "Ki", "M", "Mi", "G", "Gi", "T", "Ti"]))
def test_every_suffix_scales_linearly(number: int, suffix: str) -> None:
    one = parse_quantity(f"1{suffix}")
    assert one is not None
    assert parse_quantity(f"{number}{suffix}") == number * one
