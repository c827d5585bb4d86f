// The shell: who may read, which section is shown, in which language. Sections are modules with `show(place)`.

import { get, Refused, takeTokenFromAddress, token } from "./api.js";
import * as costs from "./costs.js";
import * as explain from "./explain.js";
import * as overview from "./overview.js";
import { h, notice, sayError } from "./parts.js";
import * as requests from "./requests.js";
import { chooseLanguage, switchLanguage, t } from "./words.js";

const SECTIONS = { overview, requests, explain, costs };
const app = document.getElementById("app");
let leave = () => {};

function section() {
  const name = location.hash.slice(1);
  return name in SECTIONS ? name : "overview";
}

function draw() {
  leave();
  leave = () => {};
  document.title = `model-gateway · ${t(`nav.${section()}`)}`;
  if (!token.get()) {
    drawLogin("");
    return;
  }
  const place = h("main", { id: "main" });
  app.replaceChildren(header(), place);
  const gone = new AbortController();
  leave = () => gone.abort();
  SECTIONS[section()].show(place, { signal: gone.signal, failed: (error) => failed(place, error) });
}

function failed(place, error) {
  if (error instanceof Refused && error.status === 401) {
    token.clear();
    leave();
    drawLogin(t("login.wrong"));
    return;
  }
  place.querySelector(":scope > .notice.bad")?.remove();
  place.prepend(sayError(error));
}

function header() {
  const links = Object.keys(SECTIONS).map((name) =>
    h("a", { href: `#${name}`, "aria-current": name === section() ? "page" : undefined }, t(`nav.${name}`)),
  );
  const signOut = () => {
    token.clear();
    draw();
  };
  return h(
    "header",
    {},
    h("div", { class: "brand" }, h("img", { src: "/dashboard/icon.svg", alt: "", width: 24, height: 24 }), "model-gateway"),
    h("nav", { "aria-label": t("nav.sections") }, links),
    h("div", { class: "actions" }, languageButton(), h("button", { class: "plain", onclick: signOut }, t("nav.signOut"))),
  );
}

function languageButton() {
  const change = () => {
    switchLanguage();
    draw();
  };
  return h("button", { class: "plain", onclick: change }, t("nav.language"));
}

function drawLogin(problem) {
  const field = h("input", {
    id: "token", type: "password", autocomplete: "off", autocapitalize: "off", spellcheck: "false", required: true,
  });
  const said = h("div", {}, problem && notice(problem, "bad"));
  const enter = async (event) => {
    event.preventDefault();
    if (!field.value.trim()) {
      said.replaceChildren(notice(t("login.empty"), "bad"));
      return;
    }
    token.set(field.value);
    try {
      await get("/");
      draw();
    } catch (error) {
      token.clear();
      said.replaceChildren(error.status === 401 ? notice(t("login.wrong"), "bad") : sayError(error));
      field.select();
    }
  };
  app.replaceChildren(
    h(
      "form",
      { class: "login card", onsubmit: enter, novalidate: true },
      h("div", { class: "brand" }, h("img", { src: "/dashboard/icon.svg", alt: "", width: 28, height: 28 }), "model-gateway"),
      h("label", { for: "token" }, t("login.title")),
      field,
      said,
      h("button", { class: "primary", type: "submit" }, t("login.enter")),
      h("p", { class: "quiet" }, withCode(t("login.hint"))),
      languageButton(),
    ),
  );
  field.focus();
}

function withCode(text) {
  return text.split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));
}

takeTokenFromAddress();
chooseLanguage();
addEventListener("hashchange", () => {
  takeTokenFromAddress();
  draw();
});
draw();
