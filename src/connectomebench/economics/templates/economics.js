"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("form");
  const HOUR = 3600;

  // the same as cost() in cost.py
  function cost(merges, splits, a) {
    const looked = [merges / a.merge_precision, splits / a.split_precision];
    const calls = looked.map((n) => n * a.deferred_share * a.votes);
    const seconds = [calls[0] * a.merge_s, calls[1] * a.split_s];
    const candidates = looked[0] + looked[1];
    const modelCalls = calls[0] + calls[1];
    const modelHours = (seconds[0] + seconds[1]) / HOUR;
    const accepted = [merges, splits].map((n, i) => Math.min(looked[i], (n * a.recall) / a.accepted_precision));
    const checks = (accepted[0] + accepted[1]) * a.review_share;
    const edits = merges + splits;
    const byHand = edits * (1 - a.recall) * a.by_hand_share;
    const peopleHours = (checks * a.person_s + byHand * a.edit_s) / HOUR;
    const firstHours = (candidates * a.first_s) / HOUR;
    const tokens = a.pricing === "tokens";
    const gpus = tokens ? 0 : a.gpus;
    const price = a.prompt_tokens * a.prompt_usd_million + a.generated_tokens * a.generated_usd_million;
    const modelUsd = tokens ? (modelCalls * price) / 1e6 : modelHours * a.gpus * a.gpu_usd_hour;
    const firstUsd = firstHours * a.first_usd_hour;
    const peopleUsd = peopleHours * a.person_usd_hour;
    const corrected = edits * a.recall + byHand;
    return {
      edits, candidates, model_calls: modelCalls,
      merge_gpu_hours: (seconds[0] / HOUR) * gpus, split_gpu_hours: (seconds[1] / HOUR) * gpus,
      model_hours: modelHours, gpu_hours: modelHours * gpus, first_hours: firstHours, checks, people_hours: peopleHours,
      corrected, left: edits - corrected, model_usd: modelUsd, first_usd: firstUsd, people_usd: peopleUsd,
      total_usd: modelUsd + firstUsd + peopleUsd,
    };
  }

  // numpy's linear interpolation
  function quantile(sorted, q) {
    const place = (sorted.length - 1) * q;
    const low = Math.floor(place);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
  }

  function estimate(totals, a, changes) {
    const changed = { ...a, ...changes };
    const value = cost(totals.merges, totals.splits, changed);
    const usd = totals.draws.map(([m, s]) => cost(m, s, changed).total_usd).sort((x, y) => x - y);
    const bounds = usd.length
      ? [Math.min(quantile(usd, 0.025), value.total_usd), Math.max(quantile(usd, 0.975), value.total_usd)]
      : null;
    return { value, bounds };
  }

  // as Python rounds halves: to the even neighbour
  function whole(x) {
    const low = Math.floor(x);
    const rounded = x - low === 0.5 ? low + (low % 2) : Math.round(x);
    return rounded.toLocaleString("en-US");
  }

  function line({ value, bounds }) {
    const interval = bounds ? ` [${whole(bounds[0])} to ${whole(bounds[1])}]` : "";
    const left = (100 * value.left) / Math.max(value.edits, 1e-12);
    return `$${whole(value.total_usd)}${interval}; ${whole(value.candidates)} places, ${whole(value.gpu_hours)} GPU-hours, ` +
      `${whole(value.people_hours)} hours of people, ${whole(left)}% of errors left`;
  }

  function read() {
    const a = {};
    for (const one of data.assumptions) {
      const field = form.elements[one.name];
      if (one.name === "pricing") { a[one.name] = field.value; continue; }
      const value = field.value.trim() === "" ? NaN : Number(field.value);
      if (!Number.isFinite(value) || value < one.low || (one.high !== null && value > one.high)) {
        const limits = one.high === null ? `at least ${one.low}` : `between ${one.low} and ${one.high}`;
        throw new Error(`${one.name} must be a number, ${limits}; costs are those of the last values that could be read`);
      }
      a[one.name] = value;
    }
    return a;
  }

  function update() {
    const problem = document.getElementById("problem");
    let a;
    try { a = read(); } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      return;
    }
    problem.hidden = true;
    for (const table of document.querySelectorAll("table.costs")) {
      const totals = data.totals[Number(table.dataset.sample)];
      for (const { name, changes } of data.scenarios) {
        table.querySelector(`[data-scenario="${name}"]`).textContent = line(estimate(totals, a, changes));
      }
    }
    for (const one of data.assumptions) {
      const changed = a[one.name] !== one.value;
      document.querySelector(`[data-origin="${one.name}"]`).textContent = changed ? "changed on this page" : one.origin;
    }
    document.getElementById("yaml").value = data.assumptions.map((one) => `${one.name}: ${a[one.name]}`).join("\n") + "\n";
  }

  form.addEventListener("input", update);
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
  window.economics = { cost, estimate, data };
})();
