"""What halves of one session share, whichever starts first."""

from __future__ import annotations

from pymirror.core.feature import Launch
from pymirror.features.network.names import MOST, Names


def test_shared_is_one_object_of_a_class_for_a_session() -> None:
    one, other = Launch([], {}, ""), Launch([], {}, "")
    assert one.shared(Names) is one.shared(Names) is not other.shared(Names)


def test_names_are_known_by_address_whatever_their_spelling() -> None:
    names = Names()
    names.learned("DB.demo.", ["10.0.0.1", "10.0.0.2"])
    names.learned("db", ["10.0.0.1"])
    assert names.of("10.0.0.1") == ("db.demo", "db")
    assert names.of("10.0.0.3") == ()


def test_names_are_bounded_and_the_oldest_goes() -> None:
    names = Names()
    for number in range(MOST + 1):
        names.learned("x", [str(number)])
    assert names.of("0") == () and names.of(str(MOST)) == ("x",)
