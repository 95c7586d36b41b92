// The page: whose list, the list, why, and what the list would be without a reason. All text comes into the page as
// text, never as markup; every answer is dropped that a newer question has made old.

import { drawGraph } from "./graph.js";

const $ = (id) => document.getElementById(id);
const REASONS = 5;
const BEYOND = 100; // places that are known beyond the list, so that an item can be said to come from place 37
const score = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const amount = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat("en");

let health = null;
let key = null; // in memory only
let beyond = BEYOND;
const state = { mode: "user", user: null, session: [], list: [], base: [], k: 10, left: null, listed: null, shown: null };
// `left` is what is left out, `listed` what the list on the screen has been made without.
let explanations = new Map(); // of this user, this generation of the model
let generation = null;
let drawing = null;

// ------------------------------------------------------------------ small things

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [property, value] of Object.entries(properties)) {
    if (property in element) element[property] = value;
    else element.setAttribute(property, value);
  }
  element.append(...children);
  return element;
}

/** Ids are as they came, text or number; a whole number too large for a float is kept as it was written. */
const read = (text) => JSON.parse(text, (_, value, context) =>
  typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "") && JSON.rawJSON
    ? JSON.rawJSON(context.source) : value);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const idText = (id) => (typeof id === "object" && id !== null ? id.rawJSON : String(id));
const label = (thing) => (thing.name == null || thing.name === "" ? idText(thing.id) : String(thing.name));
const userLabel = () => (state.user.name == null ? `user ${idText(state.user.id)}` : label(state.user));
const say = (text) => { $("said").textContent = text; };
const minus = (text) => text.replace("-", "−");
const plural = (n, one) => `${whole.format(n)} ${one}${n === 1 ? "" : "s"}`;

// ------------------------------------------------------------------ asking the service

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const channels = new Map();

/** A question on a channel: the one before it is given up, and only the newest may answer. */
function newest(channel) {
  channels.get(channel)?.abort();
  const control = new AbortController();
  channels.set(channel, control);
  return control.signal;
}

function stop(channel) {
  channels.get(channel)?.abort();
  channels.delete(channel);
}

async function ask(path, body, signal) {
  for (;;) {
    const used = key;
    const headers = used === null ? {} : { "X-API-Key": used };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    let text;
    try {
      answer = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store", credentials: "same-origin" });
      text = await answer.text();
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refused(0, "The service does not answer. Is it still running?");
    }
    signal?.throwIfAborted();
    let told = null;
    try {
      told = read(text);
    } catch { /* said below */ }
    if (answer.ok && told !== null) return told;
    const sentence = typeof told?.detail === "string" && told.detail ? told.detail : `The service answered with status ${answer.status} and no reason.`;
    if (answer.status === 401 && (await askKey(used, sentence))) continue;
    signal?.throwIfAborted();
    throw new Refused(answer.status, sentence);
  }
}

let asking = null;

/** Asks for the key; true once there is another than the one that was refused. */
function askKey(used, sentence) {
  if (key !== used) return Promise.resolve(true);
  asking ??= new Promise((resolve) => {
    const dialog = $("key");
    $("key-wrong").hidden = used === null;
    $("key-wrong").textContent = sentence;
    $("key-value").value = "";
    const done = (given) => {
      asking = null;
      resolve(given);
    };
    dialog.onclose = () => {
      const value = dialog.returnValue === "use" ? $("key-value").value.trim() : "";
      $("key-value").value = "";
      if (!/^[\x20-\x7e]+$/.test(value)) return done(false);
      key = value;
      return done(true);
    };
    dialog.returnValue = "";
    dialog.showModal();
  });
  return asking;
}

$("key").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("key").close("use");
});
$("key-cancel").addEventListener("click", () => $("key").close(""));

/** Shows what went wrong, with a way to try again. */
function fail(error, again) {
  if (error.name === "AbortError") return;
  const sentence = error instanceof Refused ? capital(error.message) : `The page has met an error: ${error.message}`;
  const close = make("button", { type: "button", className: "plain", onclick: () => hideError() }, "Close");
  const retry = make("button", { type: "button", className: "plain", onclick: () => { hideError(); again(); } }, "Try again");
  $("error").replaceChildren(make("span", {}, sentence), ...(again ? [retry] : []), close);
  $("error").hidden = false;
}

function hideError() {
  $("error").hidden = true;
}

