// Draws the charts of the page, and shows what is chosen. Figures name their colours ("@c0", "@ink/0.15"); the style
// sheet holds them.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, responsive: true, doubleClick: false };
  const all = (query, within = document) => [...within.querySelectorAll(query)];

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

  // Learning curves: buttons choose the view and hide lines.
  function curves(element) {
    const card = element.closest(".target");
    const views = figures.curves[element.dataset.target];
    const hidden = new Set();
    let view = Object.keys(views)[0];
    const chart = {
      element,
      figure() {
        const { data, layout } = views[view];
        return { data: data.map((trace) => ({ ...trace, visible: !hidden.has(trace.legendgroup) })), layout };
      },
    };
    for (const button of all("[data-view]", card))
      button.addEventListener("click", () => {
        view = button.dataset.view;
        for (const other of all("[data-view]", card)) other.setAttribute("aria-pressed", String(other === button));
        draw(chart);
      });
    for (const button of all("[data-series]", card))
      button.addEventListener("click", () => {
        const id = button.dataset.series;
        if (!hidden.delete(id)) hidden.add(id);
        button.setAttribute("aria-pressed", String(!hidden.has(id)));
        draw(chart);
      });
    return chart;
  }

  // Signals over time: one panel per arm, as many beside each other as have room.
  function signals(element) {
    const target = element.dataset.signals;
    const { figure, choices, first } = figures.signals[target];
    const panels = figure.layout.annotations.length;
    const of = (kind) => all(`[data-${kind}]`).find((one) => one.dataset[kind] === target);
    const select = of("choices");
    const chart = {
      element,
      figure(width) {
        const { y } = choices[select.value];
        const columns = Math.min(panels, Math.max(2, Math.floor((width || element.clientWidth) / 300)));
        const rows = Math.ceil(panels / columns);
        const layout = { ...figure.layout, grid: { rows, columns, pattern: "independent", xgap: 0.16, ygap: 0.34 } };
        layout.height = 60 + 170 * rows;
        element.style.height = `${layout.height}px`;
        return { data: figure.data.map((trace, i) => ({ ...trace, y: y[i] || [], visible: Boolean(y[i]) })), layout };
      },
    };
    select.value = first;
    select.addEventListener("change", () => {
      const { label, says, went } = choices[select.value];
      of("says").replaceChildren(Object.assign(document.createElement("b"), { textContent: label }), " " + says);
      of("went").textContent = went;
      draw(chart);
    });
    return chart;
  }

  function draw(chart, width) {
    const { data, layout } = themed(chart.figure(width), getComputedStyle(document.documentElement));
    if (width) layout.width = width;
    return Plotly.react(chart.element, data, layout, config);
  }

  for (const select of all("[data-switch]"))
    select.addEventListener("change", () => {
      for (const part of all("[data-shown]", select.closest("[data-switched]")))
        part.hidden = part.dataset.shown !== select.value;
    });

  const charts = all(".chart").map((element) => (element.dataset.signals ? signals(element) : curves(element)));
  const drawAll = (width) => charts.forEach((chart) => draw(chart, width));
  dark.addEventListener("change", () => drawAll());
  // Paper is white and 180 mm wide, whatever the screen is, and nothing can be unfolded on it.
  const folded = all("details:not([open])");
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.print = "";
    for (const part of folded) part.dataset.open = part.open;
    for (const part of folded) part.open = true;
    drawAll(680);
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.print;
    for (const part of folded) part.open = part.dataset.open === "true";
    drawAll();
  });
  // Panels beside each other change in number with the width.
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width || "print" in document.documentElement.dataset) return;
    width = innerWidth;
    for (const chart of charts) if (chart.element.dataset.signals) draw(chart);
  });
  // The text shows first, then one chart at a time.
  (function next(i) {
    if (i < charts.length) setTimeout(() => draw(charts[i]).then(() => next(i + 1)));
  })(0);
})();
