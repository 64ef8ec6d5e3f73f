// Talking to the server. Every path is relative, so that the token in the page's address goes along.

export class Refused extends Error {
  constructor(problems) {
    super(problems.map(said).join(" "));
    this.problems = problems;
  }
}

export const said = (problem) => [problem.what, problem.change].filter(Boolean).join(" ");

async function answer(response) {
  if (response.ok) return response;
  let problems;
  try {
    ({ problems } = await response.json());
  } catch {
    problems = [{ where: "", what: `The server answered ${response.status}.`, change: "" }];
  }
  throw new Refused(problems);
}

const post = (path, body) =>
  fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const start = async () => (await answer(await fetch("api/start"))).json();
export const chooseExample = async (name) => (await answer(await post("api/example", { name }))).json();
export const upload = async (file) =>
  (await answer(await fetch(`api/image?name=${encodeURIComponent(file.name || "image")}`, { method: "PUT", body: file }))).json();

export async function terms(key, at, feature) {
  const query = new URLSearchParams({ key, y: at[0], x: at[1], feature });
  return (await answer(await fetch(`api/terms?${query}`))).json();
}

const KINDS = { float32: Float32Array, uint8: Uint8Array };

// Arrays that were sent, by what they are; the server leaves out those that are here.
const held = new Map();

export async function look(wish) {
  const buffer = await (await answer(await post("api/look", { ...wish, have: [...held.keys()] }))).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const reply = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let offset = 4 + length;
  const places = [reply.image?.pixels, ...reply.panels.flatMap((panel) => [panel.plane, panel.thumbs, panel.kernel])].filter(Boolean);
  for (const place of places.filter((one) => "part" in one).sort((a, b) => a.part - b.part)) {
    const count = place.shape.reduce((a, b) => a * b, 1);
    const Kind = KINDS[place.dtype];
    // A copy, so that what is kept does not hold on to the whole message
    const values = new Kind(buffer, offset, count).slice();
    offset += Math.ceil((count * Kind.BYTES_PER_ELEMENT) / 4) * 4;
    held.set(place.id, { values, shape: place.shape });
  }
  const used = new Set(places.map((one) => one.id));
  for (const place of places) place.array = held.get(place.id);
  for (const id of held.keys()) if (!used.has(id)) held.delete(id);
  return reply;
}
