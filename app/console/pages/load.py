"""The pages of the load test: the runs, one run, and two side by side. The operations are those of `app/load`."""

from app.console.page import ConsolePage

LOAD = ConsolePage("load", "Load test", "load.list", live_seconds=2.0)
LOAD_RUN = ConsolePage("load_run", "Run", "load.show", live_seconds=2.0, is_in_menu=False)
LOAD_COMPARE = ConsolePage("load_compare", "Comparison", "load.compare", is_in_menu=False)
