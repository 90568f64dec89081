/** Puts the page together: two people of the demo, side by side. */

import { Person } from "./person.js";

/** The demo's users; their passwords are public. */
const PEOPLE = [
  { login: "anna", name: "Anna", password: "anna in the demo" },
  { login: "ben", name: "Ben", password: "ben in the demo" },
];

const hasClient = "io" in window;
document.querySelector("#bundle-missing").hidden = hasClient;
for (const one of PEOPLE) {
  const person = new Person(one);
  document.querySelector("#people").append(person.element);
  if (hasClient) {
    person.start();
  }
}
