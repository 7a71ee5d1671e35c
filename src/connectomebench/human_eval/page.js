const page = element.querySelector(".page");
const find = (selector) => page.querySelector(selector);
const steps = props.steps;
const words = props.words;
let state = null;
let chosen = [];
let busy = false;
let firstVisit = true;

// seconds during which the pictures could be seen
const clock = {
  total: 0, since: null, shown: false,
  set(total) { this.total = total; this.since = null; this.shown = false; },
  start() { if (this.since === null) { this.since = performance.now(); this.shown = true; } },
  stop() { if (this.since !== null) { this.total += (performance.now() - this.since) / 1000; this.since = null; } },
  read() { return this.total + (this.since === null ? 0 : (performance.now() - this.since) / 1000); },
};
let answeredAt = 0;

function make(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

async function ask(name, sent = {}) {
  setBusy(true);
  try {
    state = await server[name](sent);
    await draw();
  } catch (error) {
    clock.stop();
    cover([
      "The program that keeps your ratings does not answer, so the last one was not kept; all before it were.",
      "Start the same command again and open the address that it prints.",
    ], "Try again", () => ask("look"));
  }
  setBusy(false);
}

function cover(paragraphs, button, then) {
  page.dataset.stage = "cover";
  find(".words").replaceChildren(...paragraphs.map((text) => make("p", text)));
  const go = find(".go");
  go.replaceChildren(button, make("kbd", "Enter"));
  go.onclick = then;
  go.focus();
}

async function draw() {
  find("h1").textContent = words.title;
  find(".progress").textContent = state.number < state.total && page.dataset.stage === "work"
    ? `${state.number + 1} of ${state.total}` : `${state.number} of ${state.total} done`;
  find(".bar div").style.width = `${100 * state.number / state.total}%`;
  find(".undo").disabled = state.number === 0;
  if (state.number === state.total) {
    clock.stop();
    cover([`All ${state.total} are rated. Go back to change the last one, or finish to write the records.`],
      "Finish", finish);
    return;
  }
  if (firstVisit) {
    firstVisit = false;
    const began = state.number > 0 ? [`You have rated ${state.number} of ${state.total}; go on with the next.`] : [];
    cover([...began, ...words.introduction], state.number > 0 ? "Resume" : "Start", open);
    return;
  }
  await open();
}

async function open() {
  setBusy(true);
  chosen = [];
  find(".question").textContent = state.question;
  const columns = state.columns.map((pictures) => {
    const column = make("div");
    column.className = "plane";
    column.append(...pictures.map(drawPicture));
    return column;
  });
  await Promise.all(columns.flatMap((column) => [...column.querySelectorAll("img")])
    .map((image) => image.decode().catch(() => undefined)));
  find(".pictures").replaceChildren(...columns);
  const names = state.texts.length === 2 ? ["Left", "Right"] : ["What was said"];
  find(".texts").replaceChildren(...state.texts.map((text, i) => {
    const article = make("article");
    make("h2", names[i], article);
    make("p", text, article);
    return article;
  }));
  find(".steps").replaceChildren(...steps.map(drawStep));
  page.dataset.stage = "work";
  find(".progress").textContent = `${state.number + 1} of ${state.total}`;
  size();
  window.scrollTo(0, 0);
  clock.set(state.seconds);
  // nothing can be answered before the pictures are on the screen
  await new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)));
  clock.start();
  setBusy(false);
}

// a picture with its name; mark and scale bar lie over it
function drawPicture(picture) {
  const figure = make("figure");
  const button = make("button", undefined, figure);
  button.type = "button";
  const image = make("img", undefined, button);
  image.src = picture.source;
  image.alt = picture.name;
  button.insertAdjacentHTML("beforeend", picture.overlay);
  button.onclick = () => zoom(image);
  make("figcaption", picture.name, figure);
  return figure;
}

function setBusy(value) {
  busy = value;
  page.ariaBusy = value ? "true" : null;
}

function drawStep(step, i) {
  const field = make("fieldset");
  field.disabled = i > 0;
  make("legend", step.prompt, field);
  const row = make("div", undefined, field);
  for (const choice of step.choices) {
    const button = make("button", choice.text, row);
    button.type = "button";
    if (choice.key !== choice.text) make("kbd", choice.key, button);
    button.setAttribute("aria-pressed", "false");
    button.dataset.key = choice.key;
    button.onclick = () => choose(i, choice);
  }
  return field;
}

