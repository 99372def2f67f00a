// The page of codedev feedback. A judgement is kept in this browser until the server has said that it is stored: a server that dies, a page
// that is closed, a network that goes away lose nothing.
"use strict";

const $ = (id) => document.getElementById(id);
const VERDICTS = {
  compare: [["a", "A is better", "1"], ["tie", "Equal", "0"], ["bad", "Neither is good", "x"], ["b", "B is better", "2"], ["skip", "Skip", "s"]],
  rate: [["1", "1 bad", "1"], ["2", "2", "2"], ["3", "3", "3"], ["4", "4", "4"], ["5", "5 good", "5"], ["skip", "Skip", "s"]],
};
const KEYS = { compare: { arrowleft: "1", arrowright: "2", "=": "0" }, rate: {} };
let rater = localStorage.getItem("rater") || "";
let state = null;
let shownAt = 0;
let raw = false;
let busy = false;

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
}

async function call(path, fields) {
  const options = fields ? { method: "POST", headers: { "content-type": "application/json", "x-codedev": "1" }, body: JSON.stringify(fields) } : {};
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) {
    const error = new Error(answer.error || response.statusText);
    error.final = response.status >= 400 && response.status < 500;
    throw error;
  }
  return answer;
}

const unsent = () => JSON.parse(localStorage.getItem("unsent") || "[]");
const keep = (judgements) => localStorage.setItem("unsent", JSON.stringify(judgements));

// Sends what is kept, oldest first; sent again after a while where the server cannot be reached.
async function send() {
  if (busy) return;
  busy = true;
  try {
    let answer = null;
    for (let waiting = unsent(); waiting.length; waiting = unsent()) {
      try {
        answer = await call("/api/judge", waiting[0]);
      } catch (error) {
        if (!error.final) throw error;
        say(error.message, true);
      }
      keep(unsent().filter((judgement) => judgement.key !== waiting[0].key));
    }
    show(answer || (await call("/api/state?rater=" + encodeURIComponent(rater))));
    if (!$("status").classList.contains("bad")) say("");
  } catch (error) {
    const waiting = unsent().length;
    say(`${waiting ? `${waiting} judgement${waiting > 1 ? "s are" : " is"} kept here and sent` : "Trying"} again when the server answers: ${error.message}`, true);
    setTimeout(() => { say(""); send(); }, 1500);
  } finally {
    busy = false;
    buttons(false);
  }
}

function buttons(off) {
  for (const button of $("verdicts").querySelectorAll("button")) button.disabled = off;
}

