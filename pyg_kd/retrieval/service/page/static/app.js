// The page: what is asked for lives in the address after "#", and everything shown follows it.

import { ask } from "./api.js";
import { combobox } from "./combobox.js";
import { $, $$ } from "./dom.js";
import { showFigures } from "./figures.js";
import { showNoWhy, showWhy } from "./graph.js";
import { arrowKeys, showKnown, showLists, showWaiting } from "./lists.js";
import { plural } from "./numbers.js";

const HINT = "Choose an item of a list to see what connects it with the items seen before.";
const ALONE = "What a student recommends. Start the service with a teacher to see both lists.";
const LONGEST = 100; // items of a history

let about = null;
let wish = { mode: "user", user: "", items: [], k: 10 };
let lastButton = null; // of the item that is explained
let pending = { lists: null, why: null };

const say = (text) => ($("#status").textContent = text);

function problem(error, again) {
  const box = $("#problem");
  box.hidden = !error;
  if (!error) return;
  $("p", box).textContent = error.message;
  $("#retry").onclick = again;
}

/** One request of a kind at a time: a later one ends the one before. */
function next(kind) {
  pending[kind]?.abort();
  pending[kind] = new AbortController();
  return pending[kind].signal;
}

const whom = () => (wish.mode === "user" ? { user: wish.user } : { items: wish.items });
const owner = () => (wish.mode === "user" ? "User" : "You");

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const k = given.get("k");
  const items = given.getAll("item").slice(0, LONGEST);
  wish = {
    mode: given.has("item") || given.get("mode") === "history" ? "history" : "user",
    user: given.get("user") ?? about?.first_user ?? "",
    items: [...new Set(items)],
    k: ["5", "10", "20", "50"].includes(k) ? Number(k) : 10,
  };
}

function writeAddress() {
  const given = new URLSearchParams();
  if (wish.mode === "user") given.set("user", wish.user);
  else given.set("mode", "history");
  if (wish.mode === "history") for (const item of wish.items) given.append("item", item);
  if (wish.k !== 10) given.set("k", wish.k);
  if (`#${given}` !== location.hash) history.pushState(null, "", `#${given}`);
}

function showForm() {
  for (const field of $$("[data-mode]")) field.hidden = field.dataset.mode !== wish.mode;
  for (const radio of $$("[name=mode]")) radio.checked = radio.value === wish.mode;
  $("#user").value = wish.user;
  $("#k").value = String(wish.k);
  $("#known-title").textContent = wish.mode === "user" ? "Seen before" : "The history";
}

function forgetWhy() {
  pending.why?.abort();
  lastButton = null;
  showNoWhy(HINT);
}

async function showAll() {
  showForm();
  forgetWhy();
  showWaiting(wish.k);
  const signal = next("lists");
  try {
    const answer = await ask("compare/lists", { ...whom(), k: wish.k }, signal);
    problem(null);
    showKnown(answer.known, { remove: wish.mode === "history" ? removeItem : null });
    showFigures(about, answer);
    say(showLists(answer, wish.k, choose));
  } catch (error) {
    if (error.name === "AbortError") return;
    showLists({ student: {} }, wish.k, choose);
    showKnown({ count: 0, items: [] });
    problem(error, showAll);
  }
}

function change(part) {
  wish = { ...wish, ...part };
  writeAddress();
  return showAll();
}

const addItem = (item) => {
  $("#item").value = "";
  if (wish.items.length < LONGEST) change({ items: [...new Set([...wish.items, item.id])] });
};

async function removeItem(item) {
  await change({ items: wish.items.filter((id) => id !== item.id) });
  ($("#known button") ?? $("#item")).focus();
}

async function choose(item, who, event) {
  lastButton = event.currentTarget;
  for (const button of $$(".list button")) button.setAttribute("aria-pressed", String(button === lastButton));
  const byKeyboard = event.detail === 0;
  const signal = next("why");
  $("#why").setAttribute("aria-busy", "true");
  try {
    const answer = await ask("compare/explain", { ...whom(), item: item.id, from: who }, signal);
    const add = wish.mode === "history" ? () => addItem(item) : null;
    say(showWhy(answer, owner(), { back: () => lastButton?.focus(), add }));
  } catch (error) {
    if (error.name === "AbortError") return;
    showNoWhy(error.message);
  }
  $("#why").removeAttribute("aria-busy");
  if (byKeyboard) $("#why-title").focus({ preventScroll: true });
  const below = $("#why").getBoundingClientRect().top > 0.6 * innerHeight;
  if (below || byKeyboard) $("#why").scrollIntoView({ block: below ? "start" : "nearest" });
}

async function found(kind, q, signal) {
  const answer = await ask(`compare/${kind}`, { q }, signal);
  const note = {
    users: ({ count }) => plural(count, "item", "items"),
    items: ({ id, title, count }) => (title === id ? plural(count, "user", "users") : id),
  }[kind];
  return answer.found.map((one) => ({ ...one, note: note(one) }));
}

async function anyUser() {
  try {
    const answer = await ask("compare/users", { draw: Math.random() });
    if (answer.found.length) await change({ user: answer.found[0].id });
  } catch (error) {
    problem(error, anyUser);
  }
}

function listen() {
  const onProblem = (error) => problem(error, showAll);
  combobox($("#user"), $("#users"), {
    search: (q, signal) => found("users", q, signal),
    choose: ({ id }) => change({ user: id }),
    say,
    onProblem,
  });
  combobox($("#item"), $("#items"), {
    search: (q, signal) => found("items", q, signal),
    choose: addItem,
    say,
    onProblem,
  });
  $("#ask").addEventListener("submit", (event) => event.preventDefault());
  for (const radio of $$("[name=mode]")) radio.addEventListener("change", () => change({ mode: radio.value }));
  $("#k").addEventListener("change", (event) => change({ k: Number(event.target.value) }));
  $("#any").addEventListener("click", anyUser);
  $("#clear").addEventListener("click", () => change({ items: [] }));
  $("#results").addEventListener("keydown", arrowKeys);
  $(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // what follows "#" says what is asked for
    $("#overlap").focus();
  });
  $("#why").addEventListener("keydown", (event) => event.key === "Escape" && lastButton?.focus());
  addEventListener("popstate", () => {
    readAddress();
    showAll();
  });
}

async function start() {
  $("main").hidden = false;
  readAddress();
  showForm();
  showWaiting(wish.k);
  showNoWhy(HINT);
  try {
    about = await ask("compare/about");
  } catch (error) {
    problem(error, start);
    return;
  }
  problem(null);
  readAddress(); // by now it is known which user comes first
  document.body.classList.toggle("alone", !about.teacher);
  if (!about.teacher) $("#lead").textContent = ALONE;
  showFigures(about, null);
  await showAll();
}

listen();
start();
