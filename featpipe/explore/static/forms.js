// The form of one layer, made from what the server says of it.

import { el, fill, unique } from "./dom.js";
import { at, flow, opOf, parsed, raw, shown, switched, valueOf, variantOf } from "./values.js";

// Returns a form's element. `change` is given what makes the layer as it should be of the layer as it is then: fields
// stay while others change the same layer.
export function layerForm(forms, layer, labels, change) {
  const op = opOf(layer), form = forms.layers[op];
  const value = form && valueOf(layer);
  const variant = form && variantOf(form, value);
  if (!variant) return textForm(layer, change);
  const rest = el("div", { class: "rest" });
  const refill = (now, as) => fill(rest, ...fieldsOf({ forms, form, op, labels, change }, now, as));
  refill(value, variant);
  if (form.variants.length < 2) return el("div", { class: "fields" }, rest);
  // The choice itself stays where it is, for somebody may be typing the first letters of a name
  const choose = (to) => {
    let made;
    change((now) => ({ [op]: (made = switched(form, valueOf(now), to)) }), {});
    refill(made, to);
  };
  return el("div", { class: "fields" }, variantRow(form, variant, choose), rest);
}

function fieldsOf({ forms, form, op, labels, change }, value, variant) {
  const edit = (path, field) => (next, how = {}) => change((now) => {
    const made = changed(valueOf(now), [...path, field.key], next);
    for (const key of how.without ?? []) delete made[key];
    return { [op]: made };
  }, how);
  const row = (path) => (field) => {
    const held = field.key === "" ? value : at(value, [...path, field.key]);
    return fieldRow(field, held, edit(path, field), { forms, labels });
  };
  const options = form.options.filter((option) => fits(option, value, variant));
  const main = options.filter((option) => ["stride", "padding"].includes(option.key));
  const more = options.filter((option) => !main.includes(option));
  const given = more.some((option) => at(value, [option.key]) !== undefined);
  return [
    variant.help && el("p", { class: "muted small about", title: variant.source }, variant.help),
    ...variant.fields.map(row(variant.at)),
    ...main.map(row([])),
    more.length && el("details", { class: "more", open: given }, el("summary", {}, "More options"), ...more.map(row([]))),
  ];
}

// A grid pooling has neither stride nor padding, and only kernels of one's own have names.
function fits(option, value, variant) {
  if (variant.main && typeof value[variant.main] === "object" && !Array.isArray(value[variant.main])) return false;
  if (variant.main && value[variant.main] === "global") return false;
  if (option.key === "names") return "kernels" in value;
  if (option.key === "response") return variant.group === "learned from images";
  return true;
}

function changed(value, path, next) {
  if (path.length === 1 && path[0] === "") return next ?? "";
  const copy = structuredClone(value);
  let node = copy;
  for (const key of path.slice(0, -1)) node = node[key];
  const last = path.at(-1);
  if (next === undefined) delete node[last];
  else node[last] = next;
  return copy;
}

function variantRow(form, variant, choose) {
  const id = unique("variant");
  const groups = new Map();
  for (const one of form.variants) groups.set(one.group, [...(groups.get(one.group) ?? []), one]);
  const options = [...groups].flatMap(([group, ones]) => {
    const items = ones.map((one) => el("option", { value: form.variants.indexOf(one), selected: one === variant }, one.title));
    return group ? [el("optgroup", { label: group }, ...items)] : items;
  });
  const select = el("select", { id, dataset: { field: form.choose, path: form.choose },
    onchange: () => choose(form.variants[select.value]) }, ...options);
  return el("div", { class: "field wide" }, el("label", { for: id }, form.choose), select);
}

