// A query tried out: its score with the parts that it is made of, its tier, who would answer, for how much.

import { post } from "./api.js";
import { badge, card, facts, h, notice, tierBadge } from "./parts.js";
import { detail, reason } from "./said.js";
import { count, t, told, usd } from "./words.js";

const kept = { prompt: "", model: "auto", max_tokens: "", budget_usd: "" };
let last = null;

export function show(place, { signal, failed }) {
  const result = h("div", { class: "stack", "aria-live": "polite" });
  const go = async (event) => {
    event?.preventDefault();
    const body = { prompt: kept.prompt, model: kept.model.trim() || "auto" };
    if (kept.max_tokens) body.max_tokens = Number(kept.max_tokens);
    if (kept.budget_usd) body.budget_usd = Number(kept.budget_usd);
    button.disabled = true;
    try {
      last = await post("/explain", body);
      if (signal.aborted) return;
      place.querySelector(":scope > .notice.bad")?.remove();
      result.replaceChildren(...found(last));
    } catch (error) {
      if (!signal.aborted) failed(error);
    } finally {
      button.disabled = false;
    }
  };
  const button = h("button", { class: "primary", type: "submit" }, t("explain.go"));
  const prompt = field("textarea", "prompt", { rows: 5, required: true, maxlength: 60_000 });
  prompt.addEventListener("keydown", (event) => (event.ctrlKey || event.metaKey) && event.key === "Enter" && go(event));
  const example = (key) => {
    const use = () => {
      kept.prompt = prompt.value = t(key);
      go();
    };
    return h("button", { type: "button", class: "chip", onclick: use }, t(key));
  };
  place.append(
    h(
      "form",
      { class: "card", onsubmit: go, novalidate: true },
      h("h2", {}, t("explain.title")),
      h("p", { class: "quiet" }, t("explain.note")),
      labelled("explain.prompt", prompt),
      h("div", { class: "chips examples" }, h("span", { class: "quiet" }, t("explain.examples")), ["explain.example1", "explain.example2", "explain.example3"].map(example)),
      h("div", { class: "fields" }, labelled("explain.model", field("input", "model", { autocapitalize: "off", spellcheck: "false" })), labelled("explain.maxTokens", field("input", "max_tokens", { type: "number", min: 1, inputmode: "numeric" })), labelled("explain.budget", field("input", "budget_usd", { type: "number", min: 0, step: "any", inputmode: "decimal" })), button),
    ),
    result,
  );
  if (last) result.replaceChildren(...found(last));
}

function field(tag, name, attributes) {
  return h(tag, { id: `ask-${name}`, value: kept[name], oninput: (event) => (kept[name] = event.target.value), ...attributes });
}

function labelled(key, input) {
  return h("div", { class: "field" }, h("label", { for: input.id }, t(key)), input);
}

function found(told_) {
  return [
    decision(told_),
    h(
      "div",
      { class: "columns" },
      card(t("explain.factors"), factors(told_), h("p", { class: "quiet" }, t("explain.factorsNote"))),
      card(t("explain.targets"), targets(told_)),
    ),
  ];
}

function decision(told_) {
  const other = told_.asked_tier !== told_.tier;
  return h(
    "section",
    { class: "card" },
    h(
      "div",
      { class: "decision" },
      h("div", { class: "tile" }, h("div", { class: "tile-name" }, t("explain.score")), h("div", { class: "tile-value" }, told_.score.toFixed(3)), h("div", { class: "tile-note" }, t("explain.scoreNote"))),
      h("div", { class: "tile" }, h("div", { class: "tile-name" }, t("explain.tier")), h("div", { class: "tile-value" }, told_.refused ? "–" : tierBadge(told_.tier)), other && h("div", { class: "tile-note" }, t("explain.asksFor", { tier: t(`tier.${told_.asked_tier}`) }))),
      h("div", { class: "tile" }, h("div", { class: "tile-name" }, t("explain.price")), h("div", { class: "tile-value" }, told_.targets.length ? usd(told_.targets[0].estimate_usd) : "–"), h("div", { class: "tile-note" }, t("explain.priceNote", { input: count(told_.input_tokens), output: count(told_.max_tokens) }))),
    ),
    scale(told_),
    told_.refused && notice(t("explain.refused", { why: told_.refused }), "bad"),
    facts([
      [t("explain.reason"), reason(told_.reason)],
      [t("explain.abstained"), detail("abstained", told_.abstained)],
      [t("explain.gain"), told_.gain ? told_.gain.toFixed(3) : ""],
      [t("explain.cascade"), told_.cascade && t("explain.cascadeNote", { name: told_.cascade })],
    ]),
  );
}

export function scale({ score, low, high }) {
  const place = (value) => `${Math.max(0, Math.min(1, value)) * 100}%`;
  const zone = (kind, from, to) => h("span", { class: `zone ${kind}`, "--from": place(from), "--width": place(to - from) });
  const mark = (value) => h("span", { class: "scale-mark", "--from": place(value) }, value.toFixed(2).replace(/0$/, ""));
  return h(
    "div",
    { class: "scale", role: "img", "aria-label": `${t("explain.score")} ${score.toFixed(3)}` },
    zone("tier-local", 0, low), zone("tier-hybrid", low, high), zone("tier-remote", high, 1),
    h("span", { class: "needle", "--from": place(score) }), mark(low), mark(high),
  );
}

export function factors({ factors: parts }) {
  const most = Math.max(0.05, ...parts.map((part) => Math.abs(part.contribution)));
  const line = (part) => {
    const share = `${(Math.abs(part.contribution) / most) * 50}%`;
    const sign = part.contribution < 0 ? "−" : "+";
    return h(
      "li",
      {},
      h("div", { class: "share-line" }, h("span", { title: part.name }, told(`factor.${part.name}`, part.name)), h("strong", {}, `${sign}${Math.abs(part.contribution).toFixed(3)}`)),
      h("div", { class: "signed", "aria-hidden": "true" }, h("span", { class: part.contribution < 0 ? "minus" : "plus", "--width": share })),
      h("div", { class: "quiet" }, detail(part.name, part.detail)),
    );
  };
  const sorted = [...parts].sort((one, other) => Math.abs(other.contribution) - Math.abs(one.contribution));
  return h("ul", { class: "factors" }, sorted.map(line));
}

export function targets({ targets: order }) {
  const line = (each) => h("li", {}, h("span", { class: "share-line" }, h("span", {}, `${each.provider}/${each.model}`), badge(usd(each.estimate_usd))));
  return order.length ? h("ol", { class: "targets" }, order.map(line)) : h("p", { class: "quiet" }, t("none"));
}
