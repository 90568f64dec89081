// When a call is tried again, and when it ends. Plain decisions: the time, in seconds, is passed in.

const FIRST_PAUSE_SECONDS = 0.2;
const LONGEST_PAUSE_SECONDS = 5;

/** The attempts of one call, from its begin on. Lives as long as the call. */
export class Attempts {
  #settings;
  #attemptSeconds;
  #end;
  #made = 0;

  /** `waitSeconds` is what the server was asked to wait; it counts for no time-out. */
  constructor(settings, waitSeconds, now) {
    this.#settings = settings;
    this.#attemptSeconds = settings.attemptTimeout + waitSeconds;
    this.#end = now + settings.deadline + waitSeconds;
  }

  /** Whether the attempt under way is not the first. */
  get hasRepeated() {
    return this.#made > 0;
  }

  /** The time of the attempt that begins now. */
  secondsLeft(now) {
    return Math.max(0.001, Math.min(this.#attemptSeconds, this.#end - now));
  }

  /** The pause before the next attempt; null when the error is to be thrown. */
  pauseBehind(error, now) {
    if (!error.passes || this.#made >= this.#settings.retries) return null;
    const step = Math.min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** this.#made);
    // Each caller waits for a time of its own, so that a server that comes back does not get all at one moment.
    const pause = Math.max(step * (0.5 + Math.random() / 2), error.retryAfter ?? 0);
    if (now + pause >= this.#end) return null;
    this.#made += 1;
    return pause;
  }
}
