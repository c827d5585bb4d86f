// How it goes today and this month: money first, then traffic, tiers, providers, budgets, what is wrong.

import { get } from "./api.js";
import { badge, bar, card, h, svg, table, tile, TIER_KINDS } from "./parts.js";
import { count, percent, span, t, time, told, uptime, usd } from "./words.js";

const EVERY_MS = 5_000;

export async function show(place, { signal, failed }) {
  const look = async () => {
    try {
      const [now, budgets] = await Promise.all([get("/overview"), get("/budgets")]);
      if (!signal.aborted) place.replaceChildren(...page(now, budgets.budgets));
    } catch (error) {
      if (!signal.aborted) failed(error);
    }
  };
  await look();
  const timer = setInterval(() => document.hidden || look(), EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  if (signal.aborted) clearInterval(timer);
}

function page(now, budgets) {
  return [
    problems(now),
    saved(now.month),
    tiles(now),
    h("div", { class: "columns" }, hours(now), tiers(now.tiers)),
    h("div", { class: "columns" }, providers(now.providers), budgetBars(budgets)),
    foot(now),
  ].filter(Boolean);
}

function problems(now) {
  const alerts = now.alerts.map((name) => h("li", {}, h("strong", {}, t("overview.alerts")), " ", told(`alert.${name}`, name)));
  const wrong = Object.entries(now.problems).map(([name, detail]) => h("li", {}, h("strong", {}, name), " ", detail));
  if (!alerts.length && !wrong.length) return null;
  return h("div", { class: "notice bad", role: "alert" }, h("strong", {}, t("overview.problems")), h("ul", {}, alerts, wrong));
}

function saved(month) {
  const cost = Number(month.cost_usd);
  const routing = Number(month.saved_by_routing_usd);
  const cache = Number(month.saved_by_cache_usd);
  const whole = Number(month.strongest_model_usd);
  const all = routing + cache;
  const parts = [[cost, "spent", "overview.spent"], [Math.max(0, routing), "routing", "overview.byRouting"], [Math.max(0, cache), "cache", "overview.byCache"]];
  const sum = parts.reduce((total, [part]) => total + part, 0);
  if (!sum) return h("section", { class: "card hero" }, h("h2", {}, t("overview.savedTitle")), h("p", { class: "quiet" }, t("overview.noneYet")));
  const label = parts.map(([part, , name]) => `${t(name)} ${usd(part)}`).join(", ");
  return h(
    "section",
    { class: "card hero" },
    h("h2", {}, t("overview.savedTitle")),
    h("p", { class: "hero-value" }, usd(all), " ", all > 0 && whole > 0 && badge(t("overview.share", { share: percent(all / whole) }), "good")),
    bar(parts.map(([part, kind, name]) => [part / sum, kind, `${t(name)}: ${usd(part)}`]), label),
    h("ul", { class: "legend" }, [[cost, "spent", "overview.spent"], [routing, "routing", "overview.byRouting"], [cache, "cache", "overview.byCache"]].map(([part, kind, name]) => h("li", { class: kind }, t(name), " ", h("strong", {}, usd(part))))),
    h("p", { class: "quiet" }, all >= 0 ? t("overview.strongest", { usd: usd(whole) }) : t("overview.dearer", { usd: usd(-all) })),
  );
}

function tiles({ today, pace, failures }) {
  const refused = today.requests - today.answered - failures;
  const cached = today.cache_hits ? t("overview.cacheHits", { n: count(today.cache_hits) }) : "";
  return h(
    "section",
    { "aria-label": t("overview.today") },
    h("h2", { class: "above" }, t("overview.today"), " ", h("small", {}, t("utc"))),
    h(
      "div",
      { class: "tiles" },
      tile(t("overview.requests"), count(today.requests), failures > 0 && h("span", { class: "bad-text" }, t("overview.failed", { n: count(failures) })), refused > 0 && t("overview.refused", { n: count(refused) }), today.requests > 0 && failures + refused === 0 && t("overview.allAnswered"), cached),
      tile(t("overview.cost"), usd(today.cost_usd)),
      tile(t("overview.saved"), usd(today.saved_usd), t("overview.savedNote", { routing: usd(today.saved_by_routing_usd), cache: usd(today.saved_by_cache_usd) })),
      tile(t("overview.tokens"), count(today.input_tokens + today.output_tokens), t("overview.tokensNote", { input: count(today.input_tokens), output: count(today.output_tokens) })),
      tile(t("overview.latency"), span(pace.p50), pace.requests ? t("overview.latencyNote", { p95: span(pace.p95), p99: span(pace.p99) }) : "", pace.first_token_p50 ? t("overview.firstToken", { p50: span(pace.first_token_p50) }) : "", pace.requests ? t("overview.median", { n: count(pace.requests) }) : ""),
    ),
  );
}

function hours(now) {
  const HEIGHT = 120;
  const WIDTH = 480;
  const known = new Map(now.hours.map((hour) => [hour.begin, hour]));
  const last = Math.floor(now.at / 3600) * 3600;
  const begins = Array.from({ length: 24 }, (_, place) => last - (23 - place) * 3600);
  const most = Math.max(1, ...now.hours.map((hour) => hour.requests));
  const step = WIDTH / 24;
  const bars = begins.flatMap((begin, place) => {
    const hour = known.get(begin) ?? { requests: 0, answered: 0, refused: 0 };
    const failed = hour.requests - hour.answered - hour.refused;
    const [good, warn, bad] = [hour.answered, hour.refused, failed].map((part) => (part / most) * HEIGHT);
    const when = time(begin, { hour: "2-digit", minute: "2-digit" });
    const title = svg("title", {}, t("overview.hourBar", { time: when, n: count(hour.requests), failed: count(failed), refused: count(hour.refused) }));
    const column = (kind, height, bottom) => svg("rect", { class: kind, x: place * step + 2, width: step - 4, y: HEIGHT - bottom - height, height, rx: 2 });
    return svg("g", {}, title, svg("rect", { class: "hit", x: place * step, width: step, y: 0, height: HEIGHT }), column("good-fill", good, bad + warn), column("warn-fill", warn, bad), column("bad-fill", bad, 0));
  });
  const marks = [0, 6, 12, 18, 23].map((place) => h("span", { "--place": `${((place + 0.5) / 24) * 100}%` }, time(begins[place], { hour: "2-digit", minute: "2-digit" })));
  const statuses = Object.entries(now.statuses).sort((one, other) => other[1] - one[1]);
  return card(
    t("overview.hours"),
    h("div", { class: "chart" }, h("span", { class: "chart-most" }, count(most)), svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": t("overview.hours") }, bars), h("div", { class: "chart-marks", "aria-hidden": "true" }, marks)),
    h("ul", { class: "legend" }, h("li", { class: "answered" }, t("overview.answeredOnes")), h("li", { class: "refused" }, t("overview.refusedOnes")), h("li", { class: "failed" }, t("overview.failedOnes"))),
    statuses.length > 0 && h("p", { class: "chips" }, h("span", { class: "quiet" }, t("overview.outcomes")), statuses.map(([name, n]) => badge(`${told(`status.${name}`, name)} ${count(n)}`, name === "ok" && "good"))),
  );
}

function tiers(rows) {
  const all = rows.reduce((total, row) => total + row.requests, 0);
  const order = ["local", "hybrid", "remote", ""];
  const sorted = [...rows].sort((one, other) => order.indexOf(one.tier) - order.indexOf(other.tier));
  return card(
    t("overview.tiers"),
    sorted.length ? "" : h("p", { class: "quiet" }, t("nothing")),
    sorted.map((row) =>
      h(
        "div",
        { class: "share" },
        h("div", { class: "share-line" }, h("span", {}, row.tier ? t(`tier.${row.tier}`) : t("overview.noTier")), h("strong", {}, percent(row.requests / all))),
        bar([[row.requests / all, TIER_KINDS[row.tier] ?? "rest"]], percent(row.requests / all)),
        h("div", { class: "quiet" }, t("overview.tierNote", { n: count(row.requests), usd: usd(row.cost_usd) }), row.tier ? "" : ` · ${t("overview.noTierNote")}`),
      ),
    ),
  );
}

function providers(known) {
  const rows = Object.entries(known).map(([name, state]) => ({ name, ...state }));
  const kind = { online: "good", offline: "", draining: "warn" };
  return card(
    t("overview.providers"),
    table(
      [
        { name: t("provider.name"), show: (row) => row.name },
        { name: t("provider.status"), show: (row) => [badge(told(`status.${row.status}`, row.status), kind[row.status]), row.reason && h("div", { class: "quiet" }, row.reason)] },
        { name: t("provider.resting"), show: (row) => (row.resting.length ? badge(t("provider.open", { models: row.resting.join(", ") }), "bad") : row.status === "online" ? t("provider.closed") : "–") },
        { name: t("provider.calls"), number: true, show: (row) => count(row.in_flight) },
      ],
      rows,
    ),
  );
}

function budgetBars(budgets) {
  const line = (each) => {
    const limit = Number(each.limit_usd);
    const spent = Number(each.spent_usd) / limit;
    const held = Number(each.held_usd) / limit;
    const kind = spent >= 1 ? "over" : spent >= 0.8 ? "near" : "routing";
    return h(
      "div",
      { class: "share" },
      h("div", { class: "share-line" }, h("span", {}, each.budget, " ", h("span", { class: "quiet" }, `${each.account} · ${each.period}`)), h("strong", {}, t("budget.of", { spent: usd(each.spent_usd), limit: usd(each.limit_usd) }))),
      bar([[spent, kind], [Math.min(held, 1 - Math.min(1, spent)), "held"]], percent(spent)),
      h("div", { class: "quiet" }, t("budget.left", { usd: usd(each.left_usd) }), Number(each.held_usd) > 0 && ` · ${t("budget.held", { usd: usd(each.held_usd) })}`),
    );
  };
  const nearest = [...budgets].sort((one, other) => other.spent_usd / other.limit_usd - one.spent_usd / one.limit_usd);
  return card(t("overview.budgets"), nearest.length ? nearest.slice(0, 50).map(line) : h("p", { class: "quiet" }, t("budget.none")));
}

function foot(now) {
  const workers = now.workers === 1 ? t("overview.workers.1") : t("overview.workers", { n: now.workers });
  const kind = { healthy: "good", degraded: "warn", unhealthy: "bad" }[now.status];
  return h("footer", { class: "quiet" }, badge(told(`status.${now.status}`, now.status), kind), " ", t("overview.updated", { time: time(now.at), version: now.version, uptime: uptime(now.uptime_s), workers }));
}
