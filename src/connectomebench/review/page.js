let viewer = null;
sender.reviewer = props.reviewer;

function cover(paragraphs, button, then, wrong = "", askName = false, end = false) {
  page.dataset.stage = "cover";
  find(".words").replaceChildren(...paragraphs.map((text) => make("p", text)));
  find(".wrong").textContent = wrong;
  find(".who").hidden = !askName;
  find(".end").hidden = !end;
  const go = find(".go");
  go.hidden = !button;
  go.textContent = button;
  go.onclick = then;
  (askName ? find(".who input") : button ? go : find(".end")).focus();
}

function welcome(wrong = "") {
  cover([
    "Each question shows a proposed edit: a merge of two segments, or a cut of one. The most valuable comes first; accepting "
    + "one changes what is left.",
    "Colours are the same in the pictures and in 3D. Drag to turn the 3D view, wheel or pinch to zoom; 1, 2 and 3 look from "
    + "the front, the side and the top.",
    "Every decision is on disk at once, and can be taken back. What the model says is shown after your decision.",
  ], "Start", begin, wrong, !props.reviewer);
}

function begin() {
  if (!props.reviewer) {
    const name = find(".who input").value.trim();
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$/.test(name)) {
      welcome("Give a name of up to 40 letters, digits, '.', '_' and '-'.");
      return;
    }
    sender.reviewer = name;
  }
  ask("look");
}

function percent(value) { return `${Math.round(100 * value)}%`; }

async function draw() {
  const { progress, item } = state;
  find(".progress").textContent = `${progress.decided} of ${progress.total} decided, ${progress.accepted} accepted`
    + (progress.skipped ? `, ${progress.skipped} skipped` : "");
  const { kappa, n } = progress.kappa;
  find(".kappa").textContent = n === 0 ? "" : kappa === null ? `kappa with the model: not yet (${n})` : `kappa with the model ${kappa.toFixed(2)} (${n})`;
  find(".bar div").style.width = `${progress.total ? 100 * progress.decided / progress.total : 100}%`;
  find(".undo").disabled = !progress.undoable;
  find(".last").textContent = [state.note, lastLine(state.last)].filter(Boolean).join(" ");
  if (!item) {
    clock.stop();
    const words = ["Nothing is left to decide."];
    if (progress.skipped) words[0] = `Nothing is left but the ${progress.skipped} that you skipped.`;
    words.push(find(".last").textContent);
    cover(words.filter(Boolean), progress.skipped ? "Look at them again" : "", () => ask("again"), "", false, true);
    return;
  }
  await open(item);
}

function lastLine(last) {
  if (!last) return "";
  if (last.decision === "skip") return "Last: skipped.";
  const model = last.confidence === null ? "" : `; the model said ${percent(last.confidence)}`;
  const said = `Last: ${last.decision === "accept" ? "accepted" : "rejected"}${model}.`;
  if (last.before_by) return `${said} ${last.before_by} decided it before (${last.verdict}), which counts; yours is kept.`;
  return last.refused ? `${said} It was not applied: ${last.refused}.` : said;
}

async function open(item) {
  find(".question").textContent = item.question;
  await drawColumns(item.columns);
  const facts = find(".facts");
  facts.replaceChildren();
  if (item.changed) make("b", "Other edits have changed these objects since the pictures were drawn. ", facts);
  facts.append(`${item.operation === "merge" ? "Objects" : "Object"} ${item.objects.join(" and ")} at ${item.place} nm; expected gain ${item.value.toPrecision(2)} bits. `);
  if (item.neuroglancer) {
    const link = make("a", "Open in Neuroglancer", facts);
    link.href = item.neuroglancer;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  page.dataset.edit = item.edit_id;
  await showWork(item.seconds);
  const holder = find(".scene");
  holder.hidden = !item.scene;
  if (!item.scene) return;
  if (!viewer) {
    const { openViewer } = await import(new URL("viewer/viewer.js", document.baseURI).href);
    viewer = openViewer(make("div", undefined, holder));
    page.viewer = viewer;
  }
  await viewer.show({ scene: item.scene, planes: item.planes }).catch(() => { holder.hidden = true; });
}

function decide(decision) {
  if (busy || page.dataset.stage !== "work") return;
  clock.stop();
  ask("decide", { edit_id: state.item.edit_id, decision, seconds: clock.total });
}

function undo() {
  if (!busy && state?.progress.undoable) { clock.stop(); ask("undo"); }
}

async function finish() {
  if (busy) return;
  setBusy(true);
  // a program that ends may be gone before it answers
  const answer = await server.stop({}).catch(() => (props.ends ? {} : { error: "The program does not answer; every decision is kept." }));
  if (answer.error) cover([], "Go on", () => ask("look"), answer.error, false, true);
  else {
    cover([props.ends
      ? "Thank you. Edits and summary are being written; you can close this page."
      : "Thank you. Edits and summary are written; you can close this page, or go on."], props.ends ? "" : "Go on", () => ask("look"));
    find(".end").hidden = true;
    find(".buttons").hidden = props.ends;
  }
  setBusy(false);
}

// pictures as large as leaves everything on the screen
function size() {
  const rows = Math.max(1, ...(state?.item?.columns ?? []).map((column) => column.length));
  const rest = 250 + 26 * rows;
  const side = Math.max(150, Math.min(420, (window.innerHeight - rest) / rows));
  find(".pictures").style.setProperty("--side", `${Math.floor(side)}px`);
}

onKey((key, event) => {
  if (dialog.open) return;
  if (event.target instanceof HTMLInputElement) { if (key === "enter") begin(); return; }
  if (key === "backspace" || key === "u") { event.preventDefault(); undo(); return; }
  if (page.dataset.stage !== "work") return;
  const decision = { a: "accept", y: "accept", r: "reject", n: "reject", s: "skip" }[key];
  if (decision) { event.preventDefault(); decide(decision); }
  const view = { 1: "front", 2: "side", 3: "top" }[key];
  if (view) viewer?.look(view);
});
for (const decision of ["accept", "reject", "skip"]) find(`.${decision}`).onclick = () => decide(decision);
find(".undo").onclick = undo;
find(".stop").onclick = () => { clock.stop(); cover(["Everything is kept. Go on, or finish to write edits and summary" + (props.ends ? " and end the program for everybody." : ".")], "Go on", () => ask("look"), "", false, true); };
find(".end").onclick = finish;
document.title = props.title;
welcome();
