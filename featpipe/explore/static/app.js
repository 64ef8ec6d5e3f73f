// The page: one pipeline, one image, and the maps of one branch.

import * as api from "./api.js";
import { isDark } from "./colour.js";
import { $, el, fill, number } from "./dom.js";
import { fieldRow, layerForm } from "./forms.js";
import { showTerms } from "./inspect.js";
import { listen, place, showImage, showKernel, View } from "./panels.js";
import { opOf } from "./values.js";

const state = {
  forms: null, subject: null, data: {}, text: "", branch: "", scale: 1, most: 512,
  chosen: {}, first: {}, reply: null, asText: new Set(), pinned: null,
};
export const views = new Map(); // of the nodes on screen, by number
let cards = []; // of the layers

// -- asking the server: one question at a time, and then the newest ----------------------------------------------------

let asking = false, waiting = null;

async function ask(wish) {
  waiting = { ...waiting, ...wish };
  if (asking) return;
  asking = true;
  document.body.classList.add("busy");
  while (waiting) {
    const now = waiting;
    waiting = null;
    const began = performance.now();
    try {
      const source = now.text !== undefined ? { text: now.text } : { data: state.data };
      const reply = await api.look({ ...source, branch: state.branch, scale: state.scale, most: state.most, chosen: state.chosen, first: state.first });
      if (waiting) { // newer words have come; the pictures are shown all the same
        if (waiting.text === undefined && now.text !== undefined) waiting.rebuild = true;
      }
      show(reply, now, began);
    } catch (error) {
      say(error instanceof api.Refused ? error.message : "The server does not answer: is featpipe explore still running?");
    }
  }
  asking = false;
  document.body.classList.remove("busy");
}

const say = (text) => { $("status").textContent = text; };

function show(reply, wish, began) {
  state.reply = reply;
  if (!waiting) {
    if (reply.data && Object.keys(reply.data).length) state.data = reply.data;
    if (wish.text === undefined && document.activeElement !== $("yaml")) $("yaml").value = reply.text;
    state.text = reply.text;
    [state.branch, state.scale] = [reply.branch, reply.scale];
  }
  if (wish.rebuild || wish.text !== undefined) rebuild();
  showChoices(reply);
  showSubject(reply);
  showPanels(reply);
  showProblems(reply);
  repin();
  requestAnimationFrame(() => {
    const ms = performance.now() - began;
    performance.measure("featpipe:look", { start: began });
    if (reply.ms) {
      $("timing").textContent = `${number(Math.round(ms))} ms`;
      $("timing").title = `resolve ${number(reply.ms.resolve)} ms, compute ${number(reply.ms.compute)} ms, pictures ${number(reply.ms.pictures)} ms`;
    }
    document.body.dataset.shown = String(Number(document.body.dataset.shown ?? 0) + 1);
  });
}

// -- the chain --------------------------------------------------------------------------------------------------------

const branchData = () => state.data?.features?.[state.branch];
const layersOf = () => { const layers = branchData()?.layers; return Array.isArray(layers) ? layers : []; };

function setLayers(layers, how = {}) {
  state.data = structuredClone(state.data);
  state.data.features ??= {};
  if (!state.data.features[state.branch]) state.data.features[state.branch || (state.branch = "features")] = {};
  state.data.features[state.branch].layers = layers;
  return ask({ rebuild: how.rebuild ?? false });
}

function rebuild() {
  const focus = document.activeElement;
  const keep = focus?.closest?.(".layer") && { layer: Number(focus.closest(".layer").dataset.layer), path: focus.dataset.path, action: focus.dataset.action };
  const layers = layersOf();
  cards = layers.map((layer, i) => makeCard(layer, i, layers.length));
  views.clear();
  fill($("layers"), ...cards.map((card) => card.element));
  const images = state.data.images ?? {};
  fill($("image-fields"), ...state.forms.images.map((field) => fieldRow(field, images[field.key], (next) => setImageOption(field.key, next))), partField());
  if (keep) refocus(keep);
}

