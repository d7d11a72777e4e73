// What a section's script does once the images are known: `starts.push(work)`.
const starts = [];

// Data: within the page, or in script files beside it, since pages opened from disk may fetch nothing else.
const arrived = new Map();
const asked = new Map();
window.xfaceData = (name, value) => arrived.set(name, value);

function load(name) {
  if (!asked.has(name)) {
    const within = document.getElementById(`data-${name}`);
    asked.set(name, within ? Promise.resolve(JSON.parse(within.textContent)) : loadFile(name));
  }
  return asked.get(name);
}

function loadFile(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${name.startsWith("maps-") ? "thumbnails" : "data"}/${name}.js`;
    script.onload = () => { script.remove(); resolve(arrived.get(name)); arrived.delete(name); };
    script.onerror = () => reject(new Error(`${script.src} is missing: keep the report's folder together`));
    document.head.append(script);
  });
}

// Elements: text goes in as text, never as markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function drawn(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const byId = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const spaced = (name) => name.replaceAll("_", " ");

function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 10 ** digits) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}
const percent = (part, whole) => (whole ? `${number((100 * part) / whole)} %` : "–");
