// What is seen of each layer: its map in full, its features small, and the legend.

import { cssGradient, drawGrid, drawImage, drawPlane, drawThumb } from "./colour.js";
import { el, fill, number } from "./dom.js";

// Where a map lies on the image, in shares of it: over what its windows see, or at its true size.
export function placed(panel, image, aligned) {
  const [height, width] = image.shape;
  const axes = [[panel.shape[0], height], [panel.shape[1], width]];
  return axes.map(([n, whole], axis) => {
    if (!aligned) return { start: 0, length: Math.max(n / whole, n > 1 ? 0.04 : 0.02) };
    if (!panel.window) return { start: 0, length: 1 };
    const [size, stride, offset] = panel.window[axis];
    const first = offset + size / 2 - stride / 2;
    return { start: first / whole, length: (n * stride) / whole };
  });
}

export function place(element, [y, x]) {
  Object.assign(element.style, {
    top: `${100 * y.start}%`, left: `${100 * x.start}%`, height: `${100 * y.length}%`, width: `${100 * x.length}%`,
  });
}

// One map with its frame; `pick` is told of pixels that are pointed at, `hover` false for those that are chosen.
export class View {
  constructor(pick) {
    this.canvas = el("canvas", { tabindex: "0", role: "application", "aria-roledescription": "map" });
    this.mark = el("div", { class: "mark", hidden: true });
    this.holder = el("div", { class: "holder" }, this.canvas, this.mark);
    this.frame = el("div", { class: "frame" }, this.holder);
    this.title = el("h3", { class: "map-title" });
    this.low = el("span"), this.high = el("span"), this.middle = el("span", { class: "zero" }, "0");
    this.ramp = el("div", { class: "ramp" });
    this.legend = el("div", { class: "legend", role: "img" }, this.low, this.ramp, this.high);
    this.name = el("p", { class: "feature-name" });
    this.thumbs = el("div", { class: "thumbs", role: "radiogroup" });
    this.thumbs.addEventListener("keydown", (event) => this.step(event));
    this.pages = el("div", { class: "pages row" });
    this.large = el("button", { type: "button", class: "icon", "aria-pressed": "false", title: "Enlarge", onclick: () => this.enlarge() }, "⤢");
    this.element = el("div", { class: "panel" },
      el("div", { class: "panel-head" }, this.title, this.legend, this.large),
      el("div", { class: "panel-body" }, el("div", { class: "picture" }, this.frame, this.name), el("div", { class: "strip" }, this.thumbs, this.pages)));
    listen(this.canvas, () => this.panel?.shape, (at, how) => pick(this.panel, at, how));
  }

  enlarge() {
    const on = this.element.classList.toggle("large");
    this.large.setAttribute("aria-pressed", String(on));
    this.crisp();
  }

  // Samples stay squares where they are drawn larger than they are; where there is no room for all, they are averaged.
  crisp() {
    const wide = this.canvas.getBoundingClientRect().width * devicePixelRatio >= this.canvas.width;
    this.canvas.style.imageRendering = wide ? "pixelated" : "auto";
  }

  show(panel, image, aligned, choose) {
    this.panel = panel;
    const [height, width, features] = panel.shape;
    fill(this.title, panel.title, el("span", { class: "muted" }, `  ${height}×${width}×${features}`));
    this.frame.style.aspectRatio = `${image.shape[1]} / ${image.shape[0]}`;
    place(this.holder, placed(panel, image, aligned));
    this.canvas.setAttribute("aria-label",
      `Map after ${panel.title}: ${height} by ${width}, feature ${panel.chosen + 1} of ${features}, ${panel.name}. Arrow keys choose a value.`);
    this.name.textContent = panel.name || `feature ${panel.chosen}`;
    this.large.setAttribute("aria-label", `Enlarge the map after ${panel.title}`);
    this.colour(false);
    this.showThumbs(choose);
    this.crisp();
  }

  colour(again = true) {
    const { span: [low, high, signed], plane } = this.panel;
    const drawn = `${plane.id} ${low} ${high}`;
    if (!again && drawn === this.drawn) return;
    this.drawn = drawn;
    drawPlane(this.canvas, plane.array, [low, high, signed]);
    let least = Infinity, most = -Infinity;
    for (const v of plane.array.values) { if (v < least) least = v; if (v > most) most = v; }
    this.low.textContent = number(low);
    this.high.textContent = number(high);
    this.ramp.style.background = cssGradient(signed);
    const text = `Colours from ${number(low)} to ${number(high)}, for all features of the layer; this one has ${number(least)} to ${number(most)}`;
    this.legend.setAttribute("aria-label", text);
    this.legend.title = text;
    if (again) this.drawThumbs();
  }