function refocus({ layer, path, action }) {
  const card = $("layers").children[Math.min(layer, $("layers").children.length - 1)];
  const target = card?.querySelector(action ? `[data-action="${action}"]` : `[data-path="${path}"]`) ?? card?.querySelector("select, input, button");
  target?.focus({ preventScroll: true });
}

function makeCard(layer, i, count) {
  const op = opOf(layer), known = op in (state.forms.layers ?? {});
  const body = el("div", { class: "form" });
  const problems = el("ul", { class: "problems", "aria-live": "polite" });
  const panels = el("div", { class: "panels" });
  const kernel = el("div", { class: "kernels" });
  const title = `Layer ${i + 1}, ${op ?? "as text"}`;
  const button = (action, text, label, press, disabled = false) =>
    el("button", { type: "button", class: "icon", "aria-label": `${label} layer ${i + 1}`, title: label, disabled, dataset: { action }, onclick: press }, text);
  const move = (to) => {
    const layers = [...layersOf()];
    layers.splice(to, 0, ...layers.splice(i, 1));
    [state.chosen, state.first] = [{}, {}];
    setLayers(layers, { rebuild: true });
    queueMicrotask(() => say(`Layer ${i + 1} is now layer ${to + 1}.`));
  };
  const element = el("li", { class: "card layer", "aria-label": title, dataset: { layer: i } },
    el("div", { class: "layer-head" }, el("span", { class: "badge", "aria-hidden": "true" }, i + 1), el("h3", {}, op ?? "layer"),
      el("span", { class: "grow" }),
      known && button("text", "{}", state.asText.has(i) ? "Form of" : "YAML of", () => { toggle(i); rebuildNow(); }),
      button("up", "↑", "Move up", () => move(i - 1), i === 0), button("down", "↓", "Move down", () => move(i + 1), i === count - 1),
      button("remove", "✕", "Remove", () => { [state.chosen, state.first] = [{}, {}]; state.asText.delete(i); setLayers(layersOf().filter((_, j) => j !== i), { rebuild: true }); })),
    body, problems, kernel, panels);
  const card = { element, body, problems, kernel, panels, views: [] };
  fillForm(card, layer, i, known);
  return card;
}

const toggle = (i) => (state.asText.has(i) ? state.asText.delete(i) : state.asText.add(i));

function rebuildNow() {
  rebuild();
  showPanels(state.reply);
  showProblems(state.reply);
}

function fillForm(card, layer, i, known) {
  const labels = state.reply?.panels.find((panel) => panel.layer === i)?.labels ?? labelsBefore(i);
  const forms = { ...state.forms, layers: known && !state.asText.has(i) ? state.forms.layers : {} };
  fill(card.body, layerForm(forms, layer, labels, (change, how) => {
    const layers = [...layersOf()];
    layers[i] = change(layers[i]);
    setLayers(layers, how);
  }));
}

function labelsBefore(i) {
  const last = state.reply?.panels.filter((panel) => panel.layer < i).at(-1);
  return last?.labels ?? [];
}

function showPanels(reply) {
  const aligned = $("sizes").value === "aligned";
  const alive = new Set();
  for (const card of cards) card.element.classList.remove("without");
  for (const [i, card] of cards.entries()) {
    const panels = reply.panels.filter((panel) => panel.layer === i);
    while (card.views.length > panels.length) card.views.pop();
    while (card.views.length < panels.length) card.views.push(new View(pick));
    if (card.panels.children.length !== panels.length) fill(card.panels, ...card.views.map((view) => view.element));
    panels.forEach((panel, n) => {
      const view = card.views[n];
      views.set(panel.node, view);
      alive.add(panel.node);
      view.show(panel, reply.image, aligned, (how) => {
        if (how.chosen !== undefined) state.chosen[panel.node] = how.chosen;
        if (how.first !== undefined) state.first[panel.node] = how.first;
        ask({});
      });
    });
    showKernel(card.kernel, panels.find((panel) => panel.kernel));
    card.element.classList.toggle("without", !panels.length && opOf(layersOf()[i]) !== "save");
  }
  for (const node of [...views.keys()]) if (!alive.has(node)) views.delete(node);
}

