// What the tests of the page do in it.
({
drop: async (bytes) => {
  const file = new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], "dropped.png", {type: "image/png"});
  const data = new DataTransfer();
  data.items.add(file);
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
  }
},

held: async (layer) => {
  const {views} = await import("./static/app.js");
  const {plane} = [...views.values()].find((view) => view.panel.layer === layer).panel;
  const bytes = new Uint8Array(plane.array.values.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return [btoa(text), plane.array.shape];
},

contrast: () => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = (c) => { const v = c / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      layers.push(colour.startsWith("color(") ? colour.match(/[\d.]+/g).slice(0, 4).map((v, i) => (i < 3 ? v * 255 : Number(v))) : parse(colour));
    }
    let [r, g, b] = [255, 255, 255];
    for (const [lr, lg, lb, a = 1] of layers.reverse()) [r, g, b] = [r + a * (lr - r), g + a * (lg - g), b + a * (lb - b)];
    return [r, g, b];
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const field = element.matches("input:not([type=checkbox]):not([type=file]), select, textarea");
    if (!(own || field) || !element.checkVisibility() || element.closest("button:disabled, option, optgroup, .skip, .tip")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push(`${element.tagName}.${element.className} ${element.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return bad;
},

unnamed: () => [...document.querySelectorAll("input, select, textarea, button, a, canvas, [role]")].filter((element) => {
  if (!element.checkVisibility() || element.closest("[aria-hidden=true]") || element.matches("[role=status]")) return false;
  const labels = [...(element.labels ?? [])].map((label) => label.textContent).join("");
  const by = (element.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join("");
  const text = element.matches("button, a") ? element.textContent : "";
  return !(element.getAttribute("aria-label") || labels || by || text).trim();
}).map((element) => element.outerHTML.slice(0, 120)),

})
