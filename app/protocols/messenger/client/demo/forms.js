/** Forms that ask the server for something, and show its refusal beside their buttons. */

import { wordsOf } from "./names.js";

/** Does the work when the form is sent; a refusal is shown. */
export function onSubmit(form, work) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form, () => work(form.elements));
  });
}

/** Does the work, unless one is under way here, and shows its refusal in the element's `.problem`. */
export async function attempt(element, work) {
  if (element.ariaBusy === "true") {
    return;
  }
  // (A button that is disabled would lose the keyboard.)
  element.ariaBusy = "true";
  const problem = element.querySelector(".problem");
  problem.textContent = "";
  try {
    await work();
  } catch (error) {
    problem.textContent = wordsOf(error);
  }
  element.ariaBusy = "false";
}
