import type { Messenger } from "./messenger.js";

/**
 * Lets this client take part in load tests: when an operator starts a run in one of its rooms, it sends as many messages
 * of the kind `load` as it is asked for. Returns the function that ends this.
 */
export function takePart(chat: Messenger): () => void;
