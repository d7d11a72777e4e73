// A face with its map and landmarks. Maps of one kind share one scale, so their colours compare.
const COLOURS = Uint8Array.from(atob(page.colours), (letter) => letter.charCodeAt(0));

function faceAddress(row, detail) {
  return detail?.face ?? `thumbnails/${Math.floor(row / 1000)}/${row}.jpg`;
}

async function detailOf(index) {
  const chunk = images.chunk[index];
  return chunk === null ? null : (await load(`maps-${chunk}`))[images.row[index]];
}

function mapCanvas(map, top) {
  const [height, width] = map.shape;
  const canvas = make("canvas", { width, height, "aria-hidden": "true" });
  const pixels = new ImageData(width, height);
  const grid = atob(map.grid);
  for (let i = 0; i < grid.length; i++) {
    const level = Math.min(1, (grid.charCodeAt(i) * map.peak) / 255 / top);
    const colour = 3 * Math.round(255 * level);
    pixels.data.set([COLOURS[colour], COLOURS[colour + 1], COLOURS[colour + 2], 255 * (0.25 + 0.75 * level)], 4 * i);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

function landmarkDots(points, [width, height]) {
  const dots = drawn("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (let i = 0; i < points.length; i += 2) {
    dots.append(drawn("circle", { cx: points[i] + 0.5, cy: points[i + 1] + 0.5, r: 1 }));
  }
  return dots;
}

// `kind` is the number of a kind of map, or null for the face alone.
function picture(index, kind, landmarks) {
  const box = make("div", { class: "picture" });
  const name = images.image[index];
  detailOf(index).then((detail) => {
    if (!detail) return box.append(make("span", { class: "absent" }, reasonOf(index)));
    box.style.aspectRatio = `${detail.size[0]} / ${detail.size[1]}`;
    const map = kind === null ? null : detail.maps[kind];
    box.classList.toggle("mapped", map !== null);
    const seen = kind === null ? `Face in ${name}` : `${page.kinds[kind].name} over the face in ${name}`;
    box.append(make("img", { src: faceAddress(images.row[index], detail), alt: seen }));
    if (map) box.append(mapCanvas(map, page.kinds[kind].top));
    if (kind !== null && !map) box.append(make("span", { class: "absent" }, statusOf(detail, kind)));
    if (landmarks && detail.landmarks) box.append(landmarkDots(detail.landmarks, detail.size));
  }, (error) => box.append(make("span", { class: "absent" }, error.message)));
  return box;
}

const statusOf = (detail, kind) => page.statuses[detail.status[kind]] ?? detail.status[kind] ?? "no map";

function reasonOf(index) {
  const status = images.status[index];
  return status === "ok" || page.single ? "no picture in this file" : page.statuses[status] ?? status;
}

function colourBar(kind) {
  const canvas = make("canvas", { width: 256, height: 1, "aria-hidden": "true" });
  const pixels = new ImageData(256, 1);
  for (let i = 0; i < 256; i++) pixels.data.set([...COLOURS.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const { name, top } = page.kinds[kind];
  return make("div", { class: "colour-bar", title: `${name}: one scale for all images` },
    make("span", {}, "0"), canvas, make("span", {}, `${number(top, 2)} or more`));
}