  showThumbs(choose) {
    const { names, first, chosen, shape: [, , features], title } = this.panel;
    const same = this.thumbs.children.length === names.length;
    if (!same) {
      fill(this.thumbs, ...names.map(() => el("button", { type: "button", role: "radio", class: "thumb" }, el("canvas", { "aria-hidden": "true" }), el("span"))));
      this.small = null;
    }
    this.thumbs.setAttribute("aria-label", `Features of ${title}`);
    this.thumbs.hidden = features === 1;
    [...this.thumbs.children].forEach((button, i) => {
      const on = first + i === chosen;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on || (i === 0 && (chosen < first || chosen >= first + names.length)) ? 0 : -1;
      button.setAttribute("aria-label", names[i] || `feature ${first + i}`);
      button.title = names[i];
      button.lastChild.textContent = shortened(names, i);
      button.onclick = () => choose({ chosen: first + i });
    });
    if (this.small !== this.panel.thumbs.id) this.drawThumbs();
    const page = this.thumbs.children.length, more = features > page || first > 0;
    const turn = (to, text) => el("button", { type: "button", class: "small-button", disabled: to < 0 || to >= features, onclick: () => choose({ first: to }) }, text);
    fill(this.pages, ...(more ? [turn(first - 48, "← before"), el("span", { class: "muted small" }, `${first + 1}–${first + page} of ${features}`), turn(first + 48, "more →")] : []));
  }

  step(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const buttons = [...this.thumbs.children];
    const next = buttons[(buttons.indexOf(document.activeElement) + by + buttons.length) % buttons.length];
    next.focus();
    next.click();
  }

  drawThumbs() {
    this.small = this.panel.thumbs.id;
    [...this.thumbs.children].forEach((button, i) => {
      drawThumb(button.firstChild, this.panel.thumbs.array, i, this.panel.span[2]);
      button.firstChild.style.imageRendering = button.firstChild.width < 64 ? "pixelated" : "auto";
    });
  }

  point(at, shape) {
    this.mark.hidden = !at;
    if (!at) return;
    place(this.mark, at.map(([start, stop], axis) => ({ start: start / shape[axis], length: (stop - start) / shape[axis] })));
  }
}

// What tells a feature from its neighbours: the labels that not all of them share.
function shortened(names, i) {
  const parts = names.map((name) => name.split(" "));
  const own = parts[i].filter((part) => names.length === 1 || !parts.every((others) => others.includes(part)));
  return own.map((part) => part.replace(/^orientation=(.*)$/, "$1°").replace(/^(component|channel|bank|kernel|orientation|frequency|sigma)=/, "")).join(" ") || "";
}

// The kernel of the feature that is shown, channel by channel where it spans several.
export function showKernel(holder, panel, again = false) {
  const kernel = panel?.kernel;
  if (!again && holder.dataset.drawn === (kernel?.id ?? "")) return;
  holder.dataset.drawn = kernel?.id ?? "";
  if (!kernel) return fill(holder);
  const { values, shape: [height, width, depth] } = kernel.array;
  fill(holder, ...Array.from({ length: depth }, (_, c) => {
    const name = depth > 1 ? kernel.names[c] : `kernel ${height}×${width}`;
    const canvas = el("canvas", { class: "heat", role: "img", "aria-label": `Weights of the ${name}` });
    drawGrid(canvas, Array.from({ length: height * width }, (_, i) => values[i * depth + c]), height, width);
    return el("figure", {}, canvas, el("figcaption", { class: "muted small" }, name));
  }));
}

// Pointing at, touching and walking over a canvas.
export function listen(canvas, shape, pick) {
  const at = (event) => {
    const box = canvas.getBoundingClientRect(), [height, width] = shape();
    const y = Math.floor(((event.clientY - box.top) / box.height) * height), x = Math.floor(((event.clientX - box.left) / box.width) * width);
    return [Math.min(Math.max(y, 0), height - 1), Math.min(Math.max(x, 0), width - 1)];
  };
  let cursor = null;
  canvas.addEventListener("pointermove", (event) => { if (shape() && event.pointerType !== "touch") pick((cursor = at(event)), "hover"); });
  canvas.addEventListener("pointerleave", () => pick(null, "hover"));
  canvas.addEventListener("click", (event) => { if (shape()) pick((cursor = at(event)), "pin"); });
  canvas.addEventListener("focus", () => { if (shape() && canvas.matches(":focus-visible")) pick((cursor = within(cursor, shape())), "key"); });
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by || !shape()) return;
    event.preventDefault();
    const far = event.shiftKey ? 10 : 1;
    const [y, x] = within(cursor, shape());
    cursor = within([y + far * by[0], x + far * by[1]], shape());
    pick(cursor, "key");
  });
}

function within(at, [height, width]) {
  const [y, x] = at ?? [height >> 1, width >> 1];
  return [Math.min(Math.max(y, 0), height - 1), Math.min(Math.max(x, 0), width - 1)];
}

export function showImage(canvas, frame, image) {
  if (canvas.dataset.drawn !== image.key) drawImage(canvas, image.pixels.array, image.range);
  canvas.dataset.drawn = image.key;
  frame.style.aspectRatio = `${image.shape[1]} / ${image.shape[0]}`;
  frame.style.setProperty("--ratio", image.shape[1] / image.shape[0]);
  const part = image.whole[0] !== image.shape[0] || image.whole[1] !== image.shape[1];
  canvas.setAttribute("aria-label", `The image ${image.name}, ${image.shape[0]} by ${image.shape[1]} pixels${part ? `, the middle of ${image.whole[0]} by ${image.whole[1]}` : ""}`);
}
