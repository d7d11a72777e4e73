// The command to the clipboard.
byId("copy").addEventListener("click", async () => {
  const selected = document.createRange();
  selected.selectNodeContents(byId("command"));
  getSelection().removeAllRanges();
  getSelection().addRange(selected);
  await navigator.clipboard?.writeText(byId("command").textContent);
  byId("copy").textContent = "Copied";
});
