// Keep the parts of a page current, and open the verbs in a dialog. Without it every page works.

const root = document.body.dataset.root;
const connection = document.getElementById("connection");
const idle = connection.textContent;
const AGE = 2000; // milliseconds after which the age of the data is shown
const PAUSE = 1000; // between two questions for more output
const MOST = 500000; // characters of output that are kept

// --- live parts --------------------------------------------------------------------------------

let read = null; // when the server read what the page shows, in milliseconds
let connected = true;

let stream = null;

function follow() {
  const address = new URL(location.href);
  address.searchParams.set("live", document.body.dataset.live ?? "");
  address.hash = "";
  stream = new EventSource(address);
  stream.onmessage = (message) => {
    const news = JSON.parse(message.data);
    connected = true;
    read = news.age === null ? null : Date.now() - 1000 * news.age;
    for (const [name, html] of news.parts) morph(name, html);
    show();
  };
  stream.onerror = () => {
    connected = false;
    show();
    if (stream?.readyState === EventSource.CLOSED) setTimeout(resume, 2000);
  };
}

// A browser opens few connections to a server: a page that nobody sees gives its own back.
function resume() {
  stream?.close();
  stream = null;
  if (!document.hidden) follow();
}

function morph(name, html) {
  const part = document.querySelector(`[data-part="${name}"]`);
  if (!part) return;
  Idiomorph.morph(part, html, {
    morphStyle: "innerHTML",
    ignoreActiveValue: true,
    callbacks: { beforeAttributeUpdated: (attribute, node) =>
      !(node.type === "checkbox" && attribute === "checked") },
  });
}

function show() {
  let text = idle;
  const age = read === null ? 0 : Date.now() - read;
  if (!connected) text = "disconnected: trying again; the numbers may be old";
  else if (age > AGE) text = `read ${Math.round(age / 1000)} s ago`;
  if (connection.textContent !== text) connection.textContent = text;
  connection.classList.toggle("failed", !connected);
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  for (const [unit, name, smaller, less] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= unit) return `${Math.floor(whole / unit)} ${name} ${Math.floor((whole % unit) / smaller)} ${less}`;
  }
  return "";
}

function tick() {
  for (const node of document.querySelectorAll("[data-since]")) {
    const text = duration(Date.now() / 1000 - Number(node.dataset.since));
    if (node.textContent !== text) node.textContent = text;
  }
  show();
}

// --- output ------------------------------------------------------------------------------------

async function followOutput(pane) {
  const note = pane.parentElement.querySelector("[data-log-note]");
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    if (document.hidden) continue;
    const address = new URL(pane.dataset.log, location.href);
    address.searchParams.set("position", pane.dataset.position);
    if (pane.dataset.attempt) address.searchParams.set("attempt", pane.dataset.attempt);
    let part;
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (!answer.ok) continue;
      part = await answer.json();
    } catch {
      continue;
    }
    const below = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 30;
    if (part.restarted) pane.textContent = "";
    if (part.text) pane.append(part.text);
    if (pane.textContent.length > MOST) pane.textContent = pane.textContent.slice(-MOST);
    if (below && part.text) pane.scrollTop = pane.scrollHeight;
    pane.dataset.position = part.position;
    pane.dataset.attempt = part.attempt ?? "";
    note.textContent = part.note || (part.ended ? "complete" : "following");
  }
}

// --- verbs -------------------------------------------------------------------------------------

const dialog = document.getElementById("dialog");

async function open(address, options) {
  const answer = await fetch(address, options);
  const text = await answer.text();
  const page = new DOMParser().parseFromString(text, "text/html");
  const content = page.querySelector(".verb-dialog") ?? page.querySelector("main");
  dialog.replaceChildren(...content.childNodes);
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("button, a")?.focus();
}

function withPart(address) {
  const url = new URL(address, location.href);
  url.searchParams.set("part", "1");
  return url;
}

document.addEventListener("click", (event) => {
  const close = event.target.closest("[data-close]");
  const verb = event.target.closest("a.verb");
  if (close && dialog.open) {
    event.preventDefault();
    dialog.close();
  } else if (verb && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    open(withPart(chosen(verb)));
  }
});

dialog?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  open(withPart(form.action), { method: "POST", body: new URLSearchParams(new FormData(form)) });
});

// --- the list of runs --------------------------------------------------------------------------

const selection = document.querySelector("[data-selection]");

function chosenRuns() {
  return [...(selection?.querySelectorAll("input[name=runs]:checked") ?? [])].map((box) => box.value);
}

function chosen(verb) {
  const runs = verb.dataset.verb ? chosenRuns() : [];
  if (!runs.length) return verb.href;
  const address = new URL(`${root}do/${verb.dataset.verb}`, location.href);
  for (const run of runs) address.searchParams.append("runs", run);
  return address;
}

selection?.addEventListener("change", (event) => {
  if ("all" in event.target.dataset) {
    for (const box of selection.querySelectorAll("input[name=runs]")) box.checked = event.target.checked;
  }
  const number = chosenRuns().length;
  const note = selection.querySelector("[data-selected]");
  note.dataset.none ??= note.textContent;
  note.textContent = number ? `${number} selected` : note.dataset.none;
});

// --- keys --------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || dialog?.open) return;
  if (event.target.closest("input, select, textarea")) return;
  const screen = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  const filter = document.querySelector("[data-filter]");
  if (screen) screen.click();
  else if (event.key === "/" && filter) {
    event.preventDefault();
    filter.focus();
  }
});

if (document.querySelector("[data-part]") && !document.querySelector(".verb-dialog")) {
  resume();
  document.addEventListener("visibilitychange", resume);
  addEventListener("pagehide", () => stream?.close());
}
for (const pane of document.querySelectorAll("[data-log]")) {
  pane.scrollTop = pane.scrollHeight;
  followOutput(pane);
}
setInterval(tick, 1000);
