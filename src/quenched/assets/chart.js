// One look for all charts: `quenched.draw(node, traces, layout)`, used by the explorer and by the report.
"use strict";
const quenched = (() => {
  const touch = matchMedia("(pointer: coarse)").matches;
  const narrow = matchMedia("(max-width: 600px)").matches;
  const config = {
    responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover", doubleClick: "reset",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  const axis = {
    automargin: true, showline: true, linecolor: "#444", ticks: "outside", tickcolor: "#444", ticklen: 4,
    gridcolor: "#ececec", zeroline: false, exponentformat: "power", minexponent: 4,
  };
  // Logarithmic axes are marked at 1, 2 and 5 where they span few decades, and else at powers of ten.
  const withAxis = (given) => {
    const made = { ...axis, ...given, title: { standoff: 8, ...given.title } };
    if (given.type !== "log" || given.tickvals) return made;
    made.minor = { ticks: "outside", ticklen: 2, dtick: "D1" };
    const [low, high] = given.range;
    if (high - low > 2.4) return { ...made, tickfont: { size: 11 }, ...(high - low < 9 ? { dtick: 1 } : {}) };
    made.tickvals = [];
    for (let k = Math.floor(low); k <= high; k += 1) {
      made.tickvals.push(...[1, 2, 5].map((digit) => Number(`${digit}e${k}`)));
    }
    made.ticktext = made.tickvals.map((value) => String(value));
    return made;
  };

  function draw(node, traces, layout) {
    const whole = {
      font: { family: "system-ui, 'DejaVu Sans', sans-serif", size: narrow ? 12 : 13, color: "#222" },
      margin: { l: 8, r: 14, t: 12, b: 8 }, hovermode: "closest", dragmode: touch ? false : "zoom",
      hoverlabel: { bgcolor: "#fff", bordercolor: "#888", font: { size: 13, color: "#222" }, align: "left" },
      ...layout, xaxis: withAxis(layout.xaxis), yaxis: withAxis(layout.yaxis),
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", ...layout.legend },
    };
    return Plotly.react(node, traces, whole, config);
  }

  // Draw what is told in the page's JSON once it comes near the screen.
  function drawWhenSeen(node) {
    const { traces, layout } = JSON.parse(node.nextElementSibling.textContent);
    draw(node, traces, layout);
  }
  function watch() {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) {
          seen.unobserve(entry.target);
          drawWhenSeen(entry.target);
        }
      }
    }, { rootMargin: "400px" });
    document.querySelectorAll(".chart[data-lazy]").forEach((node) => seen.observe(node));
  }
  return { draw, watch };
})();