function choose(i, choice) {
  if (busy || page.dataset.stage !== "work" || i > chosen.length) return;
  if (i === 0) answeredAt = clock.read();
  chosen = [...chosen.slice(0, i), choice.value];
  find(".steps").querySelectorAll("fieldset").forEach((field, at) => {
    field.disabled = at > chosen.length;
    field.querySelectorAll("button").forEach((button) => {
      const pressed = at < chosen.length && steps[at].choices.find((c) => c.key === button.dataset.key).value === chosen[at];
      button.setAttribute("aria-pressed", String(pressed));
    });
  });
  size();
  if (chosen.length === steps.length) {
    clock.stop();
    ask("rate", { number: state.number, choices: chosen, seconds: answeredAt });
  }
}

function pause() {
  if (busy || page.dataset.stage !== "work") return;
  clock.stop();
  cover(["Pause. The clock stands still and the pictures are hidden."], "Go on", () => {
    page.dataset.stage = "work";
    clock.start();
  });
}

function undo() {
  if (!busy && state.number > 0) ask("undo", { number: state.number });
}

async function finish() {
  if (busy) return;
  setBusy(true);
  await server.finish({}).catch(() => undefined);
  page.dataset.stage = "cover";
  find(".words").replaceChildren(make("p", "Thank you. The records are being written; you can close this page."));
  find(".go").hidden = true;
  find(".buttons").hidden = true;
}

// pictures as large as leaves the answers on the screen
function size() {
  const pictures = find(".pictures");
  const count = Math.max(1, state.columns.length);
  const columns = Math.min(3, count);
  const deepest = Math.max(1, ...state.columns.map((column) => column.length));
  const rows = Math.ceil(count / columns) * deepest;
  const bar = find(".steps").offsetHeight;
  find(".work").style.paddingBottom = `${bar + 8}px`;
  const rest = 244 + bar + (state.texts.length ? 180 : 0);
  const side = Math.max(190, Math.min(640, (window.innerHeight - rest) / rows));
  pictures.style.setProperty("--columns", columns);
  pictures.style.setProperty("--side", `${Math.floor(side)}px`);
}

const dialog = find(".zoom");
const large = dialog.querySelector("img");
let view = { x: 0, y: 0, scale: 1, from: null };
function place() { large.style.transform = `translate(calc(-50% + ${view.x}px), calc(-50% + ${view.y}px)) scale(${view.scale})`; }
function enlarge(factor) { view.scale = Math.min(12, Math.max(1, view.scale * factor)); if (view.scale === 1) { view.x = 0; view.y = 0; } place(); }
function zoom(image) { large.src = image.src; large.alt = image.alt; view = { x: 0, y: 0, scale: 1, from: null }; place(); dialog.showModal(); }
dialog.addEventListener("wheel", (event) => { event.preventDefault(); enlarge(event.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
large.addEventListener("pointerdown", (event) => { event.preventDefault(); large.setPointerCapture(event.pointerId); view.from = { x: event.clientX - view.x, y: event.clientY - view.y }; });
large.addEventListener("pointermove", (event) => { if (view.from) { view.x = event.clientX - view.from.x; view.y = event.clientY - view.from.y; place(); } });
large.addEventListener("pointerup", () => { view.from = null; });
dialog.querySelector(".less").onclick = () => enlarge(1 / 1.5);
dialog.querySelector(".more").onclick = () => enlarge(1.5);
dialog.querySelector(".close").onclick = () => dialog.close();
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (dialog.open) {
    if (key === "+" || key === "=") enlarge(1.2);
    if (key === "-") enlarge(1 / 1.2);
    return;
  }
  if (key === "backspace") { event.preventDefault(); undo(); return; }
  if (page.dataset.stage !== "work") return;
  if (key === "p") { pause(); return; }
  for (const [i, step] of steps.entries()) {
    const choice = step.choices.find((one) => one.key === key);
    if (choice) { event.preventDefault(); choose(i, choice); return; }
  }
}
document.addEventListener("keydown", onKey);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clock.stop();
  else if (page.dataset.stage === "work" && clock.shown && !busy) clock.start();
});
window.addEventListener("resize", () => { if (state && page.dataset.stage === "work") size(); });
find(".undo").onclick = undo;
find(".pause").onclick = pause;
ask("look");
