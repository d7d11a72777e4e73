// Outcomes at the threshold of the slider; at the run's own they are the run's.
const page = JSON.parse(byId("data-page").textContent);
const OUTCOMES = Object.keys(page.outcomes);
const WRONG = new Set(page.wrong);
let images, rest, truth;
let threshold = page.threshold;

function takeImages(columns, others) {
  images = columns;
  rest = others ?? { positive: [], score: [] };
  truth = images.label.map((label) => label === page.positive);
  images.at = new Map(images.row.map((row, index) => [row, index]));
}

function outcomeOf(index) {
  const score = images.score[index];
  return score === null ? "" : outcomeFor(truth[index], score);
}

function outcomeFor(positive, score) {
  const called = score >= threshold;
  return (called === positive ? "T" : "F") + (called ? "P" : "N");
}

// How far the score lies from the threshold: 0 at it, 1 at the end of the scale.
function confidenceOf(index) {
  const score = images.score[index];
  if (score === null) return null;
  const room = score >= threshold ? 1 - threshold : threshold;
  return Math.abs(score - threshold) / (room || 1);
}

function countOutcomes() {
  const counts = { TP: 0, FP: 0, TN: 0, FN: 0 };
  for (let i = 0; i < images.row.length; i++) if (images.score[i] !== null) counts[outcomeOf(i)]++;
  for (let i = 0; i < rest.score.length; i++) counts[outcomeFor(rest.positive[i] === 1, rest.score[i])]++;
  return counts;
}

function everyScore() {
  const shown = images.score.map((score, i) => [truth[i], score]).filter(([, score]) => score !== null);
  return shown.concat(rest.score.map((score, i) => [rest.positive[i] === 1, score]));
}
