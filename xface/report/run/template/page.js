// Start.
async function start() {
  const rest = byId("data-rest") ? await load("rest") : null;
  takeImages(await load("images"), rest);
  for (const begin of starts) await begin();
  document.body.dataset.ready = "yes";
}

start().catch((error) => {
  byId("images").replaceChildren(make("li", { class: "note" }, error.message));
});
