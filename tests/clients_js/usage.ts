// A page in TypeScript; tests/clients_js/test_package.py checks it with tsc, never runs it.
import { connect, createStore, type Handler, type Message, type Recado } from "recado-client";
import { connect as connectServed } from "recado-client/client.js";
import { io } from "socket.io-client";

interface Item {
  id: number;
}

declare const database: IDBDatabase;
declare function fetchToken(): Promise<string>;

createStore(database);
const recado: Recado = connect("https://push.example.com/newsite", {
  token: fetchToken,
  store: { database: () => database, stores: ["items"], durability: "strict" },
  reload: async () => {},
  failed: (error, event, args) => console.warn(event.toUpperCase(), args.length, error),
  onError: (error, event) => console.warn(event?.toUpperCase(), error),
  socket: { transports: ["websocket"] },
});
recado
  .on("news", async (item: Item, { position, transaction }: Message) => {
    transaction?.objectStore("items").put(item, position);
  })
  .on("tick", () => {});
const handler: Handler = (one: string, another: number) => one.repeat(another);
recado.on("*", handler).off("*", handler);
recado.socket.emit("_presence", "lobby");
connectServed("/newsite", { io }).close();

// @ts-expect-error: the address is a text.
connect(new URL("https://push.example.com/newsite"));
// @ts-expect-error: there is no such option.
connect("/newsite", { tokens: [] });
// @ts-expect-error: it is only read.
recado.socket = io();
