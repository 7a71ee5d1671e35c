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
    const button = event.target.closest && event.target.closest(".cb-zoom");
    if (!button) return;
    if (!dialog) makeDialog();
    const small = button.querySelector("img"), large = dialog.querySelector("img");
    large.src = small.src;
    large.alt = small.alt;
    dialog.querySelector("span").textContent = small.alt;
    dialog.showModal();
    dialog.fit();
  });

  // what follows an answer comes into sight; its button is hidden now, so the focus goes on to the next one
  window.cbGoOn = (selector, see) => setTimeout(() => {
    const button = document.querySelector(selector);
    const seen = document.querySelector(see);
    if (seen) seen.scrollIntoView({ block: "nearest" });
    if (button && (document.activeElement === document.body || !document.activeElement.offsetParent)) button.focus({ preventScroll: true });
  }, 60);

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
