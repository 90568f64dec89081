// A backend with Pusher's package for Node. Reads an order as JSON, and writes the outcome of each of its calls.
"use strict";

const Pusher = require("pusher");

const order = JSON.parse(require("fs").readFileSync(0, "utf8"));
const app = new Pusher({
  appId: order.app_id,
  key: order.key,
  secret: order.secret,
  host: order.host,
  port: order.port,
  useTLS: false,
  encryptionMasterKeyBase64: order.master_key,
});
const calls = {
  trigger: (channels, event, data, more) => app.trigger(channels, event, data, more),
  batch: (events) => app.triggerBatch(events),
  channels: (params) => app.get({ path: "/channels", params }),
  channel: (channel, params) => app.get({ path: `/channels/${channel}`, params }),
  users: (channel) => app.get({ path: `/channels/${channel}/users` }),
  to_user: (user, event, data) => app.sendToUser(user, event, data),
  terminate: (user) => app.terminateUserConnections(user),
};

async function main() {
  const outcomes = [];
  for (const [name, ...args] of order.calls) {
    try {
      const answer = await calls[name](...args);
      outcomes.push({ value: await answer.json() });
    } catch (error) {
      outcomes.push({ error: error.name, status: error.status, text: String(error.body) });
    }
  }
  process.stdout.write(JSON.stringify(outcomes));
}

main();
