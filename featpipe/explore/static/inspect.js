// What one value is made of: samples, weights, their products and the sum.

import { drawGrid, drawImage } from "./colour.js";
import { $, el, fill, number } from "./dom.js";

const SMALL = 49, WIDE = 7, LONGEST = 10;

export function showTerms(terms, panel, at, image) {
  const [y, x] = terms.seen;
  const inside = (span, n) => [Math.max(span[0], 0), Math.min(span[1], n)];
  const [ys, xs] = [inside(y, image.shape[0]), inside(x, image.shape[1])];
  const sees = ys[0] < ys[1] && xs[0] < xs[1]
    ? `${span("row", ys)}, ${span("column", xs)} of the image${y[0] < 0 || x[0] < 0 || y[1] > image.shape[0] || x[1] > image.shape[1] ? ", and padding" : ""}`
    : "padding alone";
  $("inspector-of").textContent = panel.title;
  fill($("value-line"), el("strong", {}, number(terms.value)), ` at row ${at[0]}, column ${at[1]}`,
    el("span", { class: "muted small" }, `${terms.name || `feature ${panel.chosen}`}. Sees ${sees}.`));
  fill($("seen"), patch(image, ys, xs));
  fill($("terms"), formula(terms), ...numbers(terms));
}

const span = (what, [a, b]) => (b - a === 1 ? `${what} ${a}` : `${what}s ${a} to ${b - 1}`);

function patch(image, ys, xs) {
  const height = ys[1] - ys[0], width = xs[1] - xs[0];
  if (height < 1 || width < 1 || height * width > 256 * 256) return null;
  const { values, shape } = image.pixels.array, channels = shape[2];
  const part = new Float32Array(height * width * channels);
  for (let r = 0; r < height; r++) {
    const start = ((ys[0] + r) * shape[1] + xs[0]) * channels;
    part.set(values.subarray(start, start + width * channels), r * width * channels);
  }
  const canvas = el("canvas", { class: "patch", role: "img", "aria-label": `The ${height} by ${width} pixels that it sees` });
  drawImage(canvas, { values: part, shape: [height, width, channels] }, image.range);
  return canvas;
}

// The sum in words; each number as it is shown below.
function formula(terms) {
  const { value, op, by, count, gain, bias } = terms;
  const out = (...parts) => el("p", { class: "formula" }, ...parts);
  const result = [" = ", el("strong", {}, number(value))];
  if (terms.weights !== undefined && terms.weights !== null) {
    const steps = [`Σ of ${count} sample${count > 1 ? "s" : ""} × weight = ${number(terms.sum)}`];
    if (gain !== 1) steps.push(` · gain ${number(gain)}`);
    if (bias !== 0) steps.push(` + bias ${number(bias)}`);
    return out(...steps, ...(steps.length > 1 ? result : []));
  }
  const over = { max: "largest", min: "smallest", mean: "mean", sum: "sum", l2: "√ of the sum of squares", std: "standard deviation" }[by];
  if (over && (op === "fold" || op === "pool" || op === "grid")) return out(`${over} of ${count} value${count > 1 ? "s" : ""}`, ...result);
  return out(`${terms.title} of ${count === 1 ? number(terms.values?.[0]) : `${count} values`}`, ...result);
}

function numbers(terms) {
  const height = terms.rows.length, width = terms.columns.length, depth = terms.features.length;
  if (!terms.values) return [el("p", { class: "muted small" }, `${terms.count} samples: more than are listed here.`)];
  if (terms.count === 1) return [];
  const { values, weights } = terms;
  const products = weights && values.map((v, i) => (v ?? 0) * weights[i]);
  if (height * width === 1) return [listed(terms, products)];
  if (depth === 1 && height * width <= SMALL && width <= WIDE) {
    const tables = [["samples", values], ...(weights ? [["× weights", weights], ["= products", products]] : [])];
    const marked = !weights && ["max", "min"].includes(terms.by) ? values.indexOf(terms.value) : -1;
    return [el("div", { class: "grids" }, ...tables.map(([name, list]) => table(name, list, terms, marked)))];
  }
  const pictures = depth === 1 ? [["samples", values], ...(weights ? [["weights", weights], ["products", products]] : [])] : [];
  const shown = pictures.map(([name, list]) => {
    const canvas = el("canvas", { class: "heat", role: "img", "aria-label": `${name}, ${height} by ${width}` });
    drawGrid(canvas, list, height, width);
    return el("figure", {}, canvas, el("figcaption", { class: "muted small" }, name));
  });
  return [el("div", { class: "heats" }, ...shown), largest(terms, products ?? values)];
}

function table(name, list, terms, marked) {
  const width = terms.columns.length;
  const reach = Math.max(...list.map((v) => Math.abs(v ?? 0))) || 1;
  const at = (i) => (i < 0 ? "pad" : i);
  return el("table", { class: "numbers" }, el("caption", {}, name),
    el("thead", {}, el("tr", {}, el("td"), ...terms.columns.map((c) => el("th", { scope: "col" }, at(c))))),
    el("tbody", {}, ...terms.rows.map((row, y) => el("tr", {}, el("th", { scope: "row" }, at(row)),
      ...terms.columns.map((_, x) => {
        const i = y * width + x, v = list[i];
        const cell = el("td", { class: i === marked ? "taken" : "" }, number(v));
        cell.style.setProperty("--strength", (Math.abs(v ?? 0) / reach).toFixed(3));
        cell.dataset.sign = v < 0 ? "negative" : "positive";
        return cell;
      })))));
}

// Values of one pixel: each feature by its name.
function listed(terms, products) {
  const rows = terms.values.slice(0, 24).map((v, i) => el("tr", {}, el("th", { scope: "row" }, terms.names[i] || `feature ${terms.features[i]}`),
    el("td", {}, number(v)), products && el("td", {}, number(terms.weights[i])), products && el("td", {}, number(products[i]))));
  return el("table", { class: "list" }, el("caption", {}, terms.values.length > 24 ? `the first 24 of ${terms.values.length} values` : "values"), el("tbody", {}, ...rows));
}

function largest(terms, list) {
  const width = terms.columns.length, depth = terms.features.length;
  const order = [...list.keys()].sort((a, b) => Math.abs(list[b] ?? 0) - Math.abs(list[a] ?? 0)).slice(0, LONGEST);
  const head = ["row", "column", ...(depth > 1 ? ["feature"] : []), "sample", ...(terms.weights ? ["weight", "product"] : [])];
  const place = (i) => (i < 0 ? "pad" : i);
  const rows = order.map((i) => el("tr", {},
    el("td", {}, place(terms.rows[Math.floor(i / (width * depth))])), el("td", {}, place(terms.columns[Math.floor(i / depth) % width])),
    depth > 1 && el("td", {}, terms.names[i % depth] || terms.features[i % depth]),
    el("td", {}, number(terms.values[i])), terms.weights && el("td", {}, number(terms.weights[i])), terms.weights && el("td", {}, number(list[i]))));
  return el("table", { class: "list" }, el("caption", {}, `the ${order.length} that weigh most of ${terms.count}`),
    el("thead", {}, el("tr", {}, ...head.map((one) => el("th", { scope: "col" }, one)))), el("tbody", {}, ...rows));
}
