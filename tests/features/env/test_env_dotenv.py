"""dotenv files, as a table."""

from __future__ import annotations

import pytest

from pymirror.features.env.dotenv import parse


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("\n# words\n   # more\n", {}),
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("  A = 1  ", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=  # nothing", {"A": ""}),
        ("A=\nB=2", {"A": "", "B": "2"}),
        ("A=two words # said", {"A": "two words"}),
        ("A=a#b", {"A": "a#b"}),
        ("A=x=y", {"A": "x=y"}),
        ("A=it's", {"A": "it's"}),
        ("A='# \\n $B'  # literal", {"A": "# \\n $B"}),
        ('A="a\\nb\\t\\"c\\" \\\\ \\x"', {"A": 'a\nb\t"c" \\ \\x'}),
        ('A="one\ntwo"\nB=3', {"A": "one\ntwo", "B": "3"}),
        ("A=$HOME/${B}", {"A": "$HOME/${B}"}),
        ("A=1\nA=2", {"A": "2"}),
        ("a.b-c=1", {"a.b-c": "1"}),
    ],
)
def test_parse(text: str, values: dict[str, str]) -> None:
    assert parse(text) == values


@pytest.mark.parametrize(
    ("text", "line"),
    [("A", 1), ("A=1\n1B=2", 2), ("A=1\n\n\n=x", 4), ('A="open', 1), ("A='x' y", 1), ("A B=1", 1)],
)
def test_bad_line_is_named(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=f"line {line}: "):
        parse(text)
