"""The plot is one well-formed SVG."""

from xml.etree import ElementTree

from bench.plot import Panel, draw


def test_each_contender_has_its_line_and_name() -> None:
    """Two lines with three points give two paths, six dots and both names."""
    lines = {
        "recado": [(1.0, 90.0), (100.0, 12.0), (5000.0, 9.0)],
        "node": [(1.0, 60.0), (100.0, 25.0), (5000.0, 24.0)],
    }
    root = ElementTree.fromstring(draw([Panel("cost", "fan-out", "µs", lines)]))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"recado", "node", "cost"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 6


def test_a_panel_without_points_is_left_out() -> None:
    """A run without the scenario `growth` draws an empty document, not an error."""
    assert ElementTree.fromstring(draw([Panel("cost", "fan-out", "µs", {})])).get("width") == "430"
