/** Lets a page take part in load tests of its server. Types: messenger-load.d.ts; guide: docs/load.md. */

const LANES = 8;
const AGAIN_MS = 1_000;
/** The others get the messages once they have joined, too. */
const JOIN_MS = 500;
const MOST_MESSAGES = 10_000;

/** From here on the client sends messages when an operator starts a run in one of its rooms; returns the end of this. */
export function takePart(chat) {
  let current;

  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const join = ({ run }) => chat.ask("load_join", { run });

  async function send(plan) {
    let left = Math.min(plan.messages, MOST_MESSAGES);
    let ms;
    const lane = async () => {
      while (left > 0 && current === plan && chat.state === "online") {
        left -= 1;
        const began = performance.now();
        const data = { run: plan.run, ...(ms !== undefined && { ms }) };
        const message = { id: crypto.randomUUID(), to: { room: plan.room }, kind: "load", text: `load ${left}`, data };
        try {
          await chat.ask("message", message);
          ms = performance.now() - began;
        } catch (error) {
          left += error.code === "too_many" ? 1 : 0;
          await pause(AGAIN_MS);
        }
      }
    };
    try {
      await join(plan);
    } catch {
      // The run is over, or not of a room of this user.
      return;
    }
    await pause(JOIN_MS);
    await Promise.all(Array.from({ length: LANES }, lane));
  }

  const end = chat.on("event", (name, [plan]) => {
    if (name === "load_test" && (plan.messages || plan.run === current?.run)) {
      current = plan.messages ? plan : undefined;
      current && send(current);
    }
  });
  // A connect takes the device out.
  const back = chat.on("state", (state) => state === "online" && current && join(current).catch(() => {}));
  return () => {
    current = undefined;
    end();
    back();
  };
}
