// Recado's client for channels: connects, subscribes, reconnects by itself, and resumes to get the missed pushes.
//
//   <script src="https://push.example.com/channels/newsite/client.js"></script>
//   <script>
//     const channels = new RecadoChannels();
//     const unsubscribe = channels.subscribe("news", (message) => console.log(message));
//   </script>
//
// `new RecadoChannels(url, options)`: a URL looks like "wss://push.example.com/channels/newsite". Without it the client
// derives it from the script's URL. A module does not know its script's URL here, so a module must pass it.
// Options, all of them functions:
//   onstate("connecting" | "open" | "closed")
//   onmissed(channel): pushes are lost for good, so fetch everything again. With a channel: fetch only what belongs to
//     this channel, which was deleted and is subscribed to again.
//   onerror({code, message, data}): the server has refused an action, or a channel was deleted (410). The client keeps
//     trying to subscribe.
(function (global) {
  "use strict";

  const script = typeof document === "undefined" ? null : document.currentScript;
  const FIRST_PAUSE_MS = 500;
  const LONGEST_PAUSE_MS = 30000;

  class RecadoChannels {
    constructor(url, options) {
      const own = /\/(client|js\/pushserver)\.js([?#].*)?$/;
      this.url = url || (script && script.src.replace(/^http/, "ws").replace(own, ""));
      if (!this.url) throw new Error('RecadoChannels: expected a URL, as "wss://push.example.com/channels/newsite"');
      this.options = options || {};
      this.uuid = null; // a publisher may address this client by it; it changes when the client could not be resumed
      this.secret = null;
      this.callbacks = new Map(); // channel -> set of callbacks
      this.subscribed = new Set(); // the page's channels in the server's list
      this.deleted = new Set(); // the page's deleted channels, until they are subscribed to again
      this.attempt = 0;
      this.retries = 0;
      this.retry = null;
      this.isClosed = false;
      this.timer = null;
      this.connect();
    }

    // Calls `callback(message, channel)` for each push; returns the function that ends the subscription.
    subscribe(channel, callback) {
      let callbacks = this.callbacks.get(channel);
      if (!callbacks) {
        this.callbacks.set(channel, (callbacks = new Set()));
        this.send("SUBSCRIBE", channel);
      }
      callbacks.add(callback);
      return () => {
        if (callbacks.delete(callback) && !callbacks.size && this.callbacks.get(channel) === callbacks) {
          for (const kept of [this.callbacks, this.subscribed, this.deleted]) kept.delete(channel);
          this.send("UNSUBSCRIBE", channel);
        }
      };
    }

    // Ends the connection for good.
    close() {
      this.isClosed = true;
      clearTimeout(this.timer);
      clearTimeout(this.retry);
      this.socket.close();
    }

    connect() {
      const query = new URLSearchParams({ resumable: "1" });
      if (this.secret) {
        query.set("resume", this.uuid);
        query.set("secret", this.secret);
      }
      this.tell("onstate", "connecting");
      this.isOpen = false;
      const separator = this.url.includes("?") ? "&" : "?";
      const socket = (this.socket = new WebSocket(this.url + separator + query));
      socket.onmessage = (event) => this.receive(JSON.parse(event.data));
      socket.onclose = () => this.lose();
    }

    lose() {
      this.isOpen = false;
      this.tell("onstate", "closed");
      this.rest();
      if (this.isClosed) return;
      this.timer = setTimeout(() => this.connect(), this.pause(this.attempt));
      this.attempt += 1;
    }

    // A random time from zero to the longest pause of this attempt, so that many clients do not reconnect at once.
    pause(attempt) {
      return Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
    }

    receive({ messageType, code, message, data }) {
      if (messageType === "CLIENT_PUSH") this.push(data.pushMessage);
      else if (messageType === "ERROR") this.refused({ code, message, data });
      else if (messageType === "CLIENT_ACK") this.acknowledge(data);
    }

    push({ channel, message }) {
      for (const callback of [...(this.callbacks.get(channel) || [])]) callback(message, channel);
    }

    acknowledge({ uuid, subscribedChannels, secret, missed }) {
      const isNew = this.secret !== null && this.uuid !== uuid;
      if (isNew) this.subscribed.clear();
      this.uuid = uuid;
      if (secret) this.secret = secret;
      if (!this.isOpen) {
        this.isOpen = true;
        this.attempt = 0;
        this.listed = subscribedChannels;
        this.catchUp();
        this.tell("onstate", "open");
      }
      this.compare(subscribedChannels);
      // A new uuid instead of the requested one: the server has forgotten this client and the pushes that it missed.
      if (missed || isNew) this.tell("onmissed");
    }

    // Finds in the server's list the channels that were deleted, and those that are subscribed to again.
    compare(listed) {
      this.listed = listed;
      const isListed = new Set(listed);
      const [before, deleted] = [this.subscribed, this.deleted];
      this.subscribed = new Set(listed.filter((channel) => this.callbacks.has(channel)));
      this.deleted = new Set([...before, ...deleted].filter((channel) => !isListed.has(channel)));
      const lost = [...before].filter((channel) => !isListed.has(channel));
      if (lost.length || this.isSettled()) this.rest();
      if (!this.isSettled()) this.tryAgain();
      for (const channel of lost) {
        const data = { errorDetails: `The channel "${channel}" was deleted.` };
        this.tell("onerror", { code: 410, message: "Gone", data });
      }
      for (const channel of deleted) if (isListed.has(channel)) this.tell("onmissed", channel);
    }

    refused(error) {
      if (this.isOpen && !this.isSettled()) this.tryAgain();
      this.tell("onerror", error);
    }

    // Whether the server's list equals the page's channels.
    isSettled() {
      return this.listed.length === this.callbacks.size && this.listed.every((channel) => this.callbacks.has(channel));
    }

    // Retries after a pause, because the answers to sent actions may be on their way.
    tryAgain() {
      if (this.retry !== null) return;
      this.retry = setTimeout(() => {
        this.retry = null;
        this.retries += 1;
        this.catchUp();
      }, FIRST_PAUSE_MS + this.pause(this.retries));
    }

    rest() {
      clearTimeout(this.retry);
      this.retry = null;
      this.retries = 0;
    }

    // Sends the actions that make the server's list equal the page's channels, which may have changed meanwhile.
    catchUp() {
      const isListed = new Set(this.listed);
      for (const channel of this.callbacks.keys()) {
        if (!isListed.has(channel)) this.send("SUBSCRIBE", channel);
      }
      for (const channel of isListed) {
        if (!this.callbacks.has(channel)) this.send("UNSUBSCRIBE", channel);
      }
    }

    send(action, channel) {
      if (!this.isOpen) return; // catchUp sends it later
      this.socket.send(JSON.stringify({ messageType: "CLIENT_ACTION", action, data: { channel } }));
    }

    tell(name, value) {
      if (this.options[name]) this.options[name](value);
    }
  }

  global.RecadoChannels = RecadoChannels;
})(globalThis);
