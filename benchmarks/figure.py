"""The one shape of all figures: what was measured, and the baseline measured in the same run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from attrs import asdict, frozen


@frozen
class Figure:
    """ratio: value over baseline."""

    name: str
    value: float
    unit: str
    baseline: float
    ratio: float


def figure(name: str, value: float, unit: str, baseline: float) -> Figure:
    """A figure with three digits that count."""
    return Figure(name, _rounded(value), unit, _rounded(baseline), _rounded(value / baseline))


def _rounded(number: float) -> float:
    return float(f"{number:.3g}") if abs(number) < 1000 else float(round(number))


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return made


def main(
    doc: str | None,
    measures: Sequence[str],
    each_way: int,
    figures: Callable[[int, Sequence[str], Sequence[int]], Iterable[Figure]],
) -> None:
    """Of a benchmark of chosen measures, without a delay and with one; figures(runs, measures, delays)."""
    options = parser(doc)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--only", nargs="*", default=measures, choices=measures, metavar="MEASURE")
    options.add_argument("--delays", nargs="*", type=int, default=[0, each_way], metavar="MS")
    order = options.parse_args()
    publish(figures(order.runs, order.only, order.delays), order.json)


def publish(figures: Iterable[Figure], file: Path | None) -> None:
    """Print each figure as it comes, and write all of them as JSON where a file was asked for."""
    print(f"{'name':<50} {'value':>10} {'unit':<5} {'baseline':>10} {'ratio':>8}")
    shown = []
    for each in figures:
        print(
            f"{each.name:<50} {each.value:>10g} {each.unit:<5} {each.baseline:>10g} {each.ratio:>8g}",
            flush=True,
        )
        shown.append(asdict(each))
    if file is not None:
        file.write_text(json.dumps(shown, indent=2) + "\n")
