"use strict";
// The page of `vlm app`. Texts from outside are only ever set as textContent: they cannot become markup.

const byId = (id) => document.getElementById(id);
const stage = byId("stage");
const outline = byId("outline");
const cards = byId("cards");
const maxBytes = Number(document.body.dataset.maxBytes);

let image = null; // the file that questions are about
let leaving = new AbortController(); // aborts what was asked about an earlier image
let chosen = 0; // files chosen so far: of two that are being checked, the later one counts
let pending = 0;

// --- words to the reader ---------------------------------------------------------------------------

// What is wrong with a file stands below the place where images are dropped, all else below the form.
function fail(sentence, below = "ask") {
  const error = byId("error");
  byId(below).after(error);
  error.textContent = sentence;
  error.hidden = sentence === "";
  error.scrollIntoView({ block: "nearest" });
}

let since = 0;
function working(change) {
  pending += change;
  if (pending === 1 && change === 1) since = Date.now();
  tell();
}

function tell() {
  const seconds = Math.round((Date.now() - since) / 1000);
  const what = pending === 1 ? "Working" : `Working on ${pending} requests`;
  // Screen readers read every change out loud: seconds only every five.
  byId("status").textContent = pending === 0 ? "" : `${what} …${seconds < 5 ? "" : ` ${seconds - (seconds % 5)} s`}`;
}
setInterval(() => pending > 0 && tell(), 1000);

// --- the server ------------------------------------------------------------------------------------

async function post(path, file, below, signal) {
  working(1);
  try {
    const response = await fetch(path, { method: "POST", body: file, signal });
    const answer = await response.json();
    if (response.ok) return answer;
    fail(answer.error, below);
  } catch {
    if (!signal?.aborted) fail("The page gets no answer. Try again in a minute; the app may have ended.", below);
  } finally {
    working(-1);
  }
  return null;
}

async function take(file) {
  fail("");
  if (file.size > maxBytes) {
    fail(`This file has ${(file.size / 1e6).toFixed(1)} MB; at most ${maxBytes / 1e6} MB are taken. Choose a smaller one.`, "drop");
    return;
  }
  const turn = ++chosen;
  const checked = await post("image", file, "drop");
  if (checked === null || turn !== chosen) return;
  leaving.abort();
  leaving = new AbortController();
  image = file;
  byId("shown").src = checked.picture;
  byId("size").textContent = `${checked.width} × ${checked.height} pixels`;
  document.body.classList.add("loaded");
  byId("picture").hidden = false;
  for (const controls of document.querySelectorAll("fieldset")) controls.disabled = false;
  byId("request").value = "";
  clear();
  // Not on a phone: its keyboard would cover the image.
  if (!matchMedia("(pointer: coarse)").matches) byId("request").focus({ preventScroll: true });
}

async function ask(requests, asked = "") {
  if (image === null) return;
  fail("");
  const query = new URLSearchParams(requests.map((request) => ["request", request]));
  const answer = await post(`captions?${query}`, image, "ask", leaving.signal);
  if (answer === null) return;
  const made = answer.answers.map((one) => card(one, asked));
  cards.prepend(...made);
  byId("results").hidden = false;
  select(made[0]);
  // A picture that is not decoded yet has no height: the card would move out of view again.
  await made[0].querySelector("img").decode().catch(() => {});
  made[0].scrollIntoView({ block: "nearest" });
}

// --- captions --------------------------------------------------------------------------------------

function title(answer) {
  if (answer.region === "box") return `box ${answer.box.map((edge) => Number(edge.toFixed(3))).join(", ")}`;
  return answer.region === "full" ? "whole image" : answer.region;
}

