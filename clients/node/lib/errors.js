// The errors of this package. No text of an error has a secret or a message's arguments in it.
//
//   RecadoError
//   ├── BadInput      a value cannot be meant; nothing was sent
//   ├── Refused       the server answered an error
//   ├── Unreachable   no answer, or not in time
//   ├── BadAnswer     an answer that is too long, or not what it should be
//   └── BadWebhook    a webhook that this site's server has not made, or not now

const MOST_SHOWN = 500;
/** The statuses of faults that pass. */
const PASSING = new Set([408, 429, 500, 502, 503, 504]);

export class RecadoError extends Error {
  get name() {
    return this.constructor.name;
  }

  /** Whether the same call may succeed a moment later. */
  get passes() {
    return false;
  }
}

export class BadInput extends RecadoError {}

export class Refused extends RecadoError {
  constructor(status, error, code = null, retryAfter = 0) {
    const shown = error.slice(0, MOST_SHOWN);
    super(`${status}: ${shown}`);
    this.status = status;
    this.code = code;
    this.error = shown;
    /** The pause that the server asked for, in seconds. */
    this.retryAfter = retryAfter;
  }

  get passes() {
    return PASSING.has(this.status);
  }
}

export class Unreachable extends RecadoError {
  get passes() {
    return true;
  }
}

export class BadAnswer extends RecadoError {}

export class BadWebhook extends RecadoError {}
