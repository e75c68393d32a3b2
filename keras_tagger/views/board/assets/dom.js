// Elements without HTML from strings: text is always text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (name, properties = {}, ...children) => fill(document.createElement(name), properties, children);

export const svg = (name, properties = {}, ...children) =>
  fill(document.createElementNS(SVG, name), properties, children);
