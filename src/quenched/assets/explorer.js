// Sliders choose a block of the numbers that the page holds; what they choose is drawn as theory and experiment.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const chart = element("chart"), x = data.x.values, length = x.length;
  const state = { shown: 0, at: data.sliders.map((slider) => slider.start), logX: data.x.log, logY: data.observables[0].log, hold: true };
  const dashes = ["solid", "dash", "dashdot"];

  // The numbers of one curve at the sliders' values: arrays are flat over (sliders..., curve, x).
  function row(values, curves, curve) {
    const block = data.sliders.reduce((place, slider, k) => place * slider.values.length + state.at[k], 0);
    const start = (block * curves + curve) * length;
    return values ? values.slice(start, start + length) : null;
  }

  function tracesOf(one) {
    const single = one.curves.length === 1 && !one.curves[0];
    return one.curves.flatMap((name, curve) => {
      const numbers = (key) => row(one[key], one.curves.length, curve);
      const theory = numbers("theory"), trusted = numbers("trusted"), mean = numbers("mean");
      const error = numbers("error"), sound = numbers("sound");
      const where = (values, flags, wanted) => values
        ? [...values.keys()].filter((k) => values[k] !== null && Boolean(flags ? flags[k] : 1) === wanted) : [];
      const color = data.colours[curve % data.colours.length];
      const dash = dashes[Math.floor(curve / data.colours.length) % dashes.length];
      const head = name ? `<b>${name}</b><br>` : "";
      const theoryHover = head + "theory %{y:.5g}<br>at %{x:.4g}<extra></extra>";
      const firm = where(theory, trusted, true), doubtful = where(theory, trusted, false);
      const line = theory.map((value, k) => (trusted && !trusted[k] ? null : value));
      const alone = (k) => (line[k - 1] ?? null) === null && (line[k + 1] ?? null) === null;  // no line would show it
      const base = { type: "scatter", legendgroup: name || "theory", showlegend: false };
      const points = (flag, extra) => {
        const chosen = where(mean, sound, flag);
        return {
          ...base, mode: "markers", name: single ? "experiment" : name, legendgroup: single ? "experiment" : name,
          x: chosen.map((k) => x[k]), y: chosen.map((k) => mean[k]), customdata: chosen.map((k) => error[k] ?? 0),
          error_y: { type: "data", array: chosen.map((k) => error[k] ?? 0), color, thickness: 1.2, width: 3 },
          hovertemplate: head + "experiment %{y:.5g} ± %{customdata:.2g}<br>at %{x:.4g}<extra></extra>", ...extra,
        };
      };
      return [
        {
          ...base, mode: firm.some(alone) ? "lines+markers" : "lines", name: name || "theory", showlegend: true, x, y: line,
          line: { color, dash, width: 2.2 }, hovertemplate: theoryHover,
          marker: { color, symbol: "line-ew", size: line.map((_, k) => (alone(k) ? 9 : 0)), line: { color, width: 2.2 } },
        },
        {
          ...base, mode: "lines+markers", name: name || "theory", x: doubtful.map((k) => x[k]), y: doubtful.map((k) => theory[k]),
          line: { color, dash: "dot", width: 1.2 }, marker: { color, symbol: "circle-open", size: 7 },
          hovertemplate: "not to be trusted<br>" + theoryHover,
        },
        points(true, { showlegend: single && Boolean(mean), marker: { color, size: 8 } }),
        points(false, { marker: { color, size: 8, symbol: "circle-open" } }),
      ];
    });
  }

  // The range of an axis that shows all of these values.
  function range(values, log) {
    const kept = values.filter((v) => v !== null && (!log || v > 0)).map((v) => (log ? Math.log10(v) : v));
    const low = kept.reduce((a, b) => Math.min(a, b), Infinity), high = kept.reduce((a, b) => Math.max(a, b), -Infinity);
    const pad = 0.05 * (high - low) || 0.1;
    return [low - pad, high + pad];
  }

  function draw() {
    const one = data.observables[state.shown];
    const logX = state.logX && data.x.positive, logY = state.logY && one.positive;
    const traces = tracesOf(one);
    const reach = (values, errors) => values.flatMap((v, k) => (v === null ? [] : [v - (errors[k] ?? 0), v + (errors[k] ?? 0)]));
    const numbers = state.hold
      ? [...one.theory, ...reach(one.mean || [], one.error)]
      : traces.flatMap((trace) => (trace.error_y ? reach(trace.y, trace.error_y.array) : trace.y));
    const looks = [one.name, logX, logY, state.hold].join();
    quenched.draw(chart, traces, {
      uirevision: one.name,  // what readers hid stays hidden while sliders move
      xaxis: { title: { text: data.x.title }, type: logX ? "log" : "linear", range: range(x, logX), uirevision: looks },
      yaxis: { title: { text: one.title }, type: logY ? "log" : "linear", range: range(numbers, logY), uirevision: looks },
      showlegend: true, legend: { itemsizing: "trace" },
    });
    data.sliders.forEach((slider, k) => {
      element(`value-${k}`).textContent = slider.values[state.at[k]];
      element(`slider-${k}`).setAttribute("aria-valuetext", slider.values[state.at[k]]);
    });
    const measured = traces.some((trace) => trace.error_y && trace.x.length);
    element("status").textContent = one.mean && !measured ? "No experiment was made at these values." : "";
    for (const [id, pressed, possible] of [["log-x", logX, data.x.positive], ["log-y", logY, one.positive], ["hold", state.hold, true]]) {
      element(id).setAttribute("aria-pressed", pressed);
      element(id).hidden = !possible;
    }
  }

  data.sliders.forEach((slider, k) => {
    element(`slider-${k}`).addEventListener("input", (event) => { state.at[k] = Number(event.target.value); draw(); });
  });
  element("observable").addEventListener("change", (event) => {
    state.shown = Number(event.target.value);
    state.logY = data.observables[state.shown].log;
    draw();
  });
  for (const [id, key] of [["log-x", "logX"], ["log-y", "logY"], ["hold", "hold"]]) {
    element(id).addEventListener("click", () => { state[key] = !state[key]; draw(); });
  }
  element("observable").hidden = data.observables.length < 2;
  element("hold").hidden = !data.sliders.length;
  draw();
})();
