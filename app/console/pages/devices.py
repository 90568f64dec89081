"""The pages of devices: the list, and one device with its queue. The operations are those of receipts."""

from app.console.page import ConsolePage

DEVICES = ConsolePage("devices", "Devices", "devices.list", live_seconds=5.0, is_shared=True)
QUEUE = ConsolePage("queue", "Device", "devices.queue", live_seconds=2.0, is_in_menu=False)