function card(answer, asked) {
  const item = byId("card").content.cloneNode(true).firstElementChild;
  const name = title(answer);
  item.querySelector("img").src = answer.picture;
  item.querySelector("img").alt = `Crop: ${name}`;
  // Which of the two it is: the model's answer to a question, or the caption of a place.
  item.querySelector("h3").textContent = answer.question === null ? name : `answer about the ${name}`;
  item.querySelector(".asked").textContent = asked;
  item.querySelector(".asked").hidden = asked === "";
  const words = answer.caption === "" ? "(the model said nothing)" : answer.caption;
  item.querySelector(".caption").textContent = answer.finished ? words : `${words} …`;
  item.dataset.copied = answer.caption;
  item.dataset.box = answer.box.join(",");
  const copyButton = item.querySelector(".copy");
  copyButton.setAttribute("aria-label", `Copy the caption of ${name}`);
  copyButton.addEventListener("click", () => copy(answer.caption, copyButton));
  item.querySelector(".remove").setAttribute("aria-label", `Remove the caption of ${name}`);
  item.querySelector(".remove").addEventListener("click", () => {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    byId("results").hidden = next === null;
    select(next);
    (next?.querySelector(".remove") ?? byId("request")).focus();
  });
  for (const event of ["pointerenter", "focusin"]) item.addEventListener(event, () => select(item));
  return item;
}

function select(item) {
  for (const other of cards.children) other.classList.toggle("shown", other === item);
  show(item === null ? null : edges(item));
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers give the clipboard to secure pages only, and a plain address in a network is not secure.
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = before), 1500);
}

byId("copy-all").addEventListener("click", (event) => {
  const lines = [...cards.children].map((item) => `${item.querySelector("h3").textContent}: ${item.dataset.copied}`);
  copy(lines.join("\n"), event.currentTarget);
});
function clear() {
  cards.replaceChildren();
  byId("results").hidden = true;
  show(null);
}
byId("clear").addEventListener("click", () => {
  clear();
  byId("request").focus();
});

// --- the outline, and boxes drawn ------------------------------------------------------------------

function edges(element) {
  return element.dataset.box.split(",").map(Number);
}

function show(box) {
  outline.hidden = box === null;
  if (box === null) return;
  const [left, top, right, bottom] = box;
  Object.assign(outline.style, {
    left: `${100 * left}%`,
    top: `${100 * top}%`,
    width: `${100 * (right - left)}%`,
    height: `${100 * (bottom - top)}%`,
  });
}

const inside = (value) => Math.min(1, Math.max(0, value));
function place(event) {
  const frame = stage.getBoundingClientRect();
  return [inside((event.clientX - frame.left) / frame.width), inside((event.clientY - frame.top) / frame.height)];
}
function between([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)].map((edge) => Number(edge.toFixed(3)));
}

let corner = null; // where the pointer went down
stage.addEventListener("pointerdown", (event) => {
  // A finger scrolls the page unless drawing is switched on.
  if (event.button !== 0 || (event.pointerType === "touch" && !stage.classList.contains("drawing"))) return;
  corner = place(event);
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => corner !== null && show(between(corner, place(event))));
stage.addEventListener("pointercancel", () => (corner = null));
stage.addEventListener("pointerup", (event) => {
  if (corner === null) return;
  const box = between(corner, place(event));
  corner = null;
  if (box[2] - box[0] < 0.02 || box[3] - box[1] < 0.02) return; // a click, not a box
  setDrawing(false);
  byId("request").value = box.join(",");
  ask([box.join(",")]);
});
function setDrawing(on) {
  stage.classList.toggle("drawing", on);
  byId("draw").setAttribute("aria-pressed", String(on));
}
byId("draw").addEventListener("click", () => setDrawing(!stage.classList.contains("drawing")));

// --- ways in ---------------------------------------------------------------------------------------

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = byId("request").value.trim();
  if (words === "") fail("Name a place, or ask a question.");
  else ask([words], words);
});
for (const button of document.querySelectorAll("[data-requests]")) {
  button.addEventListener("click", () => ask(button.dataset.requests.split("|")));
}
for (const button of document.querySelectorAll(".region")) {
  button.addEventListener("pointerenter", () => show(edges(button)));
  button.addEventListener("pointerleave", () => select(cards.querySelector(".shown")));
}
byId("file").addEventListener("change", (event) => {
  const [file] = event.currentTarget.files;
  event.currentTarget.value = ""; // so that the same file can be chosen again
  if (file) take(file);
});
for (const button of document.querySelectorAll(".example")) {
  button.addEventListener("click", () => {
    // Not fetched: the page may load nothing but the app's own answers.
    const [kind, content] = button.firstElementChild.src.split(/data:|;base64,/).slice(1);
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    take(new File([bytes], "example", { type: kind }));
  });
}
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (!file) return; // text: that is for the field
  event.preventDefault();
  take(file);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) take(file);
  else fail("That was no file; save the image first, or copy and paste it.", "drop");
});
