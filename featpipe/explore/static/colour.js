// Numbers to colours. Signed maps diverge from the page's ground at 0; others go from dark to bright.

const DIVERGING_LIGHT = [[8, 48, 107], [33, 113, 181], [107, 174, 214], [198, 219, 239], [247, 247, 247],
  [253, 212, 158], [252, 141, 89], [215, 48, 31], [103, 0, 13]];
const DIVERGING_DARK = [[158, 202, 255], [90, 160, 240], [44, 108, 190], [24, 58, 104], [16, 18, 22],
  [96, 40, 22], [184, 74, 34], [240, 134, 60], [255, 205, 150]];
const SEQUENTIAL = [[13, 8, 35], [51, 20, 92], [98, 29, 110], [146, 42, 104], [192, 62, 84], [228, 94, 58],
  [248, 140, 34], [250, 193, 58], [252, 250, 180]];

const LENGTH = 256;

function table(anchors) {
  const lut = new Uint32Array(LENGTH);
  for (let i = 0; i < LENGTH; i++) {
    const at = (i / (LENGTH - 1)) * (anchors.length - 1);
    const low = Math.min(Math.floor(at), anchors.length - 2);
    const [r, g, b] = anchors[low].map((v, c) => Math.round(v + (anchors[low + 1][c] - v) * (at - low)));
    lut[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return lut;
}

const TABLES = { light: table(DIVERGING_LIGHT), dark: table(DIVERGING_DARK), sequential: table(SEQUENTIAL) };

export const isDark = () => {
  const asked = document.documentElement.dataset.theme;
  return asked ? asked === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

export const lutOf = (signed) => TABLES[signed ? (isDark() ? "dark" : "light") : "sequential"];

export function cssGradient(signed) {
  const lut = lutOf(signed);
  const stops = Array.from({ length: 9 }, (_, i) => {
    const v = lut[Math.round((i * (LENGTH - 1)) / 8)];
    return `rgb(${v & 255} ${(v >> 8) & 255} ${(v >> 16) & 255})`;
  });
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

function put(canvas, height, width, fill) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  fill(new Uint32Array(data.data.buffer));
  context.putImageData(data, 0, 0);
}

// One feature in full, in the colours of its layer's range.
export function drawPlane(canvas, { values, shape }, [low, high, signed]) {
  const lut = lutOf(signed), factor = (LENGTH - 1) / (high - low);
  put(canvas, shape[0], shape[1], (out) => {
    for (let i = 0; i < out.length; i++) {
      const at = (values[i] - low) * factor + 0.5;
      out[i] = lut[at <= 0 ? 0 : at >= LENGTH - 1 ? LENGTH - 1 : at | 0];
    }
  });
}

export function drawThumb(canvas, { values, shape }, index, signed) {
  const lut = lutOf(signed), size = shape[1] * shape[2];
  put(canvas, shape[1], shape[2], (out) => {
    for (let i = 0; i < size; i++) out[i] = lut[values[index * size + i]];
  });
}

// The image: gray or colour, from 0 to 1, or over its range where values go beyond.
export function drawImage(canvas, { values, shape }, range) {
  const [height, width, channels] = shape;
  const unit = range[0] >= 0 && range[1] <= 1;
  const low = unit ? 0 : range[0], factor = 255 / (unit ? 1 : range[1] - range[0] || 1);
  const [g, b] = channels === 3 ? [1, 2] : [0, 0];
  put(canvas, height, width, (out) => {
    for (let i = 0, j = 0; i < out.length; i++, j += channels) {
      const red = (values[j] - low) * factor + 0.5, green = (values[j + g] - low) * factor + 0.5;
      const blue = (values[j + b] - low) * factor + 0.5;
      out[i] = (255 << 24) | (blue << 16) | ((green & 255) << 8) | (red & 255);
    }
  });
}

// A few numbers as a small picture, diverging from 0.
export function drawGrid(canvas, numbers, height, width) {
  const reach = Math.max(...numbers.map((v) => Math.abs(v ?? 0))) || 1;
  const least = Math.min(...numbers.map((v) => v ?? 0));
  const signed = least < 0;
  drawPlane(canvas, { values: numbers.map((v) => v ?? 0), shape: [height, width] }, [signed ? -reach : 0, reach, signed]);
}
