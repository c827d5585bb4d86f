// Pieces of the page. Whatever comes from outside becomes a text node or an attribute's value, never markup.

import { t } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(3)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", {}, title), content);
}

export function tile(name, value, ...notes) {
  return h(
    "div",
    { class: "tile" },
    h("div", { class: "tile-name" }, name),
    h("div", { class: "tile-value" }, value),
    notes.filter(Boolean).map((note) => h("div", { class: "tile-note" }, note)),
  );
}

export function badge(text, kind = "") {
  return h("span", { class: kind ? `badge ${kind}` : "badge" }, text);
}

export const TIER_KINDS = { local: "tier-local", hybrid: "tier-hybrid", remote: "tier-remote" };

export function tierBadge(tier) {
  return tier ? badge(t(`tier.${tier}`), TIER_KINDS[tier]) : "–";
}

// `parts`: [share 0–1, class, title]; the rest of the bar stays empty.
export function bar(parts, label) {
  return h(
    "div",
    { class: "bar", role: "img", "aria-label": label },
    parts.map(([share, kind, title]) => {
      const width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
      return h("span", { class: `bar-part ${kind}`, "--width": width, title });
    }),
  );
}

// `columns`: {name, show(row), number?}. On a phone each row is a block, and cells say their column's name.
// `open(row)`: what a click shows below the row; `key(row)`: tells rows apart, so that open ones stay open.
export function table(columns, rows, { open, key, opened, empty } = {}) {
  if (!rows.length) return h("p", { class: "quiet" }, empty ?? t("nothing"));
  const body = h("tbody");
  for (const row of rows) body.append(...lines(columns, row, open, key, opened));
  const heads = columns.map((column) => h("th", { scope: "col", class: column.number && "number" }, column.name));
  return h("div", { class: "table" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), body));
}

function lines(columns, row, open, key, opened) {
  const cells = columns.map((column) =>
    h("td", { class: column.number && "number", "data-name": column.name }, column.show(row)),
  );
  if (!open) return [h("tr", {}, cells)];
  const more = h("tr", { class: "more", hidden: !opened.has(key(row)) }, h("td", { colspan: columns.length }));
  const fill = () => more.firstChild.replaceChildren(open(row));
  if (!more.hidden) fill();
  const button = h("button", { class: "opener", "aria-expanded": String(!more.hidden), "aria-label": t("details") });
  const toggle = () => {
    more.hidden = !more.hidden;
    button.setAttribute("aria-expanded", String(!more.hidden));
    if (more.hidden) opened.delete(key(row));
    else {
      opened.add(key(row));
      fill();
    }
  };
  cells[0].prepend(button);
  return [h("tr", { class: "openable", onclick: toggle }, cells), more];
}

export function facts(pairs) {
  const told = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return h("dl", { class: "facts" }, told.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

export function notice(text, kind = "") {
  return h("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, text);
}

export function sayError(error) {
  if (!error.status) return notice(error.constructor.name === "Refused" ? t("error.unreachable") : String(error), "bad");
  if (error.status === 404) return notice(t("error.noLedger"), "bad");
  const field = error.field ? `${error.field}: ` : "";
  return notice(`${t("error.refused")} (${error.status}): ${field}${error.message}`, "bad");
}
