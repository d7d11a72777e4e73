// What a reader of a page can't read. The tests run it in the report's page, beside axe-core.
const LEAST_CONTRAST = 4.5; // of letters and their ground, WCAG 2.2 AA
const seen = () => [...document.body.querySelectorAll("*")].filter((e) => e.checkVisibility());
const said = (element) => element.outerHTML.slice(0, 160);

function openAll() {
  for (const each of document.querySelectorAll("details")) each.open = true;
  for (const each of document.querySelectorAll(".kind")) each.hidden = false;
}

function ownTexts(element) {
  return [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
}

function placeOf(text) {
  const range = document.createRange();
  range.selectNode(text);
  return range.getBoundingClientRect();
}

const within = (inner, outer, slack = 1) => inner.left >= outer.left - slack && inner.right <= outer.right + slack
  && inner.top >= outer.top - slack && inner.bottom <= outer.bottom + slack;

// What cuts an element's text off, if anything: what scrolls doesn't, nor what says the rest in a title.
function cutterOf(element, place) {
  for (let around = element; around && around !== document.body; around = around.parentElement) {
    const { overflowX, overflowY, textOverflow } = getComputedStyle(around);
    if ([overflowX, overflowY].some((each) => each === "auto" || each === "scroll")) return null;
    const cuts = around instanceof SVGSVGElement || [overflowX, overflowY].some((each) => each !== "visible");
    if (cuts && !within(place, around.getBoundingClientRect())) return textOverflow === "ellipsis" && around.title ? null : around;
  }
  return null;
}

function textThatIsCut() {
  const texts = seen().filter((e) => !e.matches("title, option, optgroup, script, style"))
    .flatMap((element) => ownTexts(element).map((text) => [element, placeOf(text)]));
  const cut = texts.filter(([element, place]) => place.width && cutterOf(element, place)).map(([element]) => said(element));
  return [...cut, ...seen().filter((e) => e.placeholder && widthOf(e) > roomOf(e)).map(said)];
}

function widthOf(input) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = getComputedStyle(input).font;
  return pen.measureText(input.placeholder).width;
}

function roomOf(input) {
  const { paddingLeft, paddingRight } = getComputedStyle(input);
  return input.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
}

function textsThatOverlap() {
  return [...document.querySelectorAll("svg")].filter((svg) => svg.checkVisibility()).flatMap((svg) => {
    const places = [...svg.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]);
    return places.flatMap(([one, a], index) => places.slice(index + 1)
      .filter(([, b]) => a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom)
      .map(([other]) => `${one.textContent} on ${other.textContent}`));
  });
}

// Marks a control of each look, as it is or with a flag of its own, and says how many there are.
function oneOfEachKind(flags) {
  const kinds = new Map();
  for (const each of document.querySelectorAll("button, a, input, select, summary")) {
    if (flags === "pressed" && each.hasAttribute("aria-pressed")) each.setAttribute("aria-pressed", "true");
    if (flags === "disabled" && "disabled" in each) each.disabled = true;
    const look = [each.localName, each.className, each.parentElement.className, each.getAttribute("aria-pressed"), each.disabled];
    delete each.dataset.probe;
    if (each.checkVisibility() && !kinds.has(look.join())) kinds.set(look.join(), each);
  }
  for (const each of kinds.values()) each.dataset.probe = "";
  return kinds.size;
}

function lowContrasts() {
  axe.setup(document.body);
  const { getForegroundColor, getBackgroundColor, getContrast } = axe.commons.color;
  const lettered = [...document.querySelectorAll("[data-probe], [data-probe] *")]
    .filter((e) => e.checkVisibility() && (ownTexts(e).length || e.matches("input, select")));
  const low = lettered.flatMap((element) => {
    const [front, back] = [getForegroundColor(element), getBackgroundColor(element, [])];
    const contrast = front && back ? getContrast(back, front) : LEAST_CONTRAST; // null where it lies out of sight
    return contrast < LEAST_CONTRAST ? [`${contrast.toFixed(1)} ${said(element)}`] : [];
  });
  axe.teardown();
  return low;
}
