// The admin API of this control plane, asked with the token that the reader has given. The token stays in this tab's
// sessionStorage: no other page of the browser sends it along, and it is gone when the tab is closed.

const KEPT = "model-gateway.token";
const API = "/admin/v1";
const PATIENCE_MS = 70_000;

export class Refused extends Error {
  // `status`: of the reply; 0 where none came. `field`: of the request, where it is to blame.
  constructor(status, message, field) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEPT) ?? "",
  set: (value) => sessionStorage.setItem(KEPT, value.trim()),
  clear: () => sessionStorage.removeItem(KEPT),
};

// `/dashboard#token=…`: as `model-gateway dashboard` prints it. What follows # is not sent to anybody.
export function takeTokenFromAddress() {
  const found = /^#token=([^&]+)/.exec(location.hash);
  if (found) {
    token.set(decodeURIComponent(found[1]));
    history.replaceState(null, "", location.pathname);
  }
}

export const get = (path) => asked(path, {}).then((reply) => reply.json());
export const getText = (path) => asked(path, {}).then((reply) => reply.text());
export const post = (path, body) =>
  asked(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }).then(
    (reply) => reply.json(),
  );

async function asked(path, options) {
  let reply;
  try {
    reply = await fetch(API + path, {
      ...options,
      headers: { ...options.headers, Authorization: `Bearer ${token.get()}` },
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch {
    throw new Refused(0, "");
  }
  if (reply.ok) return reply;
  const told = await reply.json().catch(() => ({}));
  throw new Refused(reply.status, told.error?.message ?? reply.statusText, told.error?.field);
}
