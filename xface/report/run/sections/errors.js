// The confusion matrix, the rates and the histogram at the slider's threshold.
const BINS = 40;
const CHART = { width: 420, height: 150, middle: 70 };

function showVerdicts() {
  const counts = countOutcomes();
  const positives = counts.TP + counts.FN, negatives = counts.FP + counts.TN;
  const whole = { TP: positives, FN: positives, FP: negatives, TN: negatives };
  for (const each of all("[data-count]")) each.textContent = number(counts[each.dataset.count]);
  for (const each of all("[data-rate]")) each.textContent = percent(counts[each.dataset.rate], whole[each.dataset.rate]);
  byId("rates").replaceChildren(...rates(counts, positives, negatives).map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  byId("threshold-value").textContent = number(threshold, 4);
  byId("threshold").setAttribute("aria-valuetext", number(threshold, 4));
  byId("threshold-reset").disabled = threshold === page.threshold;
  const line = byId("histogram").querySelector(".threshold");
  for (const end of ["x1", "x2"]) line.setAttribute(end, threshold * CHART.width);
}

function rates({ TP, FP, TN, FN }, positives, negatives) {
  const balanced = positives && negatives ? TP / positives + TN / negatives : 0;
  return [
    ["errors", `${number(FP + FN)} of ${number(positives + negatives)}`],
    ["accuracy", percent(TP + TN, positives + negatives)],
    ["balanced accuracy", percent(balanced, positives && negatives ? 2 : 0)],
    ["recall (TP rate)", percent(TP, positives)],
    ["false positive rate", percent(FP, negatives)],
    ["precision", percent(TP, TP + FP)],
  ];
}

function drawHistogram() {
  const bins = { true: new Array(BINS).fill(0), false: new Array(BINS).fill(0) };
  for (const [positive, score] of everyScore()) bins[positive][Math.min(BINS - 1, Math.max(0, Math.floor(score * BINS)))]++;
  const most = Math.max(1, ...bins.true, ...bins.false), { width, height, middle } = CHART;
  const alt = `Scores of images whose label is ${page.positive}, upwards, and of ${page.negative}, downwards`;
  const chart = drawn("svg", { viewBox: `-4 0 ${width + 8} ${height}`, role: "img", "aria-label": alt });
  for (let i = 0; i < BINS; i++) {
    const [up, down] = [bins.true[i], bins.false[i]].map((count) => (count / most) * (middle - 14));
    const place = { x: (i * width) / BINS + 0.5, width: width / BINS - 1 };
    chart.append(drawn("rect", { ...place, y: middle - up, height: up, class: "positive" }),
      drawn("rect", { ...place, y: middle, height: down, class: "negative" }));
  }
  chart.append(drawn("line", { x1: 0, x2: width, y1: middle, y2: middle, class: "axis" }),
    drawn("line", { y1: 0, y2: 2 * middle - 8, class: "threshold" }),
    drawn("text", { x: 2, y: 10 }, `↑ ${page.positive}`),
    drawn("text", { x: width, y: 2 * middle - 10, "text-anchor": "end" }, `${page.negative} ↓`),
    drawn("text", { x: 0, y: height - 2 }, "score 0"), drawn("text", { x: width, y: height - 2, "text-anchor": "end" }, "1"));
  byId("histogram").replaceChildren(chart);
}

function moveThreshold(value) {
  threshold = value;
  showVerdicts();
  showGallery();
}

function startVerdicts() {
  drawHistogram();
  showVerdicts();
  byId("threshold").addEventListener("input", ({ target }) => moveThreshold(target.valueAsNumber));
  const moveSlider = (value) => { byId("threshold").value = value; moveThreshold(value); };
  byId("threshold-reset").addEventListener("click", () => moveSlider(page.threshold));
  for (const each of all("[data-threshold]")) each.addEventListener("click", () => moveSlider(Number(each.dataset.threshold)));
}
starts.push(startVerdicts);
