const steps = props.steps;
const words = props.words;
let chosen = [];
let firstVisit = true;
const SVG = "http://www.w3.org/2000/svg";
// the step in which one draws, if there is one
const drawing = steps.findIndex((step) => step.views.length > 0);
// loops of the views, in the order in which they were drawn: { view, points }
let loops = [];
let answeredAt = 0;

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
  loops = [];
  find(".question").textContent = state.question;
  await drawColumns(state.columns, drawing >= 0 ? drawCanvas : drawPicture);
  const names = state.texts.length === 2 ? ["Left", "Right"] : ["What was said"];
  find(".texts").replaceChildren(...state.texts.map((text, i) => {
    const article = make("article");
    make("h2", names[i], article);
    make("p", text, article);
    return article;
  }));
  find(".steps").replaceChildren(...steps.map(drawStep));
  find(".progress").textContent = `${state.number + 1} of ${state.total}`;
  await showWork(state.seconds);
  setBusy(false);
}

// a picture to draw loops in, with the mouse, a pen or a finger
function drawCanvas(picture) {
  const figure = drawPicture(picture, "div");
  const canvas = figure.firstChild;
  canvas.className = "canvas";
  canvas.querySelector("img").draggable = false;
  const layer = document.createElementNS(SVG, "svg");
  layer.setAttribute("class", "loops");
  layer.setAttribute("viewBox", "0 0 1 1");
  layer.setAttribute("preserveAspectRatio", "none");
  layer.dataset.view = picture.view;
  canvas.append(layer);
  let points = null;
  const at = (event) => {
    const box = layer.getBoundingClientRect();
    const shares = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return shares.map((share) => Math.round(1e4 * Math.min(1, Math.max(0, share))) / 1e4);
  };
  layer.addEventListener("pointerdown", (event) => {
    if (busy || points || page.dataset.stage !== "work" || event.button !== 0) return;
    event.preventDefault();
    layer.setPointerCapture(event.pointerId);
    points = [at(event)];
    loops.push({ view: picture.view, points });
    showLoops();
  });
  layer.addEventListener("pointermove", (event) => {
    if (!points) return;
    const [x, y] = at(event);
    const [left, upper] = points[points.length - 1];
    if (Math.hypot(x - left, y - upper) < 0.005) return;
    points.push([x, y]);
    showLoops();
  });
  const end = () => {
    if (!points) return;
    // a click is no loop
    if (points.length < 3) loops = loops.filter((loop) => loop.points !== points);
    points = null;
    changeLoops();
  };
  layer.addEventListener("pointerup", end);
  layer.addEventListener("pointercancel", end);
  return figure;
}

function showLoops() {
  for (const layer of find(".pictures").querySelectorAll(".loops")) {
    const own = loops.filter((loop) => loop.view === layer.dataset.view);
    layer.replaceChildren(...own.map((loop) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", `M${loop.points.map((point) => point.join(" ")).join("L")}Z`);
      return path;
    }));
  }
}

// a loop was added or taken back: what was said of the others no longer holds
function changeLoops() {
  showLoops();
  chosen = chosen.slice(0, drawing);
  showChosen();
}

function undoLoop() {
  if (busy || page.dataset.stage !== "work" || !loops.length) return;
  loops.pop();
  changeLoops();
}

function finishLoops() {
  if (!loops.length) return;
  const sent = {};
  for (const { view, points } of loops) (sent[view] ??= []).push(points);
  choose(drawing, { value: JSON.stringify(sent) });
}

function drawLoopButtons(field) {
  const row = make("div", undefined, field);
  for (const [name, key, label, then] of [["undo-loop", "z", "Undo loop", undoLoop], ["done-loops", "Enter", "Done", finishLoops]]) {
    const button = make("button", label, row);
    button.type = "button";
    button.className = name;
    button.disabled = true;
    make("kbd", key, button);
    button.onclick = then;
  }
}

