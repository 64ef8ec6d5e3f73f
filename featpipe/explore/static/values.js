// Values of the pipeline as text in a field, and back.

const RAW = "$yaml";
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
const PLAIN = /^[A-Za-z0-9_./-][A-Za-z0-9_ ./-]*$/;

export function flow(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (typeof value === "object") {
    if (RAW in value) return value[RAW];
    return `{${Object.entries(value).map(([k, v]) => `${k}: ${flow(v)}`).join(", ")}}`;
  }
  if (typeof value === "string") return PLAIN.test(value) && !NUMBER.test(value) ? value : `'${value.replaceAll("'", "''")}'`;
  return String(value);
}

// What stands in a field: a list without its brackets, text without quotes.
export function shown(value, kind) {
  if (Array.isArray(value) && (kind === "list" || kind === "pair" || kind === "over") && value.every((v) => typeof v !== "object")) {
    return kind !== "list" && value[0] === value[1] ? String(value[0]) : value.map(flow).join(", ");
  }
  return typeof value === "string" ? value : flow(value);
}

// Back to a value; what is more than numbers is read as YAML by the server.
export function parsed(text, kind) {
  let trimmed = text.trim();
  if (!trimmed) return undefined;
  if (NUMBER.test(trimmed)) return Number(trimmed);
  if (["list", "pair", "over"].includes(kind) && !/^[[{]/.test(trimmed) && /[,\s]/.test(trimmed)) {
    trimmed = `[${trimmed.split(/[,\s×]+/).filter(Boolean).join(", ")}]`;
  }
  try {
    return JSON.parse(trimmed);
  } catch {
    return kind === "word" ? trimmed : { [RAW]: trimmed };
  }
}

export const raw = (text) => ({ [RAW]: text });

export const opOf = (layer) => (typeof layer === "string" ? layer : layer && typeof layer === "object" && Object.keys(layer).length === 1 ? Object.keys(layer)[0] : null);
export const valueOf = (layer) => (typeof layer === "string" ? {} : (Object.values(layer)[0] ?? {}));

export function at(value, path) {
  for (const key of path) {
    if (value === null || typeof value !== "object") return undefined;
    value = value[key];
  }
  return value;
}

function matches(value, { path, equals, list }) {
  const found = at(value, path);
  if (equals !== undefined) return found === equals;
  if (list !== undefined) return found !== undefined && Array.isArray(found) === list;
  return found !== undefined;
}

// Which of a layer's forms a value is written in.
export const variantOf = (form, value) => form.variants.find((variant) => matches(value, variant.match));

// The same layer in another form: options that all forms share are kept, and so is what a pooling is over.
export function switched(form, value, variant) {
  const next = structuredClone(variant.data);
  if (typeof next !== "object") return next;
  const old = variantOf(form, value);
  if (old?.main && variant.main && variant.main !== "histogram" && old.main !== "histogram") next[variant.main] = value[old.main];
  for (const option of form.options) {
    if (typeof value === "object" && option.key in value && !(option.key in next) && option.key !== "names" && option.key !== "response") {
      next[option.key] = value[option.key];
    }
  }
  // Parameters of the same name and kind, as the sigmas of one bank and the next
  for (const field of variant.fields) {
    const before = old && old.at.join() === variant.at.join() && old.fields.find((one) => one.key === field.key && one.kind === field.kind);
    const held = before && at(value, [...old.at, field.key]);
    if (held !== undefined && held !== null && field.kind !== "kernels") at(next, variant.at)[field.key] = held;
  }
  return next;
}