/** Dims an element while something is under way that takes a moment. */
async function waiting(element, work) {
  element.setAttribute("aria-busy", "true");
  const timer = setTimeout(() => element.classList.add("busy"), 150);
  const ticket = {};
  element.ticket = ticket;
  try {
    return await work;
  } finally {
    clearTimeout(timer);
    if (element.ticket === ticket) {
      element.classList.remove("busy");
      element.removeAttribute("aria-busy");
    }
  }
}

// ------------------------------------------------------------------ search as you type

/** A field with suggestions, after the ARIA pattern of a combobox with a list. */
function search(place, { path, what, hint, picked }) {
  const list = make("ul", { role: "listbox", id: `${place.id}-options` });
  list.setAttribute("aria-label", what);
  const note = make("p", { className: "note" }); // not in the list: it is nothing to choose
  const sheet = make("div", { className: "options", hidden: true }, list, note);
  const input = make("input", { type: "text", role: "combobox", id: `${place.id}-input`, placeholder: hint, autocomplete: "off", spellcheck: false, maxLength: 200 });
  for (const [name, value] of Object.entries({ "aria-label": hint, "aria-controls": list.id, "aria-expanded": "false", "aria-autocomplete": "list", autocapitalize: "off", enterkeyhint: "search" })) input.setAttribute(name, value);
  place.append(input, sheet);
  let options = [];
  let active = -1;
  let timer = 0;
  let composing = false;

  function close() {
    clearTimeout(timer);
    stop(path);
    sheet.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(place_) {
    active = place_;
    options.forEach(({ row }, i) => row.setAttribute("aria-selected", String(i === active)));
    if (active < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", options[active].row.id);
    return options[active].row.scrollIntoView({ block: "nearest" });
  }

  function pick(thing) {
    close();
    input.value = "";
    picked(thing, input);
  }

  async function look() {
    const query = input.value.trim();
    const signal = newest(path);
    try {
      const answer = await ask(`${path}?${new URLSearchParams({ ...(query && { query }), limit: 20 })}`, undefined, signal);
      const found = answer[path];
      options = found.map((thing, i) => {
        const name = make("span", { className: "name", dir: "auto" }, label(thing));
        const id = thing.name == null ? [] : [make("span", { className: "id" }, idText(thing.id))];
        const row = make("li", { role: "option", id: `${list.id}-${i}`, onclick: () => pick(thing) }, name, ...id);
        row.setAttribute("aria-selected", "false");
        row.onmousemove = () => active !== i && mark(i);
        return { thing, row };
      });
      const more = answer.total - found.length;
      note.textContent = !found.length ? `No ${what} with “${query}” in id or name` : more > 0 ? `and ${whole.format(more)} more: type to narrow down` : "";
      note.hidden = !note.textContent;
      list.replaceChildren(...options.map(({ row }) => row));
      list.hidden = !found.length;
      sheet.hidden = false;
      list.scrollTop = 0;
      active = -1;
      input.removeAttribute("aria-activedescendant");
      input.setAttribute("aria-expanded", String(found.length > 0));
      say(found.length ? `${plural(answer.total, "match").replace("matchs", "matches")}` : note.textContent);
    } catch (error) {
      fail(error, look);
    }
  }

  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(look, 120);
  };
  input.addEventListener("compositionstart", () => { composing = true; });
  input.addEventListener("compositionend", () => { composing = false; soon(); });
  input.addEventListener("input", () => composing || soon());
  input.addEventListener("click", () => sheet.hidden && look());
  sheet.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
  input.addEventListener("blur", close);
  input.addEventListener("keydown", async (event) => {
    if (composing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (sheet.hidden) await look();
      if (options.length) mark((active + step + options.length + (active < 0 && step < 0 ? 1 : 0)) % options.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (timer && !sheet.hidden && active < 0 && options.length) pick(options[0].thing);
      else if (active >= 0) pick(options[active].thing);
      else {
        clearTimeout(timer);
        await look();
        if (input.value.trim() && options.length === 1) pick(options[0].thing);
      }
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      if (sheet.hidden) input.value = "";
      close();
    }
  });
  return input;
}

// ------------------------------------------------------------------ whose list

search($("user-search"), { path: "users", what: "users", hint: "Search users", picked: chooseUser });
search($("item-search"), {
  path: "items",
  what: "items",
  hint: "Search items to add",
  picked(item) {
    state.session.push(item);
    say(`${label(item)} added to the session`);
    showSession();
  },
});

function chooseUser(user) {
  state.user = user;
  explanations = new Map();
  clear();
  showChosen();
  recommend();
  loadHistory();
}

function showChosen() {
  for (const chip of $("first-users").children) chip.setAttribute("aria-pressed", String(state.user !== null && same(chip.user.id, state.user.id)));
}

const leads = {
  user: [$("lead").textContent, $("lead-more").textContent],
  session: ["A list for somebody whom no store knows.", "It follows the items of the session alone. Reasons are told for users: pick one to see them."],
  deaf: ["No list for a session.", "This model knows the users that it was trained with, and nobody else by a few items."],
};

function lead(of) {
  leads[of].forEach((words, i) => { $(["lead", "lead-more"][i]).textContent = words; });
}

function changeMode(mode) {
  state.mode = mode;
  $("user-mode").hidden = mode !== "user";
  $("session-mode").hidden = mode !== "session";
  lead(mode);
  clear();
  $("results").hidden = true;
  if (mode === "user" && state.user) {
    recommend();
    loadHistory();
  }
  if (mode === "session") showSession();
}

for (const radio of document.getElementsByName("mode")) radio.addEventListener("change", () => changeMode(radio.value));

function showSession(focus) {
  const hears = health?.sessions !== false;
  $("item-search").hidden = !hears;
  lead(hears ? "session" : "deaf");
  $("session-note").textContent = hears
    ? state.session.length ? "The list follows what you add." : "Add the items that somebody has just looked at: nothing else is known of them."
    : `${health.model} does not hear sessions. Pick a user instead.`;
  $("session").replaceChildren(...state.session.map((item, i) => {
    const remove = make("button", { type: "button", className: "plain" }, "Remove");
    remove.setAttribute("aria-label", `Remove ${label(item)} from the session`);
    remove.onclick = () => {
      state.session.splice(i, 1);
      say(`${label(item)} removed`);
      showSession(Math.min(i, state.session.length - 1));
    };
    return make("li", {}, make("span", { className: "name", dir: "auto" }, label(item)), remove);
  }));
  if (focus !== undefined) ($("session").children[focus]?.querySelector("button") ?? $("item-search-input")).focus();
  if (state.session.length) recommend();
  else {
    stop("list");
    $("results").hidden = true;
  }
}

/** Forgets the list and what was said of it. */
function clear() {
  for (const channel of ["list", "why", "reasons", "history"]) stop(channel);
  Object.assign(state, { list: [], base: [], left: null, listed: null, shown: null });
  $("list").replaceChildren();
  $("history").hidden = true;
  $("history").open = false;
  hideError();
  closeWhy();
  showWithout();
}

async function loadHistory() {
  const signal = newest("history");
  try {
    const answer = await ask("history", { user: state.user.id, limit: 50 }, signal);
    const more = answer.total - answer.items.length;
    $("history-title").textContent = `History: ${plural(answer.total, "item")}`;
    $("history-list").replaceChildren(...answer.items.map((item) => make("li", { dir: "auto" }, label(item))), ...(more > 0 ? [make("li", {}, `and ${whole.format(more)} more`)] : []));
    $("history").hidden = false;
  } catch (error) {
    fail(error, loadHistory);
  }
}

// ------------------------------------------------------------------ the list

async function recommend() {
  const signal = newest("list");
  stop("reasons");
  $("results").hidden = false;
  const session = state.mode === "session";
  $("list-title").textContent = session ? "For this session" : `For ${userLabel()}`;
  if (!state.list.length) $("list").replaceChildren(make("li", { className: "wait" }));
  const k = Math.max(1, Math.min(health?.num_items ?? state.k, Math.max(state.k, session ? 0 : beyond)));
  const { left } = state;
  const without = left && { item: left.item.id, units: [...left.units] };
  try {
    let items;
    if (session) items = (await waiting($("list"), ask("session", { items: state.session.map((item) => item.id), k }, signal))).items;
    else {
      const answer = await waiting($("list"), ask("recommend", { users: [state.user.id], k, ...(without && { without }) }, signal));
      if (generation !== null && answer.generation !== generation) {
        generation = answer.generation;
        explanations = new Map();
        if (state.left || state.shown) { // what was left out is numbered by the model before
          clear();
          say("The service has a new model.");
          loadHistory();
          return recommend();
        }
      }
      generation = answer.generation;
      items = answer.lists[0].items;
    }
    state.list = items;
    state.listed = left;
    if (!left) state.base = items;
    hideError();
    showList();
    tell();
    if (!session) reasonsOfAll();
  } catch (error) {
    if (error.status === 422 && k > state.k) { // this service answers shorter lists only
      beyond = 0;
      return recommend();
    }
    if (error.name === "AbortError") return undefined;
    if (session) state.list = []; // that of another session
    if (!state.list.length) $("list").replaceChildren();
    $("results").hidden = !state.list.length;
    if (left !== state.listed && state.list.length) { // the list stays as it was, and so does what is said of it
      state.left = state.listed;
      showLeft();
      showWithout();
    }
    fail(error, () => {
      if (state.left !== left && !session) {
        state.left = left;
        showLeft();
        showWithout();
      }
      recommend();
    });
  }
  return undefined;
}

const place = (items, item) => items.findIndex((other) => same(other.id, item.id)) + 1; // 0: not there

/** How an item has moved: its sign and its words. */
function move(item, now) {
  const before = place(state.base, item);
  if (!before) return { sign: "new", className: "up", words: `new, from beyond place ${state.base.length}` };
  if (before === now) return null;
  const by = before - now;
  return { sign: `${by > 0 ? "▲" : "▼"} ${Math.abs(by)}`, className: by > 0 ? "up" : "down", words: `${by > 0 ? "up" : "down"} ${plural(Math.abs(by), "place")}, from ${before}` };
}

function showList() {
  const focused = document.activeElement?.closest?.("#list > li")?.dataset.id;
  const rows = state.list.slice(0, state.k).map((item, i) => {
    const moved = state.left ? move(item, i + 1) : null;
    const name = make("span", { className: "name", dir: "auto" }, label(item));
    const by = moved ? [make("span", { className: `moved ${moved.className}` }, moved.sign)] : [];
    by.forEach((sign) => sign.setAttribute("aria-hidden", "true"));
    // What is heard is what stands there, with words between.
    const heard = (words) => make("span", { className: "hidden" }, words);
    const cells = [make("span", { className: "rank" }, String(i + 1)), name, heard(", score "),
      make("span", { className: "score" }, minus(score.format(item.score)), ...by), ...(moved ? [heard(`, ${moved.words}`)] : [])];
    const explains = state.mode === "user" && health?.explains !== false;
    const row = make(explains ? "button" : "div", { className: "row" }, ...cells);
    if (explains) {
      row.type = "button";
      row.append(heard(". Show why: "), make("span", { className: "because", dir: "auto" }));
      row.setAttribute("aria-pressed", String(state.shown !== null && same(state.shown.id, item.id)));
      row.onclick = () => explain(item);
    }
    const line = make("li", {}, row);
    line.dataset.id = JSON.stringify(item.id);
    return line;
  });
  $("list").replaceChildren(...rows);
  if (!rows.length) $("list").append(make("li", { className: "quiet" }, "There is nothing left to recommend: all items are in the history."));
  if (focused) rows.find((row) => row.dataset.id === focused)?.firstChild.focus();
  for (const item of state.list.slice(0, state.k)) showBecause(item);
  const lost = state.left ? state.base.slice(0, state.k).filter((item) => { const now = place(state.list, item); return !now || now > state.k; }) : [];
  $("gone").hidden = !lost.length;
  $("gone").replaceChildren(...(lost.length ? [make("p", {}, "No longer in the list: ", ...lost.flatMap((item, i) => {
    const now = place(state.list, item);
    return [i ? ", " : "", make("bdi", {}, label(item)), ` (${place(state.base, item)} → ${now || `beyond ${state.list.length}`})`];
  }))] : []));
}

/** Says in words what happened to the list. */
function tell() {
  const shown = Math.min(state.k, state.list.length);
  if (!state.left) return say(`${plural(shown, "recommendation")} ${state.mode === "user" ? `for ${userLabel()}` : "for this session"}`);
  const moved = state.list.slice(0, state.k).filter((item, i) => place(state.base, item) !== i + 1).length;
  const now = place(state.list, state.left.item);
  const before = place(state.base, state.left.item);
  const words = !now ? `falls from place ${before} beyond ${state.list.length}` : now === before ? `stays at place ${now}` : `${now > before ? "falls" : "rises"} from place ${before} to ${now}`;
  $("after")?.replaceChildren(make("strong", {}, make("bdi", {}, label(state.left.item)), ` ${words}.`), ` ${moved ? `${plural(moved, "item")} of the list ${moved === 1 ? "has" : "have"} moved.` : "The list stays as it was."} `, make("a", { href: "#results" }, "See the list"));
  return say(`Without it ${label(state.left.item)} ${words}. ${moved} of ${shown} items of the list have moved.`);
}

$("length").addEventListener("change", () => {
  state.k = Number($("length").value);
  recommend();
});

// ------------------------------------------------------------------ why

const asked = (item) => JSON.stringify(item.id);

function showBecause(item) {
  const known = explanations.get(asked(item));
  const row = [...$("list").children].find((line) => line.dataset.id === asked(item))?.querySelector(".because");
  if (row && known) row.textContent = known.reasons.length ? known.reasons[0].text : known.text.split("\n")[0];
}

async function explanation(item, signal) {
  const known = explanations.get(asked(item));
  if (known) return known;
  const keep = explanations;
  const answer = await ask("explain", { user: state.user.id, item: item.id, max_reasons: REASONS }, signal);
  keep.set(asked(item), answer);
  return answer;
}

/** The first reason of every item of the list, one question at a time. */
async function reasonsOfAll() {
  if (health?.explains === false) return;
  const signal = newest("reasons");
  for (const item of state.list.slice(0, state.k)) {
    if (explanations.has(asked(item))) continue;
    try {
      await explanation(item, signal);
      if (signal.aborted) return;
      showBecause(item);
    } catch { // said where the item is asked about by itself
      return;
    }
  }
}

async function explain(item) {
  const signal = newest("why");
  stop("reasons"); // this one first
  state.shown = item;
  showPressed();
  if (!explanations.has(asked(item))) {
    $("empty").hidden = true;
    $("reasons").hidden = false;
    drawing?.stop();
    drawing = null;
    $("reasons").replaceChildren(make("h2", { dir: "auto" }, label(item)), make("p", { className: "about" }, "Leaving out one thing after the other …"), make("div", { className: "wait" }));
  }
  try {
    const answer = await explanation(item, signal);
    if (signal.aborted) return;
    hideError();
    showWhy(item, answer);
    showBecause(item);
    $("why").focus({ preventScroll: true });
    if (matchMedia("(max-width: 60rem)").matches) $("why").scrollIntoView({ behavior: "smooth", block: "start" });
    say(answer.reasons.length ? `${plural(answer.reasons.length, "reason")} for ${label(item)}` : answer.text);
    reasonsOfAll();
  } catch (error) {
    if (error.name === "AbortError") return;
    closeWhy();
    fail(error, () => explain(item));
  }
}

function showPressed() {
  for (const line of $("list").children) line.querySelector("button")?.setAttribute("aria-pressed", String(state.shown !== null && line.dataset.id === asked(state.shown)));
}

function closeWhy(focus = false) {
  const { shown } = state;
  stop("why");
  drawing?.stop();
  drawing = null;
  state.shown = null;
  $("reasons").hidden = true;
  $("reasons").replaceChildren();
  $("empty").hidden = false;
  showPressed();
  if (focus && shown) ([...$("list").children].find((line) => line.dataset.id === asked(shown))?.querySelector("button") ?? $("results")).focus();
}

function showWhy(item, answer) {
  drawing?.stop();
  $("empty").hidden = true;
  $("reasons").hidden = false;
  const close = make("button", { type: "button", className: "plain close", onclick: () => closeWhy(true) }, "Close");
  close.setAttribute("aria-label", "Close the reasons, back to the list");
  const title = make("h2", { dir: "auto" }, label({ id: answer.item, name: answer.item_name ?? item.name }));
  const about = make("p", { className: "about" }, `${answer.rank == null ? "" : `Place ${answer.rank} for `}`, make("bdi", {}, userLabel()), ` · score ${minus(score.format(answer.score))}`);
  const parts = [close, title, about];
  if (answer.reasons.length) {
    const most = Math.max(...answer.reasons.map((reason) => Math.abs(reason.effect)));
    parts.push(make("ul", { className: "reasons" }, ...answer.reasons.map((reason) => make("li", {}, reasonButton(item, answer, reason, most)))));
    parts.push(make("p", { id: "after", className: "after", hidden: true }));
  } else parts.push(make("p", { className: "none", dir: "auto" }, capital(answer.text)));
  const picture = make("div", { className: "picture" });
  $("reasons").replaceChildren(...parts, picture);
  drawing = null;
  if (answer.graph?.edges?.length) {
    const place_ = make("div");
    picture.append(make("h3", {}, "How it hangs together"), place_);
    drawing = drawGraph(place_, answer.graph, `Graph of why ${label(item)} is recommended to ${userLabel()}; it is told in words below`, answer.item_name ?? "");
  }
  showLeft();
}

const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

function reasonButton(item, answer, reason, most) {
  const from = answer.rank;
  const to = reason.rank_change == null || from == null ? null : from + reason.rank_change;
  const falls = `the score ${reason.effect >= 0 ? "falls" : "rises"} by ${amount.format(Math.abs(reason.effect))}`;
  const moves = to === null ? "" : to === from ? `stays at place ${from}` : `place ${from} → ${to}`;
  const fill = make("i");
  fill.style.width = `${most ? Math.max(3, (100 * Math.abs(reason.effect)) / most) : 0}%`;
  const bar = make("span", { className: "bar" }, fill);
  bar.setAttribute("aria-hidden", "true");
  // What is heard is what stands there. "Leave out" stays so where it is pressed, as aria-pressed says that it is.
  const act = make("span", { className: "act" });
  act.setAttribute("aria-hidden", "true");
  const button = make("button", { type: "button", className: "reason" },
    make("span", { className: "hidden" }, "Leave out: "),
    make("span", { className: "text", dir: "auto" }, capital(reason.text)),
    act,
    make("span", { className: "hidden" }, ". "),
    make("span", { className: "effect" }, bar, `Without it ${falls}${moves ? `, ${moves}` : ""}`));
  button.onclick = () => toggle(item, reason);
  button.onpointerenter = button.onfocus = () => drawing?.show(reason.units);
  button.onpointerleave = button.onblur = () => drawing?.show(null);
  button.reason = reason;
  return button;
}

// ------------------------------------------------------------------ leaving out

/** Leaves a reason out, or puts it back. What is left out belongs to one item: that of another is put back first. */
function toggle(item, reason) {
  const reasons = state.left && same(state.left.item.id, item.id) ? state.left.reasons : [];
  const others = reasons.filter((other) => !same(other.units, reason.units));
  leave(item, others.length < reasons.length ? others : [...reasons, reason]);
}

/** The list without these reasons of an item. */
function leave(item, reasons) {
  state.left = reasons.length ? { item, reasons, units: new Set(reasons.flatMap((reason) => reason.units)) } : null;
  showLeft();
  showWithout();
  recommend();
}

const undo = () => leave(state.left.item, state.left.reasons.slice(0, -1));

function showLeft() {
  const mine = state.left && state.shown && same(state.left.item.id, state.shown.id) ? state.left : null;
  for (const button of $("reasons").querySelectorAll(".reason")) {
    const out = Boolean(mine?.reasons.some((reason) => same(reason.units, button.reason.units)));
    button.setAttribute("aria-pressed", String(out));
    button.querySelector(".act").textContent = out ? "Put back" : "Leave out";
  }
  if ($("after")) $("after").hidden = !mine;
  drawing?.gone(mine ? mine.units : new Set());
}

function showWithout() {
  const { left } = state;
  $("without").hidden = !left;
  if (!left) return $("without").replaceChildren();
  const back = (words, act) => make("button", { type: "button", onclick: () => { act(); afterUndo(); } }, words);
  const buttons = [back(left.reasons.length > 1 ? "Undo the last" : "Undo", undo)];
  if (left.reasons.length > 1) buttons.push(back("Put all back", () => leave(left.item, [])));
  return $("without").replaceChildren(
    make("p", {}, "The list as it would be without"),
    make("ul", {}, ...left.reasons.map((reason) => make("li", { dir: "auto" }, reason.text))),
    make("div", { className: "buttons" }, ...buttons));
}

/** Where the focus goes when its button is gone. */
function afterUndo() {
  ($("without").querySelector("button") ?? $("results")).focus();
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || $("key").open) return;
  if (!$("error").hidden) hideError();
  else if (state.left) {
    const inside = $("without").contains(document.activeElement);
    undo();
    if (inside) afterUndo();
  } else if (state.shown) closeWhy(true);
});

// ------------------------------------------------------------------ start

async function start() {
  try {
    health = await ask("health");
    generation = health.generation;
    $("about").textContent = `${health.model} · ${plural(health.num_users, "user")} · ${plural(health.num_items, "item")}`;
    if (state.mode === "session") showSession();
    const { users: some } = await ask("users?limit=6");
    $("first-users").replaceChildren(...some.map((user) => {
      const chip = make("button", { type: "button", className: "chip", dir: "auto", onclick: () => chooseUser(user) }, label(user));
      chip.setAttribute("aria-label", `Recommend for user ${label(user)}`);
      chip.user = user;
      return chip;
    }));
    showChosen();
  } catch (error) {
    fail(error, start);
  }
}

start();
