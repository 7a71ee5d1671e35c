// What the pages that show pictures and ask about them have in common; it runs before their own script, which defines
// draw(), size() and cover().
const page = element.querySelector(".page");
const find = (selector) => page.querySelector(selector);
let state = null;
let busy = false;
// sent with every call
const sender = {};

// seconds during which the pictures could be seen
const clock = {
  total: 0, since: null,
  set(total) { this.total = total; this.since = null; },
  start() { if (this.since === null) this.since = performance.now(); },
  stop() { this.total = this.read(); this.since = null; },
  read() { return this.total + (this.since === null ? 0 : (performance.now() - this.since) / 1000); },
};

function make(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function setBusy(value) {
  busy = value;
  page.ariaBusy = value ? "true" : null;
}

// call a function of the server, and draw what it answers
async function ask(name, sent = {}) {
  setBusy(true);
  try {
    const answer = await server[name]({ ...sender, ...sent });
    if (answer.error) {
      clock.stop();
      cover([], "Go on", () => ask("look"), answer.error);
    } else {
      state = answer;
      await draw();
    }
  } catch (error) {
    clock.stop();
    cover([
      `The program that keeps ${props.kept} does not answer, so the last one was not kept; all before it were.`,
      "Start the same command again and open the address that it prints.",
    ], "Try again", () => ask("look"));
  }
  setBusy(false);
}

// a picture with its name; mark and scale bar lie over it, and a button enlarges it
function drawPicture(picture, kind = "button") {
  const figure = make("figure");
  const holder = make(kind, undefined, figure);
  const image = make("img", undefined, holder);
  image.src = picture.source;
  image.alt = picture.name;
  holder.insertAdjacentHTML("beforeend", picture.overlay);
  if (kind === "button") {
    holder.type = "button";
    holder.onclick = () => { large.src = image.src; large.alt = image.alt; dialog.showModal(); };
  }
  make("figcaption", picture.name, figure);
  return figure;
}

// a column of pictures for each plane, all at once
async function drawColumns(pictures, drawOne = drawPicture) {
  const columns = pictures.map((own) => {
    const column = make("div");
    column.className = "plane";
    column.append(...own.map((picture) => drawOne(picture)));
    return column;
  });
  await Promise.all(columns.flatMap((column) => [...column.querySelectorAll("img")])
    .map((image) => image.decode().catch(() => undefined)));
  find(".pictures").replaceChildren(...columns);
}

// nothing can be answered before the pictures are on the screen
async function showWork(seconds) {
  page.dataset.stage = "work";
  size();
  window.scrollTo(0, 0);
  await new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)));
  clock.set(seconds);
  clock.start();
}

function onKey(act) {
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey || event.altKey || event.repeat)) act(event.key.toLowerCase(), event);
  });
}

const dialog = find(".zoom");
const large = dialog.querySelector("img");
dialog.querySelector(".close").onclick = () => dialog.close();
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clock.stop();
  else if (page.dataset.stage === "work" && !busy) clock.start();
});
window.addEventListener("resize", () => { if (page.dataset.stage === "work") size(); });
