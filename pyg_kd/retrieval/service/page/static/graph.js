// Why an item: its neighbourhood in the graph as a drawing, and the same in words.

import { $, draw, make } from "./dom.js";
import { fixed, plural } from "./numbers.js";

const SCALE = 280; // units of the drawing a unit of the layout
const MARGIN = 32;

const letter = (at) => String.fromCharCode(65 + at);
const point = ([x, y]) => ({ x: MARGIN + SCALE * x, y: MARGIN + SCALE * y });

function line(from, to, kind, nodes, width = 1.5) {
  const [a, b] = [point(from), point(to)];
  return draw("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: kind, "stroke-width": width, "data-nodes": nodes.join(" ") });
}

function node(at, kind, name, label, radius) {
  const { x, y } = point(at);
  return draw(
    "g",
    { class: `node ${kind}`, "data-nodes": name, transform: `translate(${x} ${y})` },
    draw("circle", { r: radius }),
    draw("text", { dy: "0.35em", "text-anchor": "middle" }, label),
  );
}

function lines({ layout, similar, users }) {
  const drawn = [];
  const [most, least] = [similar[0].cosine, similar.at(-1).cosine];
  const width = (cosine) => 1.5 + (most > least ? (2.5 * (cosine - least)) / (most - least) : 1);
  similar.forEach(({ cosine }, at) => {
    drawn.push(line(layout.similar[at], layout.item, "like", [letter(at), "item"], width(cosine)));
    drawn.push(line(layout.owner, layout.similar[at], "has", ["owner", letter(at)]));
  });
  users.forEach(({ shared }, at) => {
    const ends = [[layout.item, "item"], ...shared.map((one) => [layout.similar[one], letter(one)])];
    for (const [end, name] of ends) drawn.push(line(layout.users[at], end, "has other", [`${at + 1}`, name], 1));
  });
  return drawn;
}

function drawing(answer, owner, words) {
  const { layout, similar, users } = answer;
  const size = { x: 2 * MARGIN + SCALE * layout.aspect, y: 2 * MARGIN + SCALE };
  const nodes = [
    ...users.map((_, at) => node(layout.users[at], "user", `${at + 1}`, `${at + 1}`, 11)),
    ...similar.map((_, at) => node(layout.similar[at], "seen", letter(at), letter(at), 15)),
    node(layout.owner, "owner", "owner", owner, 26),
    node(layout.item, "item", "item", "Item", 26),
  ];
  return draw(
    "svg",
    { viewBox: `0 0 ${size.x} ${size.y}`, role: "img", "aria-labelledby": "drawing-title drawing-text" },
    draw("title", { id: "drawing-title" }, `Graph around ${answer.item.title}`),
    draw("desc", { id: "drawing-text" }, words),
    draw("g", {}, ...lines(answer)),
    draw("g", {}, ...nodes),
  );
}

/** Rows of the legend light up their node in the drawing, and its edges. */
function lights(body) {
  const mark = (names) => {
    for (const part of body.querySelectorAll("[data-nodes]")) {
      const own = part.dataset.nodes.split(" ");
      part.classList.toggle("dim", names !== null && !own.some((name) => names === name));
    }
  };
  for (const row of body.querySelectorAll("[data-node]")) {
    row.addEventListener("pointerenter", () => mark(row.dataset.node));
    row.addEventListener("pointerleave", () => mark(null));
  }
}

function key(kind, text) {
  const sample = draw("svg", { viewBox: "0 0 28 8", "aria-hidden": "true", class: "sample" });
  sample.append(draw("line", { x1: 0, y1: 4, x2: 28, y2: 4, class: kind, "stroke-width": kind === "like" ? 3 : 1.5 }));
  return make("span", {}, sample, text);
}

function similarRow({ title, cosine, both }, at) {
  return make(
    "li",
    { "data-node": letter(at) },
    make("span", { class: "badge seen", "aria-hidden": "true" }, letter(at)),
    make("span", { class: "name", title }, title),
    make("span", { class: "facts" }, `cosine ${fixed(cosine, 2)}, ${plural(both, "other user has", "other users have")} both`),
  );
}

function userRow({ id, shared }, at, all) {
  const which = shared.length === all && all > 2 ? `all of A to ${letter(all - 1)}` : shared.map(letter).join(", ");
  return make(
    "li",
    { "data-node": `${at + 1}` },
    make("span", { class: "badge user", "aria-hidden": "true" }, `${at + 1}`),
    make("span", { class: "name", title: id }, `User ${id}`),
    make("span", { class: "facts" }, `has the item and ${which}`),
  );
}

/** The sentence that the live region reads, and that describes the drawing. */
export function inWords({ item, similar, history }) {
  if (!similar.length) return `There is nothing in the history that ${item.title} could be compared with.`;
  const [{ title, both }] = similar;
  const nearest = `Of ${plural(history, "item", "items")} seen before, ${title} is nearest to ${item.title}; `;
  const shared = `${plural(both, "other user has", "other users have")} both.`;
  return nearest + shared;
}

const button = (text, click) => make("button", { type: "button", on: { click } }, text);

/** Fill the panel. The item can be added to a history, where one is put together. */
export function showWhy(answer, owner, { back, add }) {
  const words = inWords(answer);
  $("#why-title").textContent = `Why ${answer.item.title}?`;
  const body = $("#why .body");
  body.replaceChildren(
    make("p", {}, words),
    answer.layout && answer.similar.length ? drawing(answer, owner, words) : "",
    answer.layout ? make("p", { class: "keys" }, key("has", "has"), key("like", "similar, the thicker the more")) : make("p", { class: "keys" }, answer.note ?? ""),
    make("ol", { class: "legend", "aria-label": "Most similar items seen before" }, ...answer.similar.map(similarRow)),
    answer.users.length ? make("ol", { class: "legend", "aria-label": "Users who have both" }, ...answer.users.map((user, at) => userRow(user, at, answer.similar.length))) : "",
    make("p", { class: "row" }, button("Back to the list", back), add ? button("Add to the history", add) : null),
  );
  lights(body);
  return words;
}

/** The panel before an item is chosen, while one is asked for, or after that failed. */
export function showNoWhy(text) {
  $("#why-title").textContent = "Why this item?";
  $("#why .body").replaceChildren(make("p", { class: "hint" }, text));
}
