// Numbers as people read them, in the language of the browser.

const plain = new Intl.NumberFormat();
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
const places = (digits) =>
  new Intl.NumberFormat(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const rough = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 2 });
const significant = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });

export const count = (value) => plain.format(value);
export const share = (value) => percent.format(value);
export const fixed = (value, digits) => places(digits).format(value);

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${significant.format(value)} ${units[unit]}`;
}

export function duration(milliseconds) {
  return milliseconds < 0.1
    ? `${significant.format(1000 * milliseconds)} µs`
    : `${significant.format(milliseconds)} ms`;
}

export const times = (ratio) => `${rough.format(ratio)}×`;

export const plural = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;