function drawStep(step, i) {
  const field = make("fieldset");
  field.disabled = i > 0;
  make("legend", step.prompt, field);
  if (i === drawing) {
    drawLoopButtons(field);
    return field;
  }
  const row = make("div", undefined, field);
  for (const choice of choicesOf(i)) {
    const button = make("button", choice.text, row);
    button.type = "button";
    if (choice.key !== choice.text) make("kbd", choice.key, button);
    button.setAttribute("aria-pressed", "false");
    button.dataset.key = choice.key;
    button.onclick = () => choose(i, choice);
  }
  return field;
}

// what the row at hand can have for an answer
function choicesOf(i) {
  const values = state.offered[i] ?? [];
  return values.length ? steps[i].choices.filter((choice) => values.includes(choice.value)) : steps[i].choices;
}

function choose(i, choice) {
  if (busy || page.dataset.stage !== "work" || i > chosen.length) return;
  if (i === 0) answeredAt = clock.read();
  chosen = [...chosen.slice(0, i), choice.value];
  showChosen();
  if (chosen.length === steps.length) {
    clock.stop();
    ask("rate", { number: state.number, choices: chosen, seconds: answeredAt });
  }
}

function showChosen() {
  find(".steps").querySelectorAll("fieldset").forEach((field, at) => {
    field.disabled = at > chosen.length;
    if (at === drawing) {
      field.querySelectorAll("button").forEach((button) => { button.disabled = loops.length === 0; });
      field.querySelector(".done-loops").setAttribute("aria-pressed", String(at < chosen.length));
      return;
    }
    field.querySelectorAll("button").forEach((button) => {
      const pressed = at < chosen.length && steps[at].choices.find((c) => c.key === button.dataset.key).value === chosen[at];
      button.setAttribute("aria-pressed", String(pressed));
    });
  });
  size();
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

let view = { x: 0, y: 0, scale: 1, from: null };
function place() { large.style.transform = `translate(calc(-50% + ${view.x}px), calc(-50% + ${view.y}px)) scale(${view.scale})`; }
function enlarge(factor) { view.scale = Math.min(12, Math.max(1, view.scale * factor)); if (view.scale === 1) { view.x = 0; view.y = 0; } place(); }
dialog.addEventListener("close", () => { view = { x: 0, y: 0, scale: 1, from: null }; place(); });
dialog.addEventListener("wheel", (event) => { event.preventDefault(); enlarge(event.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
large.addEventListener("pointerdown", (event) => { event.preventDefault(); large.setPointerCapture(event.pointerId); view.from = { x: event.clientX - view.x, y: event.clientY - view.y }; });
large.addEventListener("pointermove", (event) => { if (view.from) { view.x = event.clientX - view.from.x; view.y = event.clientY - view.from.y; place(); } });
large.addEventListener("pointerup", () => { view.from = null; });
dialog.querySelector(".less").onclick = () => enlarge(1 / 1.5);
dialog.querySelector(".more").onclick = () => enlarge(1.5);

onKey((key, event) => {
  if (dialog.open) {
    if (key === "+" || key === "=") enlarge(1.2);
    if (key === "-") enlarge(1 / 1.2);
    return;
  }
  if (key === "backspace") { event.preventDefault(); undo(); return; }
  if (page.dataset.stage !== "work") return;
  if (key === "p") { pause(); return; }
  if (drawing >= 0 && key === "z") { undoLoop(); return; }
  // on a button, Enter is that button's
  if (drawing >= 0 && key === "enter" && event.target.tagName !== "BUTTON") { event.preventDefault(); finishLoops(); return; }
  for (const i of steps.keys()) {
    const choice = choicesOf(i).find((one) => one.key === key);
    if (choice) { event.preventDefault(); choose(i, choice); return; }
  }
});
find(".undo").onclick = undo;
find(".pause").onclick = pause;
ask("look");
