// Draws one coordinate of one probe per preset: both engines and the yardstick. Colours come from the style sheet.
"use strict";
(() => {
  const { presets } = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const charts = [...document.querySelectorAll(".chart")].map((element) => {
    const name = element.dataset.preset;
    const probe = document.querySelector(`[data-probe="${name}"]`);
    const channel = document.querySelector(`[data-channel="${name}"]`);
    return { element, probes: presets[name], probe, channel };
  });

  // The coordinate in which the two engines are farthest apart for its motion comes first.
  function apart(trace) {
    let most = 0, low = Infinity, high = -Infinity;
    trace.a.forEach((a, i) => {
      most = Math.max(most, Math.abs(a - trace.b[i]));
      low = Math.min(low, a);
      high = Math.max(high, a);
    });
    return most / Math.max(high - low, 1e-3);
  }

  function fill(chart) {
    const traces = chart.probes[chart.probe.value];
    const names = Object.keys(traces);
    chart.channel.replaceChildren(...names.map((name) => new Option(name, name)));
    chart.channel.value = names.reduce((best, name) => (apart(traces[name]) > apart(traces[best]) ? name : best), names[0]);
  }

  function draw(chart) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    const trace = chart.probes[chart.probe.value][chart.channel.value];
    const line = (key, color, dash, width) => ({
      x: trace.t, y: trace[key], type: "scatter", mode: "lines", line: { color: colour(color), dash, width },
      hovertemplate: "%{y:.4g} " + trace.unit + "<extra></extra>",
    });
    const axis = { gridcolor: colour("grid"), zeroline: false, linecolor: colour("grid"), tickfont: { color: colour("muted") } };
    const title = (text) => ({ text, font: { color: colour("muted"), size: 13 }, standoff: 8 });
    return Plotly.react(
      chart.element,
      [line("heavier", "control", "dot", 1.75), line("a", "c0", "solid", 2.75), line("b", "c1", "dash", 2.25)],
      {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: false,
        font: { family: "system-ui, sans-serif", size: 13, color: colour("ink") },
        margin: { l: 64, r: 12, t: 12, b: 46 }, hovermode: "x unified",
        hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
        xaxis: { ...axis, title: title("time (s)"), showgrid: false, ticks: "outside", tickcolor: colour("grid") },
        yaxis: { ...axis, title: title(`${chart.channel.value} (${trace.unit})`) },
      },
      { displayModeBar: false, responsive: true, doubleClick: false },
    );
  }

  for (const chart of charts) {
    fill(chart);
    chart.probe.addEventListener("change", () => (fill(chart), draw(chart)));
    chart.channel.addEventListener("change", () => draw(chart));
  }
  dark.addEventListener("change", () => charts.forEach(draw));
  (function next(i) {
    if (i < charts.length) setTimeout(() => draw(charts[i]).then(() => next(i + 1)));
  })(0);
})();
