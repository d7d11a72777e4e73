// One image at a time: its face, all its maps, its regions, its attributes, and the nearest correct image.
let opened = -1; // its place in the gallery's order, or -1 for an image opened from elsewhere
const BARS_TO = 4; // times chance at which a bar ends

function openRow(row) {
  const index = images.at.get(row);
  if (index === undefined) return;
  opened = view.order.indexOf(index);
  fillDetail(index);
}

function openDetail(index) {
  opened = view.order.indexOf(index);
  fillDetail(index);
}

function step(by) {
  const next = Math.max(0, Math.min(view.order.length - 1, opened + by));
  if (view.order.length && next !== opened) {
    opened = next;
    fillDetail(view.order[next]);
  }
}

async function fillDetail(index) {
  const dialog = byId("detail"), held = document.activeElement?.getAttribute("aria-label") ?? "";
  dialog.replaceChildren(heading(index), figures(index), make("div", { class: "columns" }, facts(index), attributes(index)), nearestOf(index));
  dialog.dataset.row = images.row[index];
  if (!dialog.open) dialog.showModal();
  // What had the focus is gone with the last image: its like takes it, so that keys go on working.
  const like = dialog.querySelector(`header [aria-label="${CSS.escape(held)}"]:enabled`);
  (like ?? dialog.querySelector("[autofocus]")).focus();
  dialog.scrollTop = 0;
  const detail = await detailOf(index);
  if (detail && dialog.dataset.row === String(images.row[index])) dialog.querySelector(".figures").after(regionBars(detail));
}

function heading(index) {
  const place = opened < 0 ? "not among those shown" : `${number(opened + 1)} of ${number(view.order.length)}`;
  const outcome = outcomeOf(index);
  return make("header", {},
    make("div", {}, make("h2", { id: "detail-name" }, images.image[index].split("/").pop()),
      make("p", {}, badge(outcome), ` ${page.outcomes[outcome] ?? "not classified"}, score ${number(images.score[index], 4)}`)),
    make("div", { class: "buttons" },
      make("span", { class: "muted" }, place),
      make("button", { type: "button", onclick: () => step(-1), disabled: opened === 0, "aria-label": "Previous image" }, "←"),
      make("button", { type: "button", onclick: () => step(1), disabled: opened >= view.order.length - 1, "aria-label": "Next image" }, "→"),
      make("button", { type: "button", onclick: () => byId("detail").close(), autofocus: true }, "Close")));
}

function figures(index) {
  const face = make("figure", {}, picture(index, null, true), make("figcaption", {}, images.status[index] === "ok" ? "face and landmarks" : "face"));
  const maps = images.chunk[index] === null ? [] : page.kinds.map((kind, k) =>
    make("figure", {}, picture(index, k, false), make("figcaption", {}, kind.name), colourBar(k)));
  return make("div", { class: "figures" }, face, ...maps);
}

function regionBars(detail) {
  const tables = page.kinds.map((kind, k) => make("div", { class: "bars" }, make("h3", {}, `Lifts, ${kind.name}`),
    detail.lifts[k].every((lift) => lift === null) ? make("p", {}, `Undefined: ${statusOf(detail, k)}`)
      : make("ul", {}, ...page.regions.map((name, r) => regionBar(name, detail.lifts[k][r])))));
  return make("div", { class: "columns" }, ...tables);
}

function regionBar(name, lift) {
  const fill = make("i", {});
  fill.style.width = `${(100 * Math.min(lift ?? 0, BARS_TO)) / BARS_TO}%`;
  return make("li", {}, make("span", {}, spaced(name)), make("span", { class: "track" }, fill), make("span", { class: "n" }, number(lift, 2)));
}

function definitions(title, pairs) {
  const rows = pairs.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
  return make("div", {}, make("h3", {}, title), make("table", { class: "facts" }, make("tbody", {}, ...rows)));
}

function facts(index) {
  const { image, label, called, group, status, reason, extras } = images;
  const known = [["File", image[index]], ["Truth", label[index]], ["Class by the run", called[index]], ["Group", group[index]],
    ["Status", page.statuses[status[index]] ?? status[index]], ["Reason", reason[index]],
    ...Object.entries(extras).map(([name, column]) => [spaced(name), column[index]])];
  return definitions("Image", known.filter(([, value]) => value !== ""));
}

function attributes(index) {
  return definitions("Attributes", Object.entries(page.attributes).map(([name, words]) => [words, number(images.attributes[name][index])]));
}

function nearestOf(index) {
  const row = images.nearest[index], other = images.at.get(row);
  if (row === null || other === undefined) return make("div", {});
  const kind = page.kinds.length ? view.kind : null;
  return make("div", { class: "nearest" }, make("h3", {}, "The nearest image of the same class that is classified correctly"),
    make("div", {}, make("figure", {}, picture(other, null, false)), ...(kind === null ? [] : [make("figure", {}, picture(other, kind, false))]),
      make("div", {}, make("p", { class: "name" }, images.image[other].split("/").pop()), make("p", {}, `score ${number(images.score[other])}`),
        make("p", { class: "muted" }, "Nearest in where its map lies and in its attributes, at the run's threshold."),
        make("button", { type: "button", class: "plain", onclick: () => openRow(row) }, "Open it"))));
}

function startDetail() {
  const steps = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
  byId("detail").addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    step(steps[event.key]);
  });
  byId("detail").addEventListener("close", () => {
    const row = byId("detail").dataset.row;
    document.querySelector(`.card[data-row="${row}"]`)?.focus();
  });
}
starts.push(startDetail);
