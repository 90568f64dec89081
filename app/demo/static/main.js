/** Puts the page together: the devices on one side, the backend on the other. */

import { startBackend } from "./backend.js";
import { DevicePanel } from "./device.js";

/** The users of the next panels, which the visitor may change. A second device comes first, to show a queue for each. */
const SUGGESTIONS = [
  { user: "alice", device: "phone" },
  { user: "alice", device: "laptop" },
  { user: "bob", device: "phone" },
  { user: "carol", device: "phone" },
];

const hasClient = "io" in window;
let panelCount = 0;

/**
 * Adds the panel of one more device.
 * @returns {DevicePanel}
 */
function addDevice() {
  const suggestion = SUGGESTIONS[panelCount] ?? { user: "alice", device: `device-${panelCount + 1}` };
  panelCount += 1;
  const panel = new DevicePanel(suggestion);
  document.querySelector("#devices").append(panel.element);
  return panel;
}

startBackend();
document.querySelector("#bundle-missing").hidden = hasClient;
document.querySelector("#add-device").addEventListener("click", () => addDevice().focus());

const first = addDevice();
if (hasClient) {
  first.connect();
}
