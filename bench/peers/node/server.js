/*
 * The contract of sites on Socket.IO 4.8 and Node, everything in memory: the peer of the benchmark.
 *
 * Argument: a JSON file of sites ({name: {authUrl, authScheme, apiKey, userRoomPrefix?}}). Prints "listening PORT".
 * Plain http, no framework, no transport but what socket.io ships. A message is emitted to each socket with its own
 * callback, because only that tells which device has acknowledged; ACK_MODE=broadcast emits once to the room with one
 * time-out instead, which cannot tell, and so never empties a queue: for comparison only. RECOVERY=1 turns Socket.IO's
 * connection state recovery on, with its defaults; it serves what is emitted without a callback. TLS_CERT and TLS_KEY
 * name the files for HTTPS.
 */
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const { Server } = require("socket.io");

const ACK_MODE = process.env.ACK_MODE || "socket";
const RECOVERY = process.env.RECOVERY === "1";
const AUTH_TIMEOUT_MS = 5000;
const agent = new http.Agent({ keepAlive: true });

/** A user's device: what it has not acknowledged, in order, and where it is connected now. */
class Device {
  constructor() {
    this.queue = new Map();
    this.sockets = new Set();
  }
}

class Site {
  constructor(name, settings) {
    this.name = name;
    this.settings = settings;
    this.nextMessageId = 1;
    this.devicesOfUser = new Map(); // user room -> Map(deviceId -> Device)
    this.usersOfRoom = new Map(); // room -> Set(user room)
  }

  isUserRoom(room) {
    return room.startsWith(this.settings.userRoomPrefix);
  }

  register(userRoom, deviceId, rooms) {
    for (const room of rooms) {
      if (!this.usersOfRoom.has(room)) this.usersOfRoom.set(room, new Set());
      this.usersOfRoom.get(room).add(userRoom);
    }
    if (!this.devicesOfUser.has(userRoom)) this.devicesOfUser.set(userRoom, new Map());
    const devices = this.devicesOfUser.get(userRoom);
    if (!devices.has(deviceId)) devices.set(deviceId, new Device());
    return devices.get(deviceId);
  }

  devicesIn(rooms) {
    const found = new Set();
    for (const room of rooms) {
      const users = this.isUserRoom(room) ? [room] : this.usersOfRoom.get(room) || [];
      for (const user of users) for (const device of this.devicesOfUser.get(user)?.values() || []) found.add(device);
    }
    return found;
  }
}

function fetchRooms(settings, token) {
  return new Promise((resolve, reject) => {
    const headers = { Authorization: `${settings.authScheme} ${token}` };
    const request = http.get(settings.authUrl, { agent, headers, timeout: AUTH_TIMEOUT_MS }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => (body += chunk));
      response.on("end", () => {
        if (response.statusCode === 401) return reject(new Error("Authentication failed"));
        if (response.statusCode !== 200) return reject(new Error(`Auth ${response.statusCode} error`));
        try {
          resolve(JSON.parse(body));
        } catch (error) {
          reject(new Error(`Auth error: ${error.message}`));
        }
      });
    });
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", (error) => reject(new Error(`Auth error: ${error.message}`)));
  });
}

function openSite(io, site) {
  const namespace = io.of(`/${site.name}`);
  namespace.use(async (socket, next) => {
    try {
      socket.data.rooms = await fetchRooms(site.settings, socket.handshake.auth.token);
      next();
    } catch (error) {
      next(error);
    }
  });
  namespace.on("connection", (socket) => {
    const rooms = socket.data.rooms;
    // With recovery Socket.IO emits to one socket through the room of its id.
    if (!RECOVERY) socket.leave(socket.id);
    if (!socket.recovered) socket.join(rooms);
    socket.emit("_settings", { device_ttl: 3600 });
    if (site.settings.userRoomPrefix) attachDevice(site, socket, rooms);
  });
}

function attachDevice(site, socket, rooms) {
  for (const userRoom of rooms.filter((room) => site.isUserRoom(room))) {
    const device = site.register(userRoom, socket.handshake.auth.deviceId || "", rooms);
    device.sockets.add(socket);
    socket.on("disconnect", () => device.sockets.delete(socket));
    if (device.queue.size === 0) continue;
    const ids = [...device.queue.keys()];
    socket.emit("_batch", [...device.queue.values()], () => ids.forEach((id) => device.queue.delete(id)));
  }
}

function deliver(io, site, rooms, event, args) {
  const namespace = io.of(`/${site.name}`);
  if (!site.settings.userRoomPrefix) {
    if (rooms.length) namespace.to(rooms).emit(event, ...args);
    return;
  }
  const id = site.nextMessageId++;
  const message = [event, ...args];
  for (const device of site.devicesIn(rooms)) {
    device.queue.set(id, message);
    if (ACK_MODE === "broadcast") continue;
    for (const socket of device.sockets) socket.emit(event, ...args, () => device.queue.delete(id));
  }
  if (ACK_MODE === "broadcast") namespace.to(rooms).timeout(10000).emit(event, ...args, () => {});
}

function answer(response, status, text) {
  response.writeHead(status, { "Content-Type": "text/plain", "Content-Length": Buffer.byteLength(text) });
  response.end(text);
}

function receiveSend(io, sites, request, response) {
  const query = new URLSearchParams(request.url.slice(request.url.indexOf("?") + 1));
  const site = sites.get(query.get("site"));
  if (!site || site.settings.apiKey !== query.get("apiKey")) return answer(response, 401, "ApiKey invalid.");
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const { rooms, event, args } = JSON.parse(Buffer.concat(chunks).toString());
    deliver(io, site, Array.isArray(rooms) ? rooms : [rooms], event, Array.isArray(args) ? args : [args]);
    answer(response, 200, "OK");
  });
}

function createServer(listener) {
  if (!process.env.TLS_CERT) return http.createServer(listener);
  const [cert, key] = [process.env.TLS_CERT, process.env.TLS_KEY].map((file) => fs.readFileSync(file));
  return https.createServer({ cert, key }, listener);
}

function main() {
  const settings = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
  const sites = new Map(Object.entries(settings).map(([name, value]) => [name, new Site(name, value)]));
  const server = createServer((request, response) => {
    if (request.method === "POST" && request.url.startsWith("/send?")) receiveSend(io, sites, request, response);
    else answer(response, 404, "Not found");
  });
  const options = { allowEIO3: true, serveClient: false, maxHttpBufferSize: 1e6 };
  const io = new Server(server, RECOVERY ? { ...options, connectionStateRecovery: {} } : options);
  for (const site of sites.values()) openSite(io, site);
  server.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, () => console.log(`listening ${server.address().port}`));
}

main();