function showProblems(reply) {
  const item = (problem) => el("li", {}, el("span", {}, problem.what), problem.change ? el("span", { class: "change" }, ` ${problem.change}`) : null);
  cards.forEach((card, i) => {
    const mine = reply.problems.filter((problem) => problem.layer === i);
    fill(card.problems, ...mine.map(item));
    for (const field of card.body.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    for (const problem of mine) {
      for (const key of [...problem.path].reverse()) {
        const field = card.body.querySelector(`[data-path="${CSS.escape(key)}"]`);
        if (field) { field.setAttribute("aria-invalid", "true"); break; }
      }
    }
  });
  const rest = reply.problems.filter((problem) => problem.layer === null || problem.layer >= cards.length);
  const image = rest.filter((problem) => problem.path[0] === "images" || !reply.image);
  fill($("image-problems"), ...image.map(item));
  fill($("other-problems"), ...rest.filter((problem) => !image.includes(problem)).map((problem) => el("li", {}, el("code", {}, problem.where), " ", problem.what, " ", problem.change)));
  $("yaml").setAttribute("aria-invalid", String(reply.problems.length > 0));
  const count = reply.problems.length;
  say(count ? `${count} problem${count > 1 ? "s" : ""}: ${reply.problems[0].what}` : "");
}

function showChoices(reply) {
  const options = (select, values, now) => fill(select, ...values.map((value) => el("option", { value, selected: String(value) === String(now) }, value)));
  options($("branch"), Object.keys(reply.branches), reply.branch);
  options($("scale"), reply.branches[reply.branch] ?? [1], reply.scale);
  $("branch-label").hidden = Object.keys(reply.branches).length < 2;
  $("scale-label").hidden = (reply.branches[reply.branch] ?? [1]).length < 2;
}

// -- the image --------------------------------------------------------------------------------------------------------

function showSubject(reply) {
  const image = reply.image;
  $("save-example").hidden = state.subject?.kind !== "example";
  if (!image) return;
  showImage($("input"), $("input-frame"), image);
  const [y, x, c] = image.shape;
  const cut = image.whole[0] !== y || image.whole[1] !== x;
  $("subject-name").textContent = `${image.name} · ${y}×${x}${c > 1 ? `×${c}` : ""}${cut ? ` of ${image.whole[0]}×${image.whole[1]}` : ""}`;
  $("example").value = state.subject?.kind === "example" ? state.subject.name : "";
  const hint = $("drop-hint");
  if (cut) {
    fill(hint, "The middle is shown, at full resolution. ",
      el("button", { type: "button", class: "small-button", onclick: () => shrink(image.whole) }, "Shrink the whole image instead"));
  } else hint.textContent = "Drop an image anywhere on the page, or paste one. It stays on this machine.";
}

function shrink([height, width]) {
  const factor = state.most / Math.max(height, width);
  setImageOption("size", [Math.max(1, Math.round(height * factor)), Math.max(1, Math.round(width * factor))]);
  waiting = { ...waiting, rebuild: true };
}

function setImageOption(key, value) {
  state.data = structuredClone(state.data);
  const images = (state.data.images ??= {});
  if (value === undefined) delete images[key];
  else images[key] = value;
  ask({});
}

function partField() {
  const field = { key: "most", kind: "choice", required: true, default: null, words: state.parts.map(String), help: "Longest edge that is looked at, in pixels: of larger images the middle." };
  const row = fieldRow(field, String(state.most), (next) => { state.most = Number(next); ask({}); });
  row.querySelector("label").textContent = "look at";
  return row;
}

async function take(what) {
  say("Reading the image…");
  const own = !state.subject || state.data.images?.path === state.subject.path && state.subject.kind !== "file" || !state.data.images?.path;
  try {
    state.subject = await what;
  } catch (error) {
    fill($("image-problems"), el("li", {}, error.message));
    say(error.message);
    return;
  }
  unpin();
  state.data = structuredClone(state.data);
  const images = (state.data.images = { ...(own ? { path: state.subject.path } : {}), ...state.data.images });
  if (own) images.path = state.subject.path;
  delete images.size;
  await ask({ rebuild: true });
}

async function takeFile(file) {
  if (!file) return;
  if (/\.ya?ml$/i.test(file.name)) return openText(await file.text());
  if (file.size > state.most_uploaded) {
    const text = `${file.name} is larger than ${state.most_uploaded >> 20} MiB.`;
    fill($("image-problems"), el("li", {}, text));
    return say(text);
  }
  return take(api.upload(file));
}

function openText(text) {
  [state.chosen, state.first] = [{}, {}];
  state.asText.clear();
  state.branch = "";
  $("yaml").value = text;
  return ask({ text, rebuild: true });
}

// -- one value --------------------------------------------------------------------------------------------------------

let reading = false, next = null;

function pick(panel, at, how) {
  if (how === "hover" && state.pinned) return;
  if (how !== "hover") {
    state.pinned = at && { node: panel.node, at };
    $("unpin").hidden = !state.pinned;
  }
  if (!at) return;
  read({ panel, at });
}

async function read(wish) {
  next = wish;
  if (reading) return;
  reading = true;
  while (next) {
    const { panel, at } = next;
    next = null;
    try {
      const terms = await api.terms(panel.key, at, panel.chosen);
      if (panel.key === views.get(panel.node)?.panel?.key) markAll(terms, panel, at);
    } catch (error) {
      if (!(error instanceof api.Refused)) say("The server does not answer: is featpipe explore still running?");
    }
  }
  reading = false;
}

function markAll(terms, panel, at) {
  const { image } = state.reply;
  for (const view of views.values()) view.point(null);
  views.get(panel.node).point(at.map((v) => [v, v + 1]), panel.shape);
  const real = terms.rows.filter((v) => v >= 0), columns = terms.columns.filter((v) => v >= 0);
  const before = views.get(panel.parent);
  if (before && real.length && columns.length) {
    before.point([[Math.min(...real), Math.max(...real) + 1], [Math.min(...columns), Math.max(...columns) + 1]], before.panel.shape);
  }
  const mark = $("input-mark");
  mark.hidden = false;
  place(mark, terms.seen.map(([start, stop], axis) => ({ start: start / image.shape[axis], length: (stop - start) / image.shape[axis] })));
  showTerms(terms, panel, at, image);
}

function repin() {
  if (!state.pinned) return;
  const view = views.get(state.pinned.node);
  if (!view) return unpin();
  const [y, x] = state.pinned.at, [height, width] = view.panel.shape;
  state.pinned.at = [Math.min(y, height - 1), Math.min(x, width - 1)];
  read({ panel: view.panel, at: state.pinned.at });
}

function unpin() {
  state.pinned = null;
  $("unpin").hidden = true;
  $("input-mark").hidden = true;
  for (const view of views.values()) view.point(null);
}

// A pixel of the image itself.
function pickInput(at) {
  const image = state.reply?.image;
  if (!at || !image) return;
  const channels = image.shape[2], start = (at[0] * image.shape[1] + at[1]) * channels;
  const values = [...image.pixels.array.values.subarray(start, start + channels)];
  fill($("value-line"), `The image at row ${at[0]}, column ${at[1]}: `, el("strong", {}, values.map((v, i) => `${image.channels[i]} ${number(v)}`).join(", ")));
  fill($("terms"));
  fill($("seen"));
  $("inspector-of").textContent = "image";
  $("input-mark").hidden = false;
  place($("input-mark"), at.map((v, axis) => ({ start: v / image.shape[axis], length: 1 / image.shape[axis] })));
}

// -- wiring -----------------------------------------------------------------------------------------------------------

const THEMES = { "": ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  [$("theme").textContent] = THEMES[name];
  $("theme").setAttribute("aria-label", `Theme: ${THEMES[name][1]}`);
  $("theme").title = `Theme: ${THEMES[name][1]}`;
  for (const view of views.values()) view.colour();
  for (const card of cards) showKernel(card.kernel, card.views.map((view) => view.panel).find((panel) => panel.kernel), true);
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("yaml").value);
    say("The YAML is on the clipboard.");
  } catch {
    $("yaml").select();
    say(document.execCommand("copy") ? "The YAML is on the clipboard." : "The YAML is selected: copy it with Ctrl+C.");
  }
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy YAML"; }, 1500);
}

