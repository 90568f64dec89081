"""Draws the growth curves as one SVG with two panels, logarithmic on both axes. Knows only points and names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 430, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 86, 40, 46
_COLOURS = {
    "recado": "#c2410c",
    "node": "#15803d",
    "plain": "#1d4ed8",
    "floor": "#6b7280",
    "server": "#c2410c",
    "Redis": "#1d4ed8",
}
_OTHER_COLOUR = "#7e22ce"
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Panel:
    """One diagram: a line of (x, y) points for each name."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    pixels_from: float
    pixels_to: float

    def place(self, value: float) -> float:
        share = (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return self.pixels_from + share * (self.pixels_to - self.pixels_from)

    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = _STEPS if self.high / self.low < 1000 else (1,)
        values = [step * 10.0**decade for decade in decades for step in steps]
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]


def draw(panels: Sequence[Panel]) -> str:
    """Return the SVG document; panels without points are left out."""
    drawn = [panel for panel in panels if any(panel.lines.values())]
    width = _WIDTH * max(1, len(drawn))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}"'
        ' font-family="system-ui, sans-serif" font-size="11">',
        f'<rect width="{width}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for index, panel in enumerate(drawn):
        parts += [f'<g transform="translate({index * _WIDTH} 0)">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    x_axis = _axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    y_axis = _axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        _text(_LEFT, 20, panel.title, 'font-weight="600" font-size="13"'),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, panel.x_label, 'text-anchor="middle"'),
        _text(0, 0, panel.y_label, f'text-anchor="middle" transform="translate(14 {_HEIGHT / 2}) rotate(-90)"'),
        *_grid(x_axis, y_axis),
    ]
    for name, line in panel.lines.items():
        if line:
            parts += _line(name, [(x_axis.place(x), y_axis.place(y)) for x, y in line])
    return parts


def _axis(values: list[float], pixels_from: float, pixels_to: float) -> _Axis:
    low, high = min(values), max(values)
    return _Axis(low / 1.15, max(high, low * 2) * 1.15, pixels_from, pixels_to)


def _grid(x_axis: _Axis, y_axis: _Axis) -> list[str]:
    parts = []
    for value in x_axis.ticks():
        x = x_axis.place(value)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#e5e7eb"/>')
        parts.append(_text(x, _HEIGHT - _BOTTOM + 15, f"{value:,g}", 'text-anchor="middle"'))
    for value in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#e5e7eb"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:,g}", 'text-anchor="end"'))
    return parts


def _line(name: str, places: list[tuple[float, float]]) -> list[str]:
    colour = _COLOURS.get(name, _OTHER_COLOUR)
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    x, y = places[-1]
    label = _text(x + 8, y + 4, name, f'fill="{colour}" font-weight="600"')
    return [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots, label]


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'
