// What was spent and saved, by what one likes; the same report as `model-gateway costs`.

import { get, getText } from "./api.js";
import { bar, h, table } from "./parts.js";
import { count, t, told, usd } from "./words.js";

const GROUPS = ["day", "key", "team", "model", "provider", "tier"];
const SPANS = ["7", "30", "90", "month"];
const kept = { by: "day", span: "30" };

function since() {
  const day = new Date();
  if (kept.span === "month") day.setUTCDate(1);
  else day.setUTCDate(day.getUTCDate() - Number(kept.span) + 1);
  return day.toISOString().slice(0, 10);
}

const path = (form) => `/costs?by=${kept.by}&since=${since()}&format=${form}`;

export async function show(place, { signal, failed }) {
  const list = h("div", {});
  const guarded = async (work) => {
    try {
      await work();
      place.querySelector(":scope > .notice.bad")?.remove();
    } catch (error) {
      if (!signal.aborted) failed(error);
    }
  };
  let asked = 0; // answers may come in another order than they were asked for: the last question's counts
  const look = () =>
    guarded(async () => {
      const mine = ++asked;
      const found = await get(path("json"));
      if (!signal.aborted && mine === asked) list.replaceChildren(report(found.costs));
    });
  const choose = (name, values, word) =>
    h("label", {}, h("span", { class: "quiet" }, t(`costs.${name}`)), " ", h("select", { onchange: (event) => { kept[name] = event.target.value; look(); } }, values.map((value) => h("option", { value, selected: kept[name] === value }, word(value)))));
  const download = () =>
    guarded(async () => {
      const file = URL.createObjectURL(new Blob([await getText(path("csv"))], { type: "text/csv" }));
      h("a", { href: file, download: `costs-by-${kept.by}-since-${since()}.csv` }).click();
      setTimeout(() => URL.revokeObjectURL(file), 10_000);
    });
  place.append(
    h(
      "section",
      { class: "card" },
      h("div", { class: "title-line" }, h("h2", {}, t("costs.title"), " ", h("small", {}, t("utc"))), h("div", { class: "tools" }, choose("by", GROUPS, (value) => t(`costs.${value}`)), choose("span", SPANS, (value) => (value === "month" ? t("costs.month") : t("costs.days", { n: value }))), h("button", { onclick: download }, t("costs.download")))),
      list,
    ),
  );
  await look();
}

function report(rows) {
  const sorted = kept.by === "day" ? [...rows].reverse() : rows;
  const most = Math.max(0, ...rows.map((row) => Number(row.cost_usd)));
  const name = (row) => (row.total ? h("strong", {}, t("costs.total")) : kept.by === "tier" ? told(`tier.${row.tier}`, t("costs.unnamed")) : row[kept.by] || t("costs.unnamed"));
  const money = (key) => (row) => (row.total ? h("strong", {}, usd(row[key])) : usd(row[key]));
  return table(
    [
      { name: t(`costs.${kept.by}`), show: name },
      { name: t("costs.cost"), number: true, show: (row) => h("span", { class: "cost-cell" }, money("cost_usd")(row), !row.total && most > 0 && bar([[row.cost_usd / most, "spent"]], usd(row.cost_usd))) },
      { name: t("costs.strongest"), number: true, show: money("strongest_model_usd") },
      { name: t("costs.routing"), number: true, show: money("saved_by_routing_usd") },
      { name: t("costs.cache"), number: true, show: money("saved_by_cache_usd") },
      { name: t("costs.requests"), number: true, show: (row) => count(row.requests) },
      { name: t("costs.tokens"), number: true, show: (row) => count(row.input_tokens + row.output_tokens) },
    ],
    sorted.length > 1 ? [...sorted, total(sorted)] : sorted,
  );
}

function total(rows) {
  const sum = { total: true };
  for (const key of ["cost_usd", "strongest_model_usd", "saved_by_routing_usd", "saved_by_cache_usd", "requests", "input_tokens", "output_tokens"]) {
    sum[key] = rows.reduce((all, row) => all + Number(row[key]), 0);
  }
  return sum;
}
