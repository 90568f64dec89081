"""The bounds of a request for receipts. The protocol has no section in sites.yml: every site may ask."""

#: The items of a page, unless the request says otherwise; and the most that it may ask for.
DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000
#: The longest room, user, device or event in a query, as UTF-8.
MAX_NAME_BYTES = 1_024
#: The longest cursor that is read.
MAX_CURSOR_BYTES = 16_384
#: Requests of one site under way on a node.
MAX_UNDER_WAY = 8
#: The time of one request.
REQUEST_SECONDS = 10.0
#: How long a request waits for the journal.
JOURNAL_SECONDS = 2.0
#: The newest messages of a device among which its last ack is looked for: as many for all devices of a page, within
#: these bounds for each.
ACKS_LOOKED_AT = 5_000
LEAST_ACKS_LOOKED_AT, MOST_ACKS_LOOKED_AT = 10, 200
#: The rows of one table that a page of a trace looks at.
MAX_TRACE_ROWS = 1_000
#: A page ends with the item that makes it longer.
MAX_PAGE_BYTES = 1_000_000

#: Of devices in one hash of Redis up to so many are sorted; more are paged in the order of Redis.
MAX_SORTED = 1_000
#: The runs of scripts, and the steps of a scan, of one request. Past it a page is short, and has a cursor.
MAX_STEPS = 200
#: The devices that one page describes, whatever its limit: each costs Redis and the journal 0.1 to 0.5 ms.
DEVICES_A_PAGE = 200
#: The queues that a list by their length sorts.
MOST_QUEUES_SORTED = 5_000
#: The runs that look for devices in a state, each among a thousand: a page answers in 100 ms, however few there are.
STATE_STEPS = 10
#: The elements that one step of a scan asks for: as many as the page has, within these bounds.
LEAST_SCAN_COUNT = 50
SCAN_COUNT = 500
#: The waiting messages that a page of a list looks at.
MAX_LOOKED_AT = 5_000
#: Messages of one script run.
MESSAGES_A_RUN = 200
#: Devices of one script run: those that it describes, and those whose queues it looks at.
DESCRIBED_A_RUN = 25
DEVICES_A_RUN = 100
#: Users whose rooms one command reads.
USERS_A_COMMAND = 200
#: With more rooms a message's devices are looked for among all devices of the site.
MAX_ROOMS_SCANNED = 16
