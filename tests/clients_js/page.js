// Loaded into an empty page of the server: a page with a database of its own that counts how often it handled a message.
globalThis.load = async () => {
  const script = document.createElement("script");
  script.src = "/socket.io/socket.io.js?v=4";
  const loaded = new Promise((resolve) => (script.onload = resolve));
  document.head.append(script);
  await loaded;
  globalThis.client = await import("/recado/client.js");
};

globalThis.opened = (name = "page") =>
  new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      client.createStore(request.result);
      for (const store of ["counts", "items"]) request.result.createObjectStore(store);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

globalThis.asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** All entries of a store. */
globalThis.entries = async (store) => {
  const found = (await opened()).transaction(store).objectStore(store);
  const [keys, values] = await Promise.all([asked(found.getAllKeys()), asked(found.getAll())]);
  return keys.map((key, index) => [key, values[index]]);
};

/** A handler that counts a message in several steps: a kill hits some of them. */
globalThis.count = async (number, { transaction }) => {
  const counts = transaction.objectStore("counts");
  for (let step = 0; step < 5; step += 1) await asked(counts.get(number));
  await asked(counts.put(((await asked(counts.get(number))) ?? 0) + 1, number));
};

globalThis.errors = [];
globalThis.enter = (site, token, options = {}) => {
  const { stores = ["counts", "items"], scope, reload, ...more } = options;
  globalThis.resyncs = 0;
  globalThis.recado = client.connect(`${location.origin}/${site}`, {
    token,
    store: { database: opened, stores, scope },
    onError: (error) => errors.push(String(error?.message ?? error)),
    socket: { transports: ["websocket"] },
    least: 40,
    most: 400,
    reload: reload && (() => globalThis.reload()),
    ...more,
  });
  recado.socket.on("_resync", () => (resyncs += 1));
  return recado;
};