function judge(verdict) {
  if (busy || !state || !state.task) return;
  // What stands first on the screen is A for the person, and may be the task's b.
  const sides = state.task.answers.map((answer) => answer.side);
  const told = verdict === "a" ? sides[0] : verdict === "b" ? sides[1] : verdict;
  const judgement = { key: [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
    task: state.task.id, rater, verdict: told, comment: $("comment").value, seconds: (performance.now() - shownAt) / 1000 };
  keep([...unsent(), judgement]);
  $("comment").value = "";
  sessionStorage.removeItem("comment");
  buttons(true);
  say("");
  send();
}

async function undo() {
  if (busy || !rater) return;
  busy = true;
  try {
    const answer = await call("/api/undo", { rater });
    show(answer);
    if (answer.undone) $("comment").value = answer.undone.comment;
    say(answer.undone ? "Taken back." : "There is nothing to take back.");
  } catch (error) {
    say(error.message, true);
  } finally {
    busy = false;
  }
}

function block(heading, part, level) {
  const outer = document.createElement("section");
  const title = document.createElement("h2");
  title.textContent = heading;
  const text = document.createElement("div");
  text.className = "text";
  text.innerHTML = raw ? part.raw : part.html; // made safe by the server (render.py); this page's policy runs nothing in it
  outer.append(title, text);
  return outer;
}

function show(answer) {
  const fresh = !state || !state.task || !answer.task || state.task.id !== answer.task.id;
  state = answer;
  const { task, total, mine } = answer;
  const finished = mine.judged + mine.skipped;
  $("bar").style.width = `${total ? (100 * finished) / total : 0}%`;
  $("progress").setAttribute("aria-valuemax", total);
  $("progress").setAttribute("aria-valuenow", finished);
  $("count").textContent = `${finished} of ${total}`;
  $("who").textContent = rater;
  $("who").title = "Somebody else judges";
  $("hello").hidden = true;
  $("task").hidden = !task;
  $("done").hidden = Boolean(task);
  panel(answer);
  if (!task) return;
  $("prompt").replaceChildren(...task.prompt.map((message) => {
    const turn = block(message.role, message);
    turn.className = "turn";
    return turn;
  }));
  $("answers").className = task.answers.length === 2 ? "two" : "";
  $("answers").replaceChildren(...task.answers.map((part, at) => {
    const box = block(task.answers.length === 2 ? "AB"[at] : "Answer", part);
    box.className = "answer";
    box.tabIndex = 0;
    box.setAttribute("aria-label", task.answers.length === 2 ? `Answer ${"AB"[at]}` : "Answer");
    return box;
  }));
  $("verdicts").replaceChildren(...VERDICTS[task.kind].map(([verdict, label, key]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = verdict === "a" || verdict === "b" ? "main" : "";
    button.dataset.verdict = verdict;
    const hint = document.createElement("kbd");
    hint.textContent = key;
    button.append(label + " ", hint);
    button.addEventListener("click", () => judge(verdict));
    return button;
  }));
  $("keys").textContent = task.kind === "compare" ? "← A, → B, 0 equal, x neither, s skip, u undo, c comment, r as printed" : "1 to 5, s skip, u undo, c comment, r as printed";
  if (fresh) {
    shownAt = performance.now();
    window.scrollTo(0, 0);
    $("prompt").scrollTop = 0;
  }
}

function panel(answer) {
  const table = document.createElement("table");
  table.className = "raters";
  const rows = [["rater", "judged", "skipped"], ...Object.entries(answer.raters).map(([name, of]) => [name, of.judged, of.skipped])];
  rows.forEach((cells, at) => {
    const row = table.insertRow();
    for (const cell of cells) {
      const element = document.createElement(at ? "td" : "th");
      element.textContent = cell;
      row.append(element);
    }
  });
  const lines = Object.entries(answer.agreement).map(([kind, of]) => {
    const line = document.createElement("p");
    const alpha = of.alpha === null ? "" : `, Krippendorff's alpha ${of.alpha.toFixed(2)}`;
    line.textContent = `${kind === "compare" ? "Comparisons" : "Ratings"} with more than one rater: ${of.tasks}, all agree on ${(100 * of.same).toFixed(0)} %${alpha}`;
    return line;
  });
  $("panel").replaceChildren(table, ...lines);
}

function ask() {
  $("task").hidden = $("done").hidden = true;
  $("hello").hidden = false;
  $("name").value = rater;
  $("name").focus();
}

$("hello").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = $("name").value.trim();
  if (!rater) return;
  localStorage.setItem("rater", rater);
  state = null;
  send();
});
$("who").addEventListener("click", ask);
$("undo").addEventListener("click", undo);
$("raw").addEventListener("click", () => {
  raw = !raw;
  $("raw").setAttribute("aria-pressed", raw);
  if (state) show(state);
});
$("raters").addEventListener("click", () => {
  $("panel").hidden = !$("panel").hidden;
  $("raters").setAttribute("aria-expanded", !$("panel").hidden);
});
$("comment").value = sessionStorage.getItem("comment") || "";
$("comment").addEventListener("input", () => sessionStorage.setItem("comment", $("comment").value));
$("comment").addEventListener("keydown", (event) => {
  if (event.key === "Escape") $("comment").blur();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "TEXTAREA"].includes(event.target.tagName)) return;
  if (!state || !$("hello").hidden) return;
  const key = event.key.toLowerCase();
  if (key === "u") undo();
  else if (key === "r") $("raw").click();
  else if (key === "c") $("comment").focus();
  else {
    const kind = state.task && state.task.kind;
    const meant = kind && (KEYS[kind][key] || key);
    const found = kind && VERDICTS[kind].find((verdict) => verdict[2] === meant);
    if (!found || event.repeat) return;
    judge(found[0]);
  }
  event.preventDefault();
});
if (rater) send();
else ask();
