// Draws the learning curves of the page. Figures name their colours ("@c0", "@ink/0.15"); the style sheet holds them.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, responsive: true, doubleClick: false };
  const charts = [...document.querySelectorAll(".chart")].map((element) => ({
    element,
    card: element.closest(".target"),
    views: figures[element.dataset.target],
    view: Object.keys(figures[element.dataset.target])[0],
    hidden: new Set(),
  }));

  function colour(name, style) {
    const [variable, alpha] = name.slice(1).split("/");
    const hex = style.getPropertyValue("--" + variable).trim();
    if (!alpha) return hex;
    const part = (i) => parseInt(hex.slice(i, i + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${alpha})`;
  }

  function themed(node, style) {
    if (typeof node === "string") return node[0] === "@" ? colour(node, style) : node;
    if (Array.isArray(node)) return node.map((item) => themed(item, style));
    if (node && typeof node === "object")
      return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, themed(item, style)]));
    return node;
  }

  function draw(chart, width) {
    const figure = themed(chart.views[chart.view], getComputedStyle(document.documentElement));
    for (const trace of figure.data) trace.visible = !chart.hidden.has(trace.legendgroup);
    if (width) figure.layout.width = width;
    return Plotly.react(chart.element, figure.data, figure.layout, config);
  }

  for (const chart of charts) {
    for (const button of chart.card.querySelectorAll("[data-view]"))
      button.addEventListener("click", () => {
        chart.view = button.dataset.view;
        for (const other of chart.card.querySelectorAll("[data-view]"))
          other.setAttribute("aria-pressed", String(other === button));
        draw(chart);
      });
    for (const button of chart.card.querySelectorAll("[data-series]"))
      button.addEventListener("click", () => {
        const id = button.dataset.series;
        if (!chart.hidden.delete(id)) chart.hidden.add(id);
        button.setAttribute("aria-pressed", String(!chart.hidden.has(id)));
        draw(chart);
      });
  }

  const drawAll = (width) => charts.forEach((chart) => draw(chart, width));
  dark.addEventListener("change", () => drawAll());
  // Paper is white and 180 mm wide, whatever the screen is.
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.print = "";
    drawAll(680);
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.print;
    drawAll();
  });
  // The text shows first, then one chart at a time.
  (function next(i) {
    if (i < charts.length) setTimeout(() => draw(charts[i]).then(() => next(i + 1)));
  })(0);
})();
