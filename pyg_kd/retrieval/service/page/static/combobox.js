// A text field with suggestions: arrows move through them, Enter takes one, Escape closes.

import { make } from "./dom.js";

const PAUSE = 120; // milliseconds without a key before the service is asked

export function combobox(input, list, { search, choose, say, onProblem }) {
  let options = [];
  let active = -1;
  let timer = 0;
  let asked = null;

  function close() {
    clearTimeout(timer);
    asked?.abort();
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function activate(place) {
    if (!options.length) return;
    list.children[active]?.setAttribute("aria-selected", "false");
    active = place;
    const option = list.children[active];
    if (!option) return input.removeAttribute("aria-activedescendant");
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", option.id);
  }

  function take(place) {
    const option = options[place];
    close();
    choose(option);
  }

  function show(found) {
    options = found;
    active = -1;
    list.replaceChildren(
      ...found.map((option, place) =>
        make(
          "li",
          {
            role: "option",
            id: `${list.id}-${place}`,
            "aria-selected": "false",
            on: {
              pointerdown: (event) => event.preventDefault(), // the field keeps the focus
              click: () => take(place),
            },
          },
          make("span", { class: "name" }, option.title ?? option.id),
          option.note ? make("span", { class: "note" }, option.note) : null,
        ),
      ),
    );
    if (!found.length) list.append(make("li", { role: "option", "aria-disabled": "true" }, "Nothing found"));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    say(found.length ? `${found.length} suggestions` : "Nothing found");
  }

  async function suggest() {
    asked?.abort();
    asked = new AbortController();
    const { signal } = asked;
    try {
      const found = await search(input.value.trim(), signal);
      if (!signal.aborted && document.activeElement === input) show(found);
    } catch (error) {
      if (error.name !== "AbortError") onProblem(error);
    }
  }

  function later() {
    clearTimeout(timer);
    timer = setTimeout(suggest, PAUSE);
  }

  async function takeTyped() {
    clearTimeout(timer);
    await suggest();
    if (!list.hidden && options.length) take(0);
  }

  const keys = {
    ArrowDown: () => (list.hidden ? suggest() : activate((active + 1) % options.length)),
    ArrowUp: () => list.hidden || activate((active <= 0 ? options.length : active) - 1),
    Enter: () => (active >= 0 ? take(active) : input.value.trim() && takeTyped()),
    Escape: () => (list.hidden ? (input.value = "") : close()),
  };

  input.addEventListener("keydown", (event) => {
    if (event.isComposing || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  input.addEventListener("input", later);
  input.addEventListener("click", () => list.hidden && suggest());
  input.addEventListener("focus", () => input.select());
  input.addEventListener("blur", close);
}
