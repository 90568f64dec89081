// The class of WS-PushServer's browser client, on RecadoChannels (client.js, which stands in front): a page that has loaded
// /js/pushserver.js keeps working, and its connection comes back by itself, with the pushes that it missed.
//
//   const server = new PushServer("wss://push.example.com");
//   server.subscribe("news", (message) => console.log(message));
//
// What differs: `subscribe` before the connection is open is sent once it is, instead of an exception; pushes reach their
// callbacks.
(function (global) {
  "use strict";

  const GONE = "The connection to the server is not established yet or has been closed.";

  class PushServer {
    WS_CONNECTION = null;
    CONNECTION_STATUS = false;
    MESSAGE_HANDLERS = {};

    constructor(websocketUrl) {
      this.subscriptions = new Map(); // channel -> the function that ends its subscription
      this.initConnection(websocketUrl);
    }

    // One callback a channel: a second one takes the place of the first.
    subscribe(channelName, callback) {
      this.requireConnection();
      this.MESSAGE_HANDLERS[channelName] = callback;
      if (this.subscriptions.has(channelName)) return;
      const deliver = (message) => this.handle(channelName, message);
      this.subscriptions.set(channelName, this.channels.subscribe(channelName, deliver));
    }

    unsubscribe(channelName) {
      this.requireConnection();
      delete this.MESSAGE_HANDLERS[channelName];
      const end = this.subscriptions.get(channelName);
      this.subscriptions.delete(channelName);
      if (end) end();
    }

    // Ends the connection for good.
    disconnect() {
      this.requireConnection();
      this.isEnded = true;
      this.CONNECTION_STATUS = false;
      this.channels.close();
    }

    initConnection(websocketUrl) {
      this.isEnded = false;
      this.channels = new global.RecadoChannels(websocketUrl, {
        onstate: (state) => {
          this.CONNECTION_STATUS = state === "open";
          if (this.channels) this.WS_CONNECTION = this.channels.socket;
        },
      });
      this.WS_CONNECTION = this.channels.socket;
    }

    // Takes a message of the server as the WebSocket brings it.
    handleMessage(event) {
      this.channels.receive(JSON.parse(event.data));
    }

    handle(channelName, message) {
      const callback = this.MESSAGE_HANDLERS[channelName];
      if (callback) callback(message);
    }

    requireConnection() {
      if (this.isEnded) throw new Error(GONE);
    }
  }

  global.PushServer = PushServer;
})(globalThis);
