// The two lists, the items seen before, and the figures above them.

import { $, make } from "./dom.js";
import { count, plural, share } from "./numbers.js";

const OTHER = { teacher: "student", student: "teacher" };

function placeholders(k) {
  return Array.from({ length: k }, () => make("li", { class: "empty", "aria-hidden": "true" }));
}

/** Rows of the right height, so that nothing moves when the lists arrive. */
export function showWaiting(k) {
  for (const who of ["teacher", "student"]) {
    const list = $(`#${who} ol`);
    if (list.children.length !== k) list.replaceChildren(...placeholders(k));
    $(`#${who}`).setAttribute("aria-busy", "true");
  }
}

function shared(who, item, answer) {
  const place = answer[OTHER[who]]?.items?.findIndex(({ id }) => id === item.id) ?? -1;
  return place < 0 ? null : place + 1;
}

function row(who, item, place, answer, choose) {
  const other = shared(who, item, answer);
  const button = make(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      "data-id": item.id,
      on: { click: (event) => choose(item, who, event) },
    },
    make("span", { class: "place" }, String(place)),
    make("span", { class: "name", title: item.title }, item.title),
    other ? make("span", { class: "unseen" }, `, the ${OTHER[who]}’s number ${other}`) : null,
    other ? make("span", { class: "other", "aria-hidden": "true" }, String(other)) : null,
  );
  return make("li", { class: other ? "both" : null }, button);
}

function showList(who, answer, k, choose) {
  const section = $(`#${who}`);
  const { items = [] } = answer[who] ?? {};
  section.removeAttribute("aria-busy");
  const rows = items.map((item, at) => row(who, item, at + 1, answer, choose));
  $("ol", section).replaceChildren(...rows, ...placeholders(k - rows.length));
}

function summary({ student, teacher, overlap, popular }) {
  if (teacher?.problem) return teacher.problem;
  if (popular) return "Nothing was seen before, so these are popular items.";
  if (!overlap?.of) return student.items ? plural(student.items.length, "item", "items") : "";
  const both = `${count(overlap.count)} of ${plural(overlap.of, "item", "items")}`;
  return `${both} in both lists: overlap@${overlap.of} is ${share(overlap.count / overlap.of)}`;
}

/** Both lists, and one sentence on what they share. */
export function showLists(answer, k, choose) {
  showList("student", answer, k, choose);
  showList("teacher", answer, k, choose);
  const sentence = summary(answer);
  $("#overlap").textContent = sentence || "\u00a0";
  return sentence;
}

/** Arrows move through a list and between the two, as in a table. */
export function arrowKeys(event) {
  const button = event.target.closest("ol button");
  if (!button) return;
  const rows = (who) => [...document.querySelectorAll(`#${who} ol button`)];
  const who = button.closest("section").id;
  const at = rows(who).indexOf(button);
  const aside = { ArrowLeft: "teacher", ArrowRight: "student" }[event.key];
  const step = { ArrowUp: -1, ArrowDown: 1, Home: -at, End: rows(who).length }[event.key];
  if (aside === undefined && step === undefined) return;
  event.preventDefault();
  const side = rows(aside ?? who);
  side[Math.max(0, Math.min(side.length - 1, at + (step ?? 0)))]?.focus();
}

/** The items of the user or of the history; those of a history can be removed. */
export function showKnown(known, { remove = null } = {}) {
  const chip = (item) =>
    remove
      ? make(
          "button",
          { type: "button", "aria-label": `Remove ${item.title}`, "data-id": item.id, on: { click: () => remove(item) } },
          make("span", { class: "name" }, item.title),
          make("span", { class: "cross", "aria-hidden": "true" }, "×"),
        )
      : make("span", { title: item.title }, item.title);
  const rest = known.count - known.items.length;
  const more = rest > 0 ? [make("li", { class: "more" }, `and ${count(rest)} more`)] : [];
  const none = remove ? "Nothing yet: add items above." : "Nothing.";
  if (remove) $("#known").removeAttribute("tabindex");
  else $("#known").tabIndex = 0; // what scrolls is reached by the keyboard too
  $("#known").replaceChildren(
    ...(known.items.length ? known.items.map((item) => make("li", {}, chip(item))) : [make("li", { class: "more" }, none)]),
    ...more,
  );
}
