/** Elements made in one expression. */

/**
 * Makes an element.
 * @param {string} tag
 * @param {object} properties assigned to the element
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
