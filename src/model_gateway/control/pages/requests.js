// The newest rows of the ledger, and for each why it went where it went.

import { get } from "./api.js";
import { factors, scale, targets } from "./explain.js";
import { badge, facts, h, sayError, table, tierBadge } from "./parts.js";
import { reason } from "./said.js";
import { count, dateTime, span, t, told, usd } from "./words.js";

const PAGE = 50;
const opened = new Set();
const decisions = new Map();
let onlyFailed = false;

export async function show(place, { signal, failed }) {
  let rows = [];
  let older = true;
  let asked = 0; // answers may come in another order than they were asked for: the last question's counts
  const list = h("div", {});
  const draw = () => list.replaceChildren(found(rows), h("p", {}, older && h("button", { onclick: () => look(true) }, t("requests.older"))));
  const look = async (more) => {
    const mine = ++asked;
    try {
      const before = more && rows.length ? `&before=${rows.at(-1).seq}` : "";
      const told = await get(`/requests?limit=${PAGE}&status=${onlyFailed ? "failed" : "all"}${before}`);
      if (signal.aborted || mine !== asked) return;
      rows = more ? [...rows, ...told.requests] : told.requests;
      older = told.requests.length === PAGE;
      draw();
    } catch (error) {
      if (!signal.aborted) failed(error);
    }
  };
  const choose = h(
    "select",
    { "aria-label": t("requests.status"), onchange: (event) => { onlyFailed = event.target.value === "failed"; look(false); } },
    h("option", { value: "all", selected: !onlyFailed }, t("requests.all")),
    h("option", { value: "failed", selected: onlyFailed }, t("requests.failed")),
  );
  place.append(h("section", { class: "card" }, h("div", { class: "title-line" }, h("h2", {}, t("requests.title")), h("div", { class: "tools" }, choose, h("button", { onclick: () => look(false) }, t("requests.refresh")))), list));
  await look(false);
}

function found(rows) {
  return table(
    [
      { name: t("requests.time"), show: (row) => dateTime(row.started_at) },
      { name: t("requests.key"), show: (row) => row.key_name || h("span", { class: "quiet" }, t("requests.noKey")) },
      { name: t("requests.model"), show: (row) => h("span", {}, row.asked_model || "–", row.provider && [" → ", h("strong", {}, `${row.provider}/${row.model}`)]) },
      { name: t("requests.tier"), show: (row) => tierBadge(row.tier) },
      { name: t("requests.score"), number: true, show: (row) => (row.score === null ? "–" : row.score.toFixed(2)) },
      { name: t("requests.cost"), number: true, show: (row) => usd(row.cost_usd) },
      { name: t("requests.duration"), number: true, show: (row) => span(row.duration_ms) },
      { name: t("requests.status"), show: (row) => outcome(row) },
    ],
    rows,
    { open: details, key: (row) => row.seq, opened },
  );
}

function outcome(row) {
  const kind = row.status === "ok" ? "good" : row.failure ? "bad" : "warn";
  const cache = { hit: "requests.cached", repeated: "requests.repeated" }[row.cache];
  return h("span", { class: "chips" }, badge(told(`status.${row.status}`, row.status), kind), cache && badge(t(cache)), row.stream && badge(t("requests.stream")));
}

function details(row) {
  const estimated = row.usage_estimated ? ` (${t("requests.estimated")})` : "";
  return h(
    "div",
    { class: "details" },
    facts([
      [t("requests.why"), reason(row.route_reason)],
      [t("requests.score"), row.score === null ? t("requests.neverScored") : row.score.toFixed(3)],
      [t("requests.asked"), row.asked_tier && [tierBadge(row.asked_tier), row.tier && row.tier !== row.asked_tier && [" → ", tierBadge(row.tier)]]],
      [t("requests.error"), row.error && h("span", { class: "bad-text" }, row.error)],
      [t("requests.tokens"), `${count(row.input_tokens)} → ${count(row.output_tokens)}${estimated}`],
      [t("requests.charge"), `${usd(row.cost_usd)} · ${told(`state.${row.state}`, row.state)}`],
      [t("requests.saved"), usd(row.saved_usd)],
      [t("requests.first"), row.first_token_ms === null ? "" : span(row.first_token_ms)],
      [t("requests.team"), row.tenant],
      [t("requests.door"), row.door],
      [t("requests.id"), h("code", {}, row.request_id)],
    ]),
    row.tries.length > 0 && [h("h3", {}, t("requests.tries")), h("ol", {}, row.tries.map((each) => h("li", {}, `${each.provider}/${each.model}: `, badge(told(`status.${each.outcome}`, each.outcome), each.outcome === "ok" ? "good" : "bad"), ` ${span(each.duration_ms)} · ${usd(each.cost_usd)}`)))],
    decided(row),
  );
}

// Comes a moment later: the process that has routed the request is asked.
function decided(row) {
  const place = h("div", { class: "decided", "aria-live": "polite" }, h("p", { class: "quiet" }, t("requests.wait")));
  const known = decisions.get(row.seq);
  if (known) place.replaceChildren(...why(known));
  else
    get(`/requests/${row.seq}/decision`).then(
      (told) => {
        if (told.decision) decisions.set(row.seq, told);
        place.replaceChildren(...why(told));
      },
      (error) => place.replaceChildren(sayError(error)),
    );
  return place;
}

function why({ decision, unknown }) {
  if (!decision) return [h("p", { class: "quiet" }, t(`requests.unknown.${unknown}`))];
  return [
    scale(decision),
    h(
      "div",
      { class: "columns" },
      h("div", {}, h("h3", {}, t("requests.factors")), factors(decision), h("p", { class: "quiet" }, t("requests.numbers"))),
      h("div", {}, h("h3", {}, t("requests.targets")), targets(decision)),
    ),
  ];
}
