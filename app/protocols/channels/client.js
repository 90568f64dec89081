// Recado's client for channels: connects, subscribes, comes back by itself, and asks for what it missed meanwhile.
//
//   <script src="https://push.example.com/channels/newsite/client.js"></script>
//   <script>
//     const channels = new RecadoChannels();
//     const unsubscribe = channels.subscribe("news", (message) => console.log(message));
//   </script>
//
// `new RecadoChannels(url, options)`: the URL is that of the script unless given, as "wss://push.example.com/channels/newsite".
// Options, all of them functions: onstate("connecting" | "open" | "closed"), onmissed() when pushes are lost for good (fetch
// everything anew), onerror({code, message, data}) for what the server refuses.
(function (global) {
  "use strict";

  const script = typeof document === "undefined" ? null : document.currentScript;
  const FIRST_PAUSE_MS = 500;
  const LONGEST_PAUSE_MS = 30000;

  class RecadoChannels {
    constructor(url, options) {
      this.url = url || (script && script.src.replace(/^http/, "ws").replace(/\/client\.js([?#].*)?$/, ""));
      this.options = options || {};
      this.uuid = null; // by which a publisher may address this client; another one when it could not be resumed
      this.secret = null;
      this.callbacks = new Map(); // channel -> set of callbacks
      this.attempt = 0;
      this.isClosed = false;
      this.timer = null;
      this.connect();
    }

    // Calls `callback(message, channel)` for each push; returns the function that ends it.
    subscribe(channel, callback) {
      let callbacks = this.callbacks.get(channel);
      if (!callbacks) {
        this.callbacks.set(channel, (callbacks = new Set()));
        this.send("SUBSCRIBE", channel);
      }
      callbacks.add(callback);
      return () => {
        if (callbacks.delete(callback) && !callbacks.size && this.callbacks.get(channel) === callbacks) {
          this.callbacks.delete(channel);
          this.send("UNSUBSCRIBE", channel);
        }
      };
    }

    // Ends the connection for good.
    close() {
      this.isClosed = true;
      clearTimeout(this.timer);
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
      const socket = (this.socket = new WebSocket(this.url + "?" + query));
      socket.onmessage = (event) => this.receive(JSON.parse(event.data));
      socket.onclose = () => this.lose();
    }

    lose() {
      this.isOpen = false;
      this.tell("onstate", "closed");
      if (this.isClosed) return;
      // Anywhere between nothing and the longest pause of this attempt: many clients come back one by one.
      const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.attempt);
      this.attempt += 1;
      this.timer = setTimeout(() => this.connect(), Math.random() * longest);
    }

    receive({ messageType, code, message, data }) {
      if (messageType === "CLIENT_PUSH") this.push(data.pushMessage);
      else if (messageType === "ERROR") this.tell("onerror", { code, message, data });
      else if (messageType === "CLIENT_ACK") this.acknowledge(data);
    }

    push({ channel, message }) {
      for (const callback of [...(this.callbacks.get(channel) || [])]) callback(message, channel);
    }

    acknowledge({ uuid, subscribedChannels, secret, missed }) {
      const isNew = this.secret !== null && this.uuid !== uuid;
      this.uuid = uuid;
      if (secret) this.secret = secret;
      if (!this.isOpen) {
        this.isOpen = true;
        this.attempt = 0;
        this.catchUp(subscribedChannels);
        this.tell("onstate", "open");
      }
      // A new uuid where the old one was asked for: the server has forgotten this client, and what it missed.
      if (missed || isNew) this.tell("onmissed");
    }

    // Brings the server's list to what the page wants, which may have changed meanwhile.
    catchUp(subscribed) {
      for (const channel of this.callbacks.keys()) {
        if (!subscribed.includes(channel)) this.send("SUBSCRIBE", channel);
      }
      for (const channel of subscribed) {
        if (!this.callbacks.has(channel)) this.send("UNSUBSCRIBE", channel);
      }
    }

    send(action, channel) {
      if (!this.isOpen) return; // it comes with catchUp
      this.socket.send(JSON.stringify({ messageType: "CLIENT_ACTION", action, data: { channel } }));
    }

    tell(name, value) {
      if (this.options[name]) this.options[name](value);
    }
  }

  global.RecadoChannels = RecadoChannels;
})(globalThis);
