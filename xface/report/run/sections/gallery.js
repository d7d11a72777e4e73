// The gallery: which images, in which order; only one page of them is drawn.
const PAGE = 24;
const view = {
  outcomes: new Set(), text: "", sort: "confidence", down: true, kind: 0, subset: null, place: 0,
  attribute: { name: "", low: NaN, high: NaN }, region: { name: "", low: NaN, high: NaN },
  map: true, landmarks: false, order: [], lifts: null, texts: null,
};

const within = (value, { low, high }) =>
  value !== null && !(value < low) && !(value > high);

function tests() {
  const { outcomes, text, attribute, region, subset, lifts } = view;
  const words = text.trim().toLowerCase();
  return [
    outcomes.size && ((i) => outcomes.has(outcomeOf(i))),
    words && ((i) => textOf(i).includes(words)),
    isRange(attribute) && ((i) => within(images.attributes[attribute.name][i], attribute)),
    isRange(region) && lifts && ((i) => within(lifts[region.name][i], region)),
    subset && subset.test,
  ].filter(Boolean);
}

const isRange = ({ name, low, high }) => name && !(Number.isNaN(low) && Number.isNaN(high));

function textOf(index) {
  view.texts ??= images.row.map((_, i) =>
    [images.image, images.label, images.group, images.reason, ...Object.values(images.extras)]
      .map((column) => column[i]).join("\n").toLowerCase());
  return view.texts[index];
}

function sortKey() {
  const [what, name] = view.sort.split(":");
  if (what === "attribute") return (i) => images.attributes[name][i];
  if (what === "lift" && view.lifts) return (i) => view.lifts[name][i];
  if (what === "score") return (i) => images.score[i];
  if (what === "name") return (i) => images.image[i];
  return (i) => (images.score[i] === null ? null : confidenceOf(i) + (WRONG.has(outcomeOf(i)) ? 2 : 0));
}

// What has no value comes last, whichever the order.
function compare([one, i], [other, j]) {
  if (one === null || other === null) return (one === null) - (other === null) || i - j;
  const sign = typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other;
  return (view.down ? -sign : sign) || i - j;
}

async function showGallery(place = 0) {
  const needed = view.sort.startsWith("lift:") || isRange(view.region);
  const kind = view.kind;
  if (needed) {
    const lifts = await load(`lifts-${kind}`);
    if (kind !== view.kind) return;
    view.lifts = lifts;
  }
  const key = sortKey(), passes = tests();
  const kept = images.row.map((_, i) => i).filter((i) => passes.every((test) => test(i)));
  view.order = kept.map((i) => [key(i), i]).sort(compare).map(([, i]) => i);
  view.place = Math.max(0, Math.min(place, Math.ceil(kept.length / PAGE) - 1));
  drawGallery();
}

function drawGallery() {
  const { order, place, map, kind } = view;
  const pages = Math.max(1, Math.ceil(order.length / PAGE));
  byId("images").replaceChildren(...order.slice(place * PAGE, (place + 1) * PAGE).map(card));
  byId("count").textContent = `${number(order.length)} of ${number(images.row.length)} images`;
  byId("place").textContent = `page ${number(place + 1)} of ${number(pages)}`;
  byId("previous").disabled = place === 0;
  byId("next").disabled = place >= pages - 1;
  byId("bar").replaceChildren(...(map && page.kinds.length ? [colourBar(kind)] : []));
}

function card(index) {
  const outcome = outcomeOf(index);
  const kind = view.map && page.kinds.length ? view.kind : null;
  return make("li", {}, make("button", { type: "button", class: "card", "data-row": images.row[index], onclick: () => openDetail(index) },
    picture(index, kind, view.landmarks),
    make("span", { class: "caption" }, badge(outcome), make("span", {}, `score ${images.score[index]?.toFixed(3) ?? "–"}`)),
    make("span", { class: "name" }, images.image[index].split("/").pop())));
}

function badge(outcome) {
  return make("b", { class: `badge ${WRONG.has(outcome) ? "wrong" : "right"}`, title: page.outcomes[outcome] ?? "" }, outcome || "not classified");
}

function chooseKind(kind) {
  view.kind = kind;
  view.lifts = null;
  for (const each of all(".kind")) each.hidden = Number(each.dataset.kind) !== kind;
  for (const each of all("input[name=kind]")) each.checked = Number(each.value) === kind;
  byId("kind").value = kind;
  showGallery(view.place);
}

function toggleOutcome(outcome) {
  if (!view.outcomes.delete(outcome)) view.outcomes.add(outcome);
  showOutcomes();
}

function showOutcomes() {
  for (const each of all("button[data-outcome]")) each.setAttribute("aria-pressed", view.outcomes.has(each.dataset.outcome));
  showGallery();
}

function chooseSubset(subset) {
  view.subset = subset;
  byId("subset").hidden = !subset;
  byId("subset").firstElementChild.textContent = subset?.words ?? "";
  if (subset) {
    byId("controls").reset();
    byId("gallery").scrollIntoView();
  } else showGallery();
}

function subsetOf({ subset, number: place, words }) {
  const rows = new Set(page.subsets[subset][place]);
  return { words, test: (i) => rows.has(images.row[i]) };
}

function startGallery() {
  const options = (pairs) => pairs.map(([value, words]) => make("option", { value }, words));
  const attributes = Object.entries(page.attributes), regions = page.regions.map((name) => [name, spaced(name)]);
  byId("sort").append(
    ...options([["confidence", "most confident errors"], ["score", "score"], ["name", "name"]]),
    make("optgroup", { label: "attribute" }, ...options(attributes.map(([name, words]) => [`attribute:${name}`, words]))),
    make("optgroup", { label: "lift of region" }, ...options(regions.map(([name, words]) => [`lift:${name}`, words]))));
  byId("attribute").append(...options([["", "any"], ...attributes]));
  byId("region").append(...options([["", "any"], ...regions]));
  byId("controls").addEventListener("input", readControls);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").addEventListener("reset", () => setTimeout(resetControls));
  byId("previous").addEventListener("click", () => showGallery(view.place - 1));
  byId("next").addEventListener("click", () => showGallery(view.place + 1));
  byId("subset").lastElementChild.addEventListener("click", () => chooseSubset(null));
  for (const each of all("button[data-outcome]")) each.addEventListener("click", () => toggleOutcome(each.dataset.outcome));
  for (const each of all("button[data-subset]")) each.addEventListener("click", () => chooseSubset(subsetOf(each.dataset)));
  for (const each of all("button[data-open]")) each.addEventListener("click", () => openRow(Number(each.dataset.open)));
  for (const each of all("input[name=kind]")) each.addEventListener("change", () => chooseKind(Number(each.value)));
}

function readControls({ target }) {
  if (target.id === "kind") return chooseKind(Number(target.value));
  if (target.id === "sort") byId("direction").value = target.value === "name" ? "up" : "down";
  const range = (id) => ({ name: byId(id).value, low: byId(`${id}-low`).valueAsNumber, high: byId(`${id}-high`).valueAsNumber });
  Object.assign(view, {
    text: byId("text").value, sort: byId("sort").value, down: byId("direction").value === "down",
    attribute: range("attribute"), region: range("region"),
    map: byId("show-map").checked, landmarks: byId("show-landmarks").checked,
  });
  return showGallery(target.id.startsWith("show-") ? view.place : 0);
}

function resetControls() {
  view.outcomes.clear();
  readControls({ target: byId("text") });
  showOutcomes();
  if (byId("kind")) byId("kind").value = view.kind;
}
starts.push(startGallery, showGallery);
