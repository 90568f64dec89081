"""The pages of sites: the list, and one site with its keys, its limits and its authUrl. The operations are the
catalog's."""

from app.console.page import ConsolePage

SITES = ConsolePage("sites", "Sites", "sites.list", live_seconds=5.0, is_shared=True)
SITE = ConsolePage("site", "Site", "sites.show", live_seconds=5.0, is_in_menu=False)
