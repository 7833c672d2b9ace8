"""Attributes as they cross the channel: what no kernel says is refused once, what passes can be packed."""

from __future__ import annotations

import os

import pytest

from pymirror.features.fs.attr import FUSE_ATTR, Attr

NONE = Attr.bare(0, 0)
LARGEST = {"I": (1 << 32) - 1, "Q": (1 << 64) - 1, "q": (1 << 63) - 1}
WIDTHS = "IIIIQQQQIqqqQ"


@pytest.mark.parametrize("field", Attr._fields)
@pytest.mark.parametrize("end", ["largest", "least"])
def test_whatever_is_unpacked_can_be_packed_for_the_kernel(field: str, end: str) -> None:
    kind = WIDTHS[Attr._fields.index(field)]
    value = LARGEST[kind] if end == "largest" else (-LARGEST[kind] - 1 if kind == "q" else 0)
    packed = NONE._replace(**{field: value}).pack()
    try:
        attr = Attr.unpack(packed)
    except ValueError:
        assert (field, end) in [("size", "largest"), ("rdev", "largest")]
    else:
        assert len(attr.fuse()) == FUSE_ATTR.size


def test_attributes_cut_short_are_refused() -> None:
    packed = NONE.pack()
    for data, at in ((packed[:-1], 0), (packed, 1), (packed, -1), (b"", 0)):
        with pytest.raises(ValueError, match="cut short"):
            Attr.unpack(data, at)


@pytest.mark.parametrize(
    ("major", "minor"), [(0, 0), (8, 1), (254, 3), (4095, 255), (1, 256), (259, 0xFFFFF)]
)
def test_a_device_number_in_the_kernels_form(major: int, minor: int) -> None:
    """new_encode_dev(): the minor's low byte, the major, the minor's rest."""
    rdev = FUSE_ATTR.unpack(NONE._replace(rdev=os.makedev(major, minor)).fuse())[13]
    assert rdev == (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def test_even_a_number_that_was_never_unpacked_does_not_break_packing() -> None:
    assert len(NONE._replace(rdev=(1 << 64) - 1).fuse()) == FUSE_ATTR.size
