// The client's SCRAM outside of a page: a line of JSON asks, a line of JSON answers.
import { createInterface } from "node:readline";

const { Scram, newKeys } = await import(process.argv[2]);
const logins = new Map();

const doings = {
  first({ login, password }, id) {
    const scram = new Scram(login, password);
    logins.set(id, scram);
    return scram.first;
  },
  final: ({ data }, id) => logins.get(id).final(data),
  check: ({ data }, id) => logins.get(id).check(data) ?? true,
  keys: ({ password, iterations }) => newKeys(password, iterations),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { doing, id, ...data } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: await doings[doing](data, id) };
  } catch (error) {
    answer = { error: error.code ?? String(error) };
  }
  console.log(JSON.stringify(answer));
}
