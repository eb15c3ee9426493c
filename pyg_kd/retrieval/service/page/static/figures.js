// Sizes and times of both models in a small table.

import { $, make } from "./dom.js";
import { bytes, count, duration, fixed, times } from "./numbers.js";

const metric = (name) => ({
  name,
  of: ({ metrics }) => (name in metrics ? fixed(metrics[name], 4) : "–"),
  ratio: () => "",
});

function columns(about) {
  const names = Object.keys(about.student.metrics);
  const preferred = names.find((name) => /^recall@20$/i.test(name)) ?? names[0];
  return [
    { name: "Tables", of: (model) => bytes(model.bytes), value: (model) => model.bytes },
    { name: "Width", of: ({ dim, dtype }) => [count(dim), " ", make("small", {}, dtype)] },
    { name: "One list", of: (_, list) => (list?.milliseconds ? duration(list.milliseconds) : "–"), value: (_, list) => list?.milliseconds },
    ...(preferred ? [metric(preferred)] : []),
  ];
}

function cells(heading, values, who, model) {
  const small = model ? [" ", make("small", {}, model)] : [];
  const head = make("th", { scope: "row", class: who }, heading, ...small);
  return make("tr", {}, head, ...values.map((value) => make("td", {}, ...[value].flat())));
}

/** One row a model, and how much larger and slower the teacher is. */
export function showFigures(about, answer) {
  const shown = columns(about);
  const row = (who, name) => cells(name, shown.map(({ of }) => of(about[who], answer?.[who])), who, about[who].model);
  const ratio = ({ value }) => {
    const [large, small] = ["teacher", "student"].map((who) => value?.(about[who], answer?.[who]));
    return large && small ? times(large / small) : "";
  };
  const names = shown.map(({ name }) => make("th", { scope: "col" }, name));
  $("#figure-names").replaceChildren(make("td"), ...names);
  $("#figures").replaceChildren(
    ...(about.teacher ? [row("teacher", "Teacher")] : []),
    row("student", "Student"),
    ...(about.teacher ? [cells("Teacher ÷ student", shown.map(ratio), "ratio")] : []),
  );
}
