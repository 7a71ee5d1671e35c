// Keys, large pictures and focus. Buttons say their keys in brackets at the end of their text: "Yes (y)".
(() => {
  const keyed = () => [...document.querySelectorAll("#cb-try button.cb-keyed")];
  const usable = (button) => button.offsetParent !== null && !button.disabled;
  const keysOf = (button) => (button.textContent.match(/\(([^()]*)\)\s*$/) || ["", ""])[1].split(" or ");
  const names = { ArrowRight: "→" };

  // a touch screen has no keys to hint at
  const touch = matchMedia("(hover: none) and (pointer: coarse)").matches;
  const unhint = () => keyed().forEach((button) => {
    const walker = document.createTreeWalker(button, NodeFilter.SHOW_TEXT);
    for (let text; (text = walker.nextNode());) if (/\s\([^()]*\)\s*$/.test(text.data)) text.data = text.data.replace(/\s\([^()]*\)\s*$/, "");
  });
  if (touch) new MutationObserver(unhint).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (document.querySelector("dialog[open]")) return;
    const at = event.target;
    if (at.closest && at.closest("input:not([type=checkbox]), textarea, select, [role=tab], [role=listbox], [contenteditable=true]")) return;
    const on = document.querySelector("#cb-keys input");
    if (on && !on.checked) return;
    const key = names[event.key] || event.key.toLowerCase();
    const button = keyed().filter(usable).find((one) => keysOf(one).includes(key));
    if (!button) return;
    event.preventDefault();
    button.click();
  });

  let dialog;
  const makeDialog = () => {
    dialog = document.createElement("dialog");
    dialog.className = "cb-large";
    dialog.innerHTML =
      '<div class="cb-bar"><span></span><button type="button" data-by="0.67" aria-label="Smaller">−</button>' +
      '<button type="button" data-by="1.5" aria-label="Larger">+</button>' +
      '<button type="button" data-close>Close</button></div>' +
      '<div class="cb-stage" tabindex="0" role="region" aria-label="Picture; scroll to move"><img></div>';
    document.body.append(dialog);
    const stage = dialog.querySelector(".cb-stage"), image = dialog.querySelector("img");
    let scale = 1;
    const resize = (to) => {
      const before = scale;
      scale = Math.min(8, Math.max(1, to));
      const x = (stage.scrollLeft + stage.clientWidth / 2) / before, y = (stage.scrollTop + stage.clientHeight / 2) / before;
      image.style.width = `${scale * Math.min(stage.clientWidth, stage.clientHeight)}px`;
      stage.scrollTo(x * scale - stage.clientWidth / 2, y * scale - stage.clientHeight / 2);
    };
    dialog.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (event.target === dialog || (button && "close" in button.dataset)) dialog.close();
      else if (button) resize(scale * Number(button.dataset.by));
    });
    stage.addEventListener("wheel", (event) => { event.preventDefault(); resize(scale * (event.deltaY < 0 ? 1.2 : 1 / 1.2)); }, { passive: false });
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "+" || event.key === "=") resize(scale * 1.5);
      if (event.key === "-") resize(scale / 1.5);
    });
    dialog.fit = () => { scale = 1; resize(1); stage.focus(); };
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest(".cb-zoom, .cb-enlarge:not(.cb-undo)");
    if (!button) return;
    if (!dialog) makeDialog();
    const small = button.querySelector("img") || button.closest("figure").querySelector("img"), large = dialog.querySelector("img");
    large.src = small.src;
    large.alt = small.alt;
    dialog.querySelector("span").textContent = small.alt;
    dialog.showModal();
    dialog.fit();
  });

  // what follows an answer comes into sight; its button is hidden now, so the focus goes on to the next one
  window.cbGoOn = (selector, see) => setTimeout(() => {
    const button = [...document.querySelectorAll(selector)].find((one) => one.offsetParent);
    const seen = document.querySelector(see);
    if (seen) seen.scrollIntoView({ block: "nearest" });
    if (button && (document.activeElement === document.body || !document.activeElement.offsetParent)) button.focus({ preventScroll: true });
  }, 60);

  // answers that are places or masks: chosen or drawn in the pictures, kept in the field of the answer
  const field = () => document.querySelector("#cb-typed textarea, #cb-typed input");
  const write = (text) => {
    const one = field();
    if (!one) return;
    one.value = text;
    one.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const draw = (layer, name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    layer.append(made);
  };
  const shareOf = (event, canvas) => {
    const box = canvas.getBoundingClientRect();
    const shares = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return shares.map((share) => Math.round(1e4 * Math.min(1, Math.max(0, share))) / 1e4);
  };

  const choosing = () => document.querySelector("#cb-try .cb-places[data-nodes]");
  const onView = (point, canvas) => JSON.parse(canvas.dataset.frame).map((axis) => 0.5 + axis.reduce((sum, a, i) => sum + a * point[i], 0));
  // what the field holds: nodes and points; other ways to write an answer are the server's to read
  const items = () => (field()?.value || "").split(";").map((part) => {
    const node = part.match(/^\s*(?:node\s*#?|#)?\s*(\d{1,4})\s*$/i);
    const numbers = part.match(/[+-]?\d+(?:\.\d+)?/g) || [];
    return node ? { node: Number(node[1]) } : numbers.length === 3 ? { point: numbers.map(Number) } : {};
  });
  const showChosen = () => {
    const place = choosing();
    if (!place) return;
    const nodes = JSON.parse(place.dataset.nodes), given = items();
    const points = given.map((one) => one.point || nodes[one.node]).filter(Boolean);
    place.querySelectorAll(".cb-canvas").forEach((canvas) => {
      const layer = canvas.querySelector(".cb-marks");
      layer.replaceChildren();
      for (const point of points) {
        const [x, y] = onView(point, canvas);
        if (x >= 0 && x <= 1 && y >= 0 && y <= 1) draw(layer, "circle", { class: "cb-mark-given", cx: 100 * x, cy: 100 * y, r: 3.6 });
      }
    });
    document.querySelectorAll("#cb-try .cb-node").forEach((button) => button.setAttribute("aria-pressed", String(given.some((one) => one.node === Number(button.dataset.node)))));
  };
  const choose = (number) => {
    const before = items().map((one) => one.node).filter(Number.isInteger);
    const now = before.includes(number) ? before.filter((one) => one !== number) : [...before, number];
    write(now.slice(-Number(choosing().dataset.wanted)).map((one) => `node ${one}`).join("; "));
  };
  document.addEventListener("click", (event) => {
    const place = choosing();
    if (!place || !event.target.closest) return;
    const button = event.target.closest(".cb-node"), canvas = event.target.closest(".cb-places .cb-canvas");
    if (button) choose(Number(button.dataset.node));
    if (!canvas) return;
    const nodes = JSON.parse(place.dataset.nodes), at = shareOf(event, canvas);
    const near = JSON.parse(canvas.dataset.seen).map((number) => {
      const [x, y] = onView(nodes[number], canvas);
      return [Math.hypot(x - at[0], y - at[1]), number];
    }).sort((a, b) => a[0] - b[0])[0];
    if (near && near[0] < 0.12) choose(near[1]);
  });

  // loops of each sample: { view, points }
  const drawn = new WeakMap();
  const sample = () => document.querySelector("#cb-try .cb-loops");
  const showLoops = () => {
    const place = sample(), loops = (place && drawn.get(place)) || [];
    place?.querySelectorAll(".cb-canvas").forEach((canvas) => {
      const layer = canvas.querySelector(".cb-marks");
      layer.replaceChildren();
      for (const loop of loops) if (loop.view === canvas.dataset.view) draw(layer, "path", { class: "cb-loop", d: `M${loop.points.map((point) => point.join(" ")).join("L")}Z` });
    });
  };
  const keepLoops = () => {
    const sent = {}, loops = drawn.get(sample()) || [];
    for (const { view, points } of loops) (sent[view] ??= []).push(points);
    write(loops.length ? JSON.stringify(sent) : "");
    document.querySelector("#cb-try .cb-undo").disabled = loops.length === 0;
    showLoops();
  };
  let open = null;
  document.addEventListener("pointerdown", (event) => {
    const canvas = event.target.closest && event.target.closest(".cb-loops .cb-canvas");
    if (!canvas || open || event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    open = { view: canvas.dataset.view, canvas, points: [shareOf(event, canvas)] };
    drawn.set(sample(), [...(drawn.get(sample()) || []), open]);
  });
  document.addEventListener("pointermove", (event) => {
    if (!open) return;
    const [x, y] = shareOf(event, open.canvas), [left, upper] = open.points[open.points.length - 1];
    if (Math.hypot(x - left, y - upper) < 0.005) return;
    open.points.push([x, y]);
    showLoops();
  });
  const close = () => {
    if (!open) return;
    const place = sample();
    // a click is no loop
    if (place && open.points.length < 3) drawn.set(place, drawn.get(place).filter((loop) => loop !== open));
    open = null;
    if (place) keepLoops();
  };
  document.addEventListener("pointerup", close);
  document.addEventListener("pointercancel", close);
  document.addEventListener("click", (event) => {
    const place = sample();
    if (!place || !event.target.closest || !event.target.closest(".cb-undo")) return;
    drawn.set(place, (drawn.get(place) || []).slice(0, -1));
    keepLoops();
  });
  document.addEventListener("input", (event) => { if (event.target === field()) showChosen(); });

  // 3D views: the place holds its scene; the viewer is asked for with the first one
  const viewers = new Map();
  const open3d = () => {
    for (const [place, viewer] of viewers) if (!place.isConnected) { viewer.dispose(); viewers.delete(place); }
    document.querySelectorAll(".cb-3d[data-scene]").forEach(async (place) => {
      const bytes = Uint8Array.from(atob(place.dataset.scene), (one) => one.charCodeAt(0));
      const planes = JSON.parse(place.dataset.planes || "{}");
      place.removeAttribute("data-scene");
      place.removeAttribute("data-planes");
      const { openViewer } = await import(new URL("viewer/viewer.js", document.baseURI).href);
      if (!place.isConnected) return;
      const viewer = openViewer(place.querySelector("div"));
      viewers.set(place, viewer);
      await viewer.show({ scene: bytes.buffer, planes });
    });
  };
  new MutationObserver(open3d).observe(document.documentElement, { childList: true, subtree: true });

  // what changes after an answer is read out; Gradio makes these elements anew when tabs change
  const live = () => document.querySelectorAll("#cb-truth, #cb-score").forEach((one) => one.setAttribute("aria-live", "polite"));
  new MutationObserver(live).observe(document.documentElement, { childList: true, subtree: true });
})();