export function fieldRow(field, value, set, context = {}) {
  const id = unique("field");
  const make = CONTROLS[field.kind] ?? textControl;
  const control = make(field, value, set, id, context);
  const help = field.help && el("span", { class: "tip", id: `${id}-help` }, field.help);
  const main = control.matches?.("input, select, textarea") ? control : control.querySelector("input, select, textarea");
  if (main) {
    main.id = id;
    (control.querySelector("[data-size]") ?? main).dataset.path = field.key;
    if (help) main.setAttribute("aria-describedby", `${id}-help`);
  }
  const name = field.kind === "over" ? "over" : field.key.replaceAll("_", " ") || "name";
  return el("div", { class: field.kind === "kernels" ? "field wide" : "field" },
    el("label", { for: id, title: field.help }, name), control, help);
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function choiceControl(field, value, set) {
  const now = value ?? field.default;
  const words = [...field.words];
  if (now !== null && !words.includes(now)) words.push(flow(now));
  return el("select", { onchange: (event) => {
    const word = event.target.value;
    set(word === "" || (!field.required && word === field.default) ? undefined : word);
  } },
  now === null && el("option", { value: "", selected: true }, field.optional ? "as usual" : "choose…"),
  ...words.map((word) => el("option", { value: word, selected: word === now || word === flow(now) }, word)),
  now !== null && field.optional && el("option", { value: "" }, "as usual"));
}

function flagControl(field, value, set) {
  return el("input", { type: "checkbox", checked: value ?? field.default ?? false,
    onchange: (event) => set(event.target.checked === field.default ? undefined : event.target.checked) });
}

function numberControl(field, value, set) {
  const whole = field.kind === "integer";
  return el("input", { type: "number", value: value ?? "", placeholder: shown(field.default), min: field.min, max: field.max,
    step: whole ? 1 : "any", inputmode: whole ? "numeric" : "decimal", required: field.required,
    oninput: (event) => set(event.target.value === "" ? undefined : Number(event.target.value)) });
}

function textControl(field, value, set) {
  const kind = field.kind;
  return el("input", { type: "text", value: value === undefined || value === null ? "" : shown(value, kind), spellcheck: "false",
    placeholder: field.default === null ? "" : shown(field.default, kind), required: field.required, autocomplete: "off",
    oninput: (event) => set(parsed(event.target.value, kind)) });
}

function labelControl(field, value, set, id, { labels = [] }) {
  const words = labels.includes(value) || !value ? labels : [value, ...labels];
  return el("select", { onchange: (event) => set(event.target.value) },
    !value && el("option", { value: "" }, "choose…"),
    ...words.map((word) => el("option", { value: word, selected: word === value }, word)));
}

function paddingControl(field, value, set) {
  const word = typeof value === "string" ? value : value === undefined ? field.default : "widths";
  const select = el("select", { onchange: () => {
    if (select.value === "widths") set({ mode: "zero", widths: 1 }, { rebuild: true });
    else set(select.value === field.default ? undefined : select.value, { rebuild: word === "widths" });
  } }, ...field.words.map((one) => el("option", { value: one, selected: one === word }, one === "same" ? "same (zeros)" : one)),
  el("option", { value: "widths", selected: word === "widths" }, "of given widths"));
  if (word !== "widths") return select;
  return el("div", { class: "stack" }, select,
    el("input", { type: "text", "aria-label": "mode and widths", value: flow(value), spellcheck: "false",
      oninput: (event) => set(parsed(event.target.value, "pair")) }));
}

function overControl(field, value, set) {
  const kind = value === "global" ? "global" : value && typeof value === "object" && !Array.isArray(value) ? "grid" : "window";
  const select = el("select", { "aria-label": "pooled over", onchange: () => {
    set({ window: 2, grid: { grid: [2, 2] }, global: "global" }[select.value], { rebuild: true, without: ["stride", "padding"] });
  } }, ...[["window", "windows of"], ["grid", "a grid of"], ["global", "the whole map"]]
    .map(([one, text]) => el("option", { value: one, selected: one === kind }, text)));
  if (kind === "global") return el("div", { class: "pairwise" }, select);
  const size = kind === "grid" ? value.grid : value;
  const input = el("input", { type: "text", inputmode: "numeric", "aria-label": kind === "grid" ? "cells: rows, columns" : "size, in samples",
    value: shown(size ?? "", "pair"), dataset: { size: "yes" }, oninput: () => {
      const next = parsed(input.value, "pair");
      set(kind === "grid" ? { grid: next ?? "" } : next ?? "");
    } });
  return el("div", { class: "pairwise" }, select, input);
}

// Kernels of one's own: the first one as a table of numbers, several as text.
function kernelsControl(field, value, set, id, { forms }) {
  const plain = Array.isArray(value) && value.length === 1 && Array.isArray(value[0]) && value[0].length <= 9 &&
    value[0].every((row) => Array.isArray(row) && row.length === value[0][0].length && row.length <= 9 && row.every((v) => typeof v === "number"));
  const begin = el("select", { "aria-label": "begin with a kernel", onchange: () => begin.value && set([forms.kernels[begin.value]], { rebuild: true, without: ["names"] }) },
    el("option", { value: "" }, "begin with…"), ...Object.keys(forms.kernels).map((name) => el("option", { value: name }, name)));
  if (!plain) {
    return el("div", { class: "stack" }, el("textarea", { rows: 4, spellcheck: "false", "aria-label": "kernels",
      oninput: (event) => set(raw(event.target.value)) }, flow(value)), begin);
  }
  const kernel = value[0];
  const cells = kernel.map((row, y) => el("tr", {}, ...row.map((weight, x) => el("td", {},
    el("input", { type: "text", inputmode: "decimal", value: String(weight), "aria-label": `weight, row ${y + 1}, column ${x + 1}`,
      oninput: (event) => {
        const next = Number(event.target.value.replace("−", "-"));
        if (event.target.value.trim() === "" || Number.isNaN(next)) return event.target.setAttribute("aria-invalid", "true");
        event.target.removeAttribute("aria-invalid");
        kernel[y][x] = next;
        set([kernel.map((r) => [...r])]);
      } })))));
  const edge = el("select", { "aria-label": "size of the kernel", onchange: () => {
    const [h, w] = edge.value.split("×").map(Number);
    const top = Math.floor(h / 2) - Math.floor(kernel.length / 2), left = Math.floor(w / 2) - Math.floor(kernel[0].length / 2);
    set([Array.from({ length: h }, (_, y) => Array.from({ length: w }, (_, x) => kernel[y - top]?.[x - left] ?? 0))], { rebuild: true });
  } }, ...[...new Set([`${kernel.length}×${kernel[0].length}`, "1×3", "3×1", "2×2", "3×3", "5×5", "7×7"])].map((one) => el("option", { value: one }, one)));
  return el("div", { class: "stack" }, el("table", { class: "kernel" }, el("tbody", {}, ...cells)), el("div", { class: "pairwise" }, edge, begin));
}

// A layer as text, for what no form fits.
export function textForm(layer, change) {
  const id = unique("text");
  const text = layer && typeof layer === "object" && "$yaml" in layer ? layer.$yaml
    : opOf(layer) && typeof layer === "object" ? `${opOf(layer)}: ${flow(valueOf(layer))}` : flow(layer);
  return el("div", { class: "fields" }, el("div", { class: "field wide" },
    el("label", { for: id }, "layer, as YAML"),
    el("textarea", { id, rows: 3, spellcheck: "false", oninput: (event) => change(() => raw(event.target.value), {}) }, text)));
}

const CONTROLS = {
  choice: choiceControl, flag: flagControl, number: numberControl, integer: numberControl, padding: paddingControl,
  over: overControl, kernels: kernelsControl, label: labelControl, text: textControl, list: textControl, pair: textControl,
};
