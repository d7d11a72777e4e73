// Start.
async function start() {
  const rest = byId("data-rest") ? await load("rest") : null;
  takeImages(await load("images"), rest);
  startVerdicts();
  startGallery();
  startDetail();
  await showGallery();
  document.body.dataset.ready = "yes";
}

byId("copy").addEventListener("click", async () => {
  const selected = document.createRange();
  selected.selectNodeContents(byId("command"));
  getSelection().removeAllRanges();
  getSelection().addRange(selected);
  await navigator.clipboard?.writeText(byId("command").textContent);
  byId("copy").textContent = "Copied";
});

start().catch((error) => {
  byId("images").replaceChildren(make("li", { class: "note" }, error.message));
});