function wire() {
  $("copy").onclick = copy;
  $("theme").onclick = () => {
    const now = document.documentElement.dataset.theme ?? "";
    setTheme(now === "" ? (isDark() ? "light" : "dark") : now === "light" ? (matchMedia("(prefers-color-scheme: dark)").matches ? "" : "dark") : (matchMedia("(prefers-color-scheme: dark)").matches ? "light" : ""));
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(document.documentElement.dataset.theme ?? ""));
  $("sizes").onchange = () => showPanels(state.reply);
  addEventListener("resize", () => { for (const view of views.values()) view.crisp(); });
  $("branch").onchange = (event) => { [state.branch, state.chosen, state.first] = [event.target.value, {}, {}]; ask({ rebuild: true }); };
  $("scale").onchange = (event) => { state.scale = Number(event.target.value); ask({}); };
  $("add").onclick = () => {
    const op = $("new-layer").value, { example } = state.forms.layers[op];
    const layers = [...layersOf(), { [op]: structuredClone(example) }];
    setLayers(layers, { rebuild: true }).then(() => cards.at(-1)?.element.scrollIntoView({ block: "nearest" }));
  };
  $("file").onchange = (event) => { takeFile(event.target.files[0]); event.target.value = ""; };
  $("example").onchange = (event) => event.target.value && take(api.chooseExample(event.target.value));
  $("yaml-file").onchange = async (event) => { const [file] = event.target.files; event.target.value = ""; if (file) openText(await file.text()); };
  $("save-yaml").onclick = () => {
    const link = el("a", { href: URL.createObjectURL(new Blob([$("yaml").value], { type: "text/yaml" })), download: "pipeline.yaml" });
    link.click();
    URL.revokeObjectURL(link.href);
  };
  let timer;
  $("yaml").oninput = () => { clearTimeout(timer); timer = setTimeout(() => ask({ text: $("yaml").value, rebuild: true }), 200); };
  $("unpin").onclick = unpin;
  document.addEventListener("keydown", (event) => event.key === "Escape" && unpin());
  listen($("input"), () => state.reply?.image?.shape, (at, how) => { if (how !== "hover" || !state.pinned) pickInput(at); });
  let inside = 0;
  const over = (shown) => { $("dropping").hidden = !shown; };
  addEventListener("dragenter", (event) => { event.preventDefault(); inside++; over(true); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("dragleave", () => { inside = Math.max(0, inside - 1); over(inside > 0); });
  addEventListener("drop", (event) => { event.preventDefault(); inside = 0; over(false); takeFile(event.dataTransfer.files[0]); });
  addEventListener("paste", (event) => { const [file] = event.clipboardData?.files ?? []; if (file) { event.preventDefault(); takeFile(file); } });
}

async function begin() {
  const facts = await api.start();
  Object.assign(state, { forms: facts.forms, subject: facts.subject, parts: facts.parts, most_uploaded: facts.most_uploaded });
  fill($("example"), el("option", { value: "" }, "an example…"), ...facts.examples.map((name) => el("option", { value: name }, name)));
  fill($("new-layer"), ...Object.values(facts.forms.layers).map((form) => el("option", { value: form.op }, form.summary ? `${form.op} – ${form.summary}` : form.op)));
  $("yaml").value = facts.text;
  wire();
  await ask({ text: facts.text, rebuild: true });
  if (facts.note) fill($("image-problems"), el("li", {}, facts.note));

}

begin().catch((error) => say(error.message));
